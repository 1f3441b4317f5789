"""What a study is for, whose files its folder holds, and the storages that it can live in."""

import json
import sqlite3
from pathlib import Path

import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from sb3_attnmem.zoo.tune.storages import StorageAway, open_storage, outage, why
from sb3_attnmem.zoo.tune.studies import MARK, claim_folder, claim_study, task_of

optuna.logging.set_verbosity(optuna.logging.WARNING)
PASSWORD = "correct-horse"


def study_in(path: Path, name: str = "a study") -> optuna.Study:
    return optuna.create_study(study_name=name, storage=open_storage(str(path)), load_if_exists=True)


class TestTask:
    def test_a_study_is_for_one_task(self, tmp_path: Path) -> None:
        task = task_of("rdqn", "CartPole-v1", dict(b=1, a=(2, 3)))
        claim_study(study_in(tmp_path / "study.log"), task)
        claim_study(study_in(tmp_path / "study.log"), task_of("rdqn", "CartPole-v1", dict(a=(2, 3), b=1)))
        others = [
            ("dqn", "CartPole-v1", dict(b=1, a=(2, 3))),
            ("rdqn", "Acrobot-v1", None),
            ("rdqn", "CartPole-v1", None),
        ]
        for other in others:
            with pytest.raises(ValueError, match=r"'a study' is for rdqn on CartPole-v1 with a=\(2, 3\), b=1, not for"):
                claim_study(study_in(tmp_path / "study.log"), task_of(*other))


class TestFolder:
    def test_two_studies_of_one_name_do_not_share_it(self, tmp_path: Path) -> None:
        one, other = (study_in(tmp_path / f"{name}.log") for name in ("one", "other"))
        folder = tmp_path / "folder"
        claim_folder(one, folder, "one.log")
        (folder / "best.yml").write_text("of one", encoding="utf-8")
        with pytest.raises(ValueError, match=r"holds the files of another study 'a study', in one.log"):
            claim_folder(other, folder, "other.log")
        claim_folder(one, folder, "by/another/path/one.log")
        claim_folder(other, tmp_path / "folder of another", "other.log")

    def test_a_search_that_begins_anew_in_its_own_storage_may(self, tmp_path: Path) -> None:
        claim_folder(study_in(tmp_path / "study.log"), tmp_path, "study.log")
        (tmp_path / "study.log").unlink()
        claim_folder(study_in(tmp_path / "study.log"), tmp_path, "study.log")

    def test_no_password_is_left_there(self, tmp_path: Path) -> None:
        claim_folder(study_in(tmp_path / "study.log"), tmp_path, f"postgresql://me:{PASSWORD}@host/db")
        assert json.loads((tmp_path / MARK).read_text(encoding="utf-8"))["storage"] == "postgresql://me:***@host/db"

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_a_damaged_mark_is_written_anew(self, text: str, tmp_path: Path) -> None:
        (tmp_path / MARK).write_text(text, encoding="utf-8")
        claim_folder(study_in(tmp_path / "study.log"), tmp_path, "study.log")
        assert json.loads((tmp_path / MARK).read_text(encoding="utf-8"))["storage"] == "study.log"


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true", "sqlite:///file:x?mode=memory&uri=true"],
)
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="in memory: each process"):
        open_storage(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{PASSWORD}@more@127.0.0.1:1/db",
        f"postgresql://me:p@{PASSWORD}@127.0.0.1:1/db",
        f"postgresql://me:{PASSWORD}/x@127.0.0.1:1/db",
        f"postgresql://me:{PASSWORD}#x@127.0.0.1:1/db",
        f"postgresql://127.0.0.1:1/db?user=me&password={PASSWORD}",
        f"grpc://me:{PASSWORD}@host:1:2",
        f"mysterious://me:{PASSWORD}@host/db",
    ],
)
def test_no_password_is_in_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.zoo.tune.storages.MAKING_TABLES", -1.0)
    with pytest.raises(Exception) as error:
        open_storage(url)
    assert PASSWORD not in str(error.value) and isinstance(error.value, (ImportError, ValueError))


def test_what_is_an_outage() -> None:
    away = OperationalError("SELECT secret", {}, sqlite3.OperationalError("disk I/O error"))
    assert outage(away) is away and why(away) == "disk I/O error"
    lost = UnboundLocalError("cannot access local variable 'updated_state'")
    lost.__context__ = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
    lost.__context__.__cause__ = away
    assert outage(lost) is away and why(lost) == "disk I/O error"
    assert outage(StorageAway("x")) is not None
    full = OSError(28, "No space left on device")
    assert outage(full) is full and outage(full, of_files=False) is None
    for mistake in (
        ValueError("n_startup_trials"),
        UnboundLocalError("x"),
        IntegrityError("x", {}, Exception("twice")),
    ):
        assert outage(mistake) is None
