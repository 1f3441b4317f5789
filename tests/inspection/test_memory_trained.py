"""The report of an agent that really learned: the cue at the start of a T-Maze of 20."""

from pathlib import Path

import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PassiveTMaze, PreviousActionReward
from sb3_attnmem.inspection import write_memory_report


def make_maze(n_envs: int, seed: int) -> VecEnv:
    options = dict(env_kwargs=dict(corridor_length=20), wrapper_kwargs=dict(reward=False))
    return make_vec_env(PassiveTMaze, n_envs, seed, wrapper_class=PreviousActionReward, **options)


@pytest.mark.slow
def test_the_cue_of_a_learned_maze_is_shown(tmp_path: Path) -> None:
    """Default arguments; about two minutes."""
    model = RecurrentDQN("MlpPolicy", make_maze(8, 0), seed=0)
    model.learn(200_000)
    report = write_memory_report(model, make_maze(25, 1_000), tmp_path, progress=False)
    assert report.score.mean > 0.95 and report.score.needed == 21
    assert all(point.mean < 0.8 for point in report.score.points)
    assert report.reach.observations == 21
    assert report.exchanged is not None and (report.exchanged.step, report.exchanged.cause) == (20, 0)
