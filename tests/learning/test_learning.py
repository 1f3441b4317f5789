"""
Learning is the proof: final models, greedy, 100 episodes, against the memoryless control under the same settings
(``zoo_configs/rdqn.yml``). Minutes each; ``make test-slow`` runs them.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

SPEC = importlib.util.spec_from_file_location(
    "memory_tasks", Path(__file__).parents[2] / "examples" / "memory_tasks.py"
)
assert SPEC is not None and SPEC.loader is not None
memory_tasks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(memory_tasks)

pytestmark = pytest.mark.slow


def test_cartpole_without_velocities() -> None:
    scores = [memory_tasks.train_and_score("CartPoleNoVel-v1", seed).score for seed in range(3)]
    assert np.mean(scores) >= 475 and min(scores) >= 400, scores


def test_cartpole_control() -> None:
    # The best a memoryless agent does is about 35 to 50 of 500 steps
    assert memory_tasks.train_and_score("CartPoleNoVel-v1", 0, memory="none").score <= 100


@pytest.mark.parametrize("seed", range(3))
def test_repeat_previous(seed: int) -> None:
    assert memory_tasks.train_and_score("popgym-RepeatPreviousEasy-v0", seed).score >= 0.95


def test_repeat_previous_control() -> None:
    # Guessing one suit of four scores 0.25 - 0.75 = -0.5
    assert memory_tasks.train_and_score("popgym-RepeatPreviousEasy-v0", 0, memory="none").score <= -0.2


@pytest.mark.parametrize("corridor", [10, 30])
@pytest.mark.parametrize("seed", range(3))
def test_t_maze(corridor: int, seed: int) -> None:
    assert memory_tasks.train_and_score(f"PassiveTMaze{corridor}-v0", seed).score >= 0.95


@pytest.mark.parametrize("corridor", [10, 30])
def test_t_maze_control(corridor: int) -> None:
    # At best 0.5 on average, with a standard deviation of 0.05 over 100 episodes
    assert memory_tasks.train_and_score(f"PassiveTMaze{corridor}-v0", 0, memory="none").score <= 0.65
