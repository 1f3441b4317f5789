"""``train --resume``: what cannot be honoured, or is damaged, is told before anything is changed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sb3_attnmem.dqn_recurrent.checkpoint_files import lock_folder
from tests.zoo.killed_runs import (  # noqa: F401  some are fixtures
    Killed,
    _killed,
    _original,
    agent,
    contents,
    evaluations,
    move,
    resume,
    train,
)


@pytest.mark.parametrize(
    "words, said",
    [
        (["--seed", "7"], "--seed: --resume goes on with the run as it was begun"),
        (["--seed=7", "-f", "other", "--algo", "ppo"], "--algo, --log-folder, --seed:"),
        (["--freeze", "memory"], "--freeze: --resume goes on"),
        (["--offline-data", "x"], "--offline-data: --resume goes on"),
        (["-n", "100"], "-n 100: the run has 128 steps already"),
        (["--foo"], "unrecognized arguments: --foo"),
        (["-n", "800", "--foo", "--seed", "7"], "unrecognized arguments: --foo"),
        (["--checkpoint-freq"], "--checkpoint-freq: expected one argument"),
        (["--checkpoint-freq", "0"], "--checkpoint-freq: 0: pass an integer of at least 1"),
        (["--checkpoint-freq", "nan"], "--checkpoint-freq: nan: pass an integer of at least 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_changed_is_refused(
    words: list[str], said: str, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(original)
    assert resume(original, *words) == 2
    assert said in capsys.readouterr().err
    assert contents(original) == before


def damaged_options(run: Path) -> None:
    (run / "resume.json").write_text("", encoding="utf-8")


def options_of_another_kind(run: Path) -> None:
    (run / "resume.json").write_text('{"options": [1]}', encoding="utf-8")


def no_options(run: Path) -> None:
    (run / "resume.json").unlink()


def no_checkpoints(run: Path) -> None:
    for path in run.glob("checkpoints/checkpoint-*"):
        shutil.rmtree(path)


def no_folder_of_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def no_statistics(run: Path) -> None:
    for path in run.glob("checkpoints/checkpoint-*/vecnormalize.pkl"):
        path.unlink()


def no_statistics_in_version_0_1(run: Path) -> None:
    path = max(run.glob("checkpoints/checkpoint-*"))
    no_statistics(run)
    path.rename(path.with_name(path.name[: len("checkpoint-") + 12]))
    (run / "checkpoints" / "latest-run").unlink()
    for other in run.glob("checkpoints/checkpoint-*-*"):
        shutil.rmtree(other)


@pytest.mark.parametrize(
    "damage, said",
    [
        (damaged_options, "resume.json is damaged"),
        (options_of_another_kind, "resume.json is damaged"),
        (no_options, "only runs of `sb3-attnmem train --checkpoint-freq N` can be gone on with"),
        (no_checkpoints, "was stopped before its first one: start it anew"),
        (no_folder_of_checkpoints, "was stopped before its first one: start it anew"),
        (no_statistics, "holds no checkpoint that is whole"),
        (no_statistics_in_version_0_1, "vecnormalize.pkl is missing: the run would go on with fresh statistics"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_run_is_told_in_a_sentence(
    damage: Callable[[Path], None], said: str, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(killed)
    assert resume(killed) == 2
    assert said in capsys.readouterr().err


def test_two_at_once_are_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    other = FileLock(killed / "checkpoints" / ".lock")  # as of another process
    with other:
        assert resume(killed) == 2
    assert "Another process trains with the checkpoints in" in capsys.readouterr().err
    lock = lock_folder(killed / "checkpoints")
    assert lock is not None
    lock.release()
