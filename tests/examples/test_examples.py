"""The examples run as their docstrings say, with fewer steps, from an empty folder."""

from pathlib import Path

import pytest

from tests import programs

ROOT = Path(__file__).parents[2]


def run(folder: Path, example: str, *arguments: str) -> str:
    """:return: what the example printed"""
    done = programs.run(folder, str(ROOT / "examples" / example), *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_quickstart(tmp_path: Path) -> None:
    output = run(tmp_path, "quickstart.py", "--steps", "4000")
    assert "RecurrentDQN" in output and "DQN" in output
    for name in ("learning_curve.png", "RecurrentDQN.zip"):
        assert (tmp_path / "outputs" / "quickstart" / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("task", "memory"),
    [("CartPoleNoVel-v1", None), ("popgym-RepeatPreviousEasy-v0", "none"), ("PassiveTMaze30-v0", None)],
)
def test_memory_tasks(tmp_path: Path, task: str, memory: str | None) -> None:
    choice = ["--memory", memory] if memory else []
    output = run(tmp_path, "memory_tasks.py", task, "--steps", "2000", "--episodes", "8", *choice)
    assert output.splitlines()[-1].startswith("score: ")
    float(output.split("score: ")[1])


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    done = programs.run(tmp_path, str(ROOT / "examples" / "memory_tasks.py"), "CartPol")
    assert done.returncode == 2 and "CartPoleNoVel-v1" in done.stderr


def test_entity_attention(tmp_path: Path) -> None:
    output = run(tmp_path, "entity_attention.py", "--steps", "1500")
    assert "EntityAttention" in output and "blocks.0.attention" in output


def test_attention_atari(tmp_path: Path) -> None:
    words = ["--steps", "1000", "--frames", "8", "--out", "pictures"]
    output = run(tmp_path, "attention_atari.py", *words)
    assert "mean weight of the heaviest" in output
    for ending in ("zip", "png", "mp4"):
        assert (tmp_path / "pictures" / f"PongNoFrameskip-v4.{ending}").stat().st_size > 1000
    again = run(tmp_path, "attention_atari.py", "--model", "pictures/PongNoFrameskip-v4.zip", "--frames", "8")
    assert "pictures:" in again


def test_tune_optuna(tmp_path: Path) -> None:
    words = ["--trials", "2", "--steps", "800", "--storage", "sqlite:///tune.db"]
    assert "best: " in run(tmp_path, "tune_optuna.py", *words)
    assert "best: " in run(tmp_path, "tune_optuna.py", *words), "the study goes on"
