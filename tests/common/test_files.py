import pytest

from sb3_attnmem.common.files import check_path, new_folder, replacing, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "made" / "report.md"
    write_text(path, "old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old" and unfinished.suffix == ".md" and unfinished.parent == path.parent
    assert path.read_text() == "new" and names(path.parent) == ["report.md"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_half_way_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "report.md"
    write_text(path, "old")
    with pytest.raises(error), replacing(path) as unfinished:
        unfinished.write_text("ne")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["report.md"]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "checkpoint") as unfinished:
        (unfinished / "model.zip").write_text("weights")
        assert not (tmp_path / "checkpoint").exists()
    assert names(tmp_path) == ["checkpoint"] and names(tmp_path / "checkpoint") == ["model.zip"]
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "other") as unfinished:
        (unfinished / "model.zip").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["checkpoint"]


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(FileExistsError, match="exists already"), new_folder(tmp_path / "checkpoint"):
        pass
    assert names(tmp_path) == ["checkpoint"]


@pytest.mark.parametrize("wrong", [None, 3, "", b"model.onnx", ["model.onnx"]])
def test_what_is_no_path_is_refused(wrong):
    with pytest.raises(ValueError, match=r"output=.* must be a path: a string or a pathlib.Path"):
        check_path("output", wrong)


def test_text_and_paths_are_paths(tmp_path):
    assert check_path("output", str(tmp_path)) == check_path("output", tmp_path) == tmp_path
