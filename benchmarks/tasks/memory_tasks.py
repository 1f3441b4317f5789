"""The tasks that the defaults are judged by: what is the task's own (wrappers, policy), and nothing of the agent's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import minigrid  # noqa: F401  registers its tasks
import popgym  # noqa: F401  registers its tasks
from minigrid.wrappers import ImgObsWrapper, OneHotPartialObsWrapper
from rl_zoo3 import import_envs  # noqa: F401  registers the tasks without velocities
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.envs import PopgymWrapper, PreviousActionReward


class Task(NamedTuple):
    """
    :param env_id: of the environment, or what makes one
    :param steps: environment steps to learn for
    :param mean: greedy return of the final model to reach, over all seeds
    :param each: to reach by each seed; None: nothing is asked
    :param wrapper: around each environment
    :param env_kwargs: of the environment
    :param policy_kwargs: what the observations ask for
    """

    env_id: str | Callable[..., gym.Env]
    steps: int
    mean: float
    each: float | None = None
    wrapper: Callable[[gym.Env], gym.Env] | None = None
    env_kwargs: dict[str, Any] = {}  # noqa: RUF012  read only
    policy_kwargs: dict[str, Any] = {}  # noqa: RUF012

    def make_env(self, n_envs: int = 8, seed: int | None = None) -> VecEnv:
        """
        :param n_envs: environments
        :param seed: of them
        :return: the environments, nothing normalised
        """
        return make_vec_env(
            self.env_id,
            n_envs,
            seed=seed,
            wrapper_class=self.wrapper,  # type: ignore[arg-type]
            env_kwargs=dict(self.env_kwargs),
        )


def _previous_action(env: gym.Env) -> gym.Env:
    return PreviousActionReward(env, reward=False)


def _one_hot(env: gym.Env) -> gym.Env:
    return ImgObsWrapper(OneHotPartialObsWrapper(env))


TASKS = {
    "CartPoleNoVel": Task("CartPoleNoVel-v1", 100_000, 475, 400),
    "RepeatPreviousEasy": Task("popgym-RepeatPreviousEasy-v0", 100_000, 0.95, 0.9, PopgymWrapper),
    "RepeatFirstEasy": Task("popgym-RepeatFirstEasy-v0", 100_000, 0.95, 0.9, PopgymWrapper),
    "T-Maze 10": Task("PassiveTMaze10-v0", 100_000, 0.95, 0.9, _previous_action),
    "T-Maze 30": Task("PassiveTMaze30-v0", 300_000, 0.95, 0.9, _previous_action),
    "T-Maze 50": Task("PassiveTMaze-v0", 500_000, 0.9, None, _previous_action, dict(corridor_length=50)),
    "MiniGrid-MemoryS7": Task(
        "MiniGrid-MemoryS7-v0", 400_000, 0.95, 0.9, _one_hot, policy_kwargs=dict(normalize_images=False)
    ),
    "Acrobot": Task("Acrobot-v1", 100_000, -90, -110),
    "LunarLanderNoVel": Task("LunarLanderNoVel-v3", 500_000, 150),
    "CartPole": Task("CartPole-v1", 60_000, 475, 400),
}
#: what entries of ``zoo_configs/rdqn.yml`` keep settings for; the mean is the entry's own
WITH_SETTINGS = {
    "T-Maze 100": Task("PassiveTMaze100-v0", 1_500_000, 1.0, wrapper=_previous_action),
    "CountRecallEasy": Task("popgym-CountRecallEasy-v0", 500_000, 0.95, wrapper=PopgymWrapper),
    "AutoencodeEasy": Task("popgym-AutoencodeEasy-v0", 500_000, 0.2, wrapper=PopgymWrapper),
    "MiniGrid-MemoryS9": Task(
        "MiniGrid-MemoryS9-v0", 600_000, 0.98, wrapper=_one_hot, policy_kwargs=dict(normalize_images=False)
    ),
}
