"""Every environment of ours starts without a seed, and with the smallest and largest ones."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem.envs import FlickerWrapper, PassiveTMaze, PopgymWrapper, PreviousActionReward

MAKERS: dict[str, Callable[[], gym.Env]] = {
    "PassiveTMaze": PassiveTMaze,
    "FlickerWrapper": lambda: FlickerWrapper(PassiveTMaze()),
    "PreviousActionReward": lambda: PreviousActionReward(PassiveTMaze()),
    "PopgymWrapper": lambda: PopgymWrapper(gym.make("popgym:popgym-RepeatPreviousEasy-v0")),
    "FlickeringPong": lambda: gym.make("sb3_attnmem.envs:FlickeringPong-v0"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_every_seed_is_taken_and_makes_the_same_episode(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_steps(seed: int | None) -> np.ndarray:
        env = make_vec_env(MAKERS[name], n_envs=1)
        env.seed(seed)
        observations = np.array([env.reset(), *(env.step(np.zeros(1, int))[0] for _ in range(5))])
        env.close()
        return observations

    for seed in (0, 2**31 - 1, 2**32 - 1):
        np.testing.assert_array_equal(first_steps(seed), first_steps(seed))
    first_steps(None)
    # The largest seed that Stable-Baselines3 can draw
    monkeypatch.setattr(np.random, "randint", lambda low, high, dtype: np.array(high - 1, dtype))
    first_steps(None)
