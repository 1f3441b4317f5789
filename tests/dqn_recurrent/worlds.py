"""A small environment in any observation space, and the models that learn in it."""

from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_attnmem import RecurrentDQN
from tests.toys import PLAIN

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
SPACES: dict[str, spaces.Space] = {
    "vector": VECTOR,
    "matrix": spaces.Box(-1, 1, (2, 3), np.float32),
    "doubles": spaces.Box(-1, 1, (3,), np.float64),
    "bytes": spaces.Box(0, 255, (5,), np.uint8),
    "image": IMAGE,
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([3, 2, 4]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary matrix": spaces.MultiBinary((2, 3)),
    "dict": spaces.Dict(
        vector=VECTOR,
        image=IMAGE,
        number=spaces.Discrete(5),
        numbers=spaces.MultiDiscrete([3, 2]),
        bits=spaces.MultiBinary(4),
    ),
}


class World(gym.Env):
    """
    Random observations; rewards that count the steps of all episodes, so that each names its transition. Episodes of
    seven steps end by termination and by time limit in turn.

    :param observation_space: any
    :param env_id: its number; rewards begin at ``1000 * env_id``
    """

    def __init__(self, observation_space: spaces.Space = VECTOR, env_id: int = 0) -> None:
        self.observation_space = deepcopy(observation_space)  # with a generator of its own
        self.action_space = spaces.Discrete(3)
        self.n_episodes, self.count = 0, 1000 * env_id

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        self.n_episodes += 1
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.n_steps += 1
        reward = float(self.count)
        self.count += 1
        over, terminates = self.n_steps == 7, self.n_episodes % 2 == 0
        return self.observation_space.sample(), reward, over and terminates, over and not terminates, {}


def make_world(name: str = "vector", n_envs: int = 2) -> VecEnv:
    return DummyVecEnv([lambda i=i: World(SPACES[name], i) for i in range(n_envs)])


NVEC = [3, 2, 4]


class Lock(gym.Env):
    """The observation is the combination; 1 for a step with all of it, in part for a part. Episodes of five steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (sum(NVEC),), np.float32)
        self.action_space = spaces.MultiDiscrete(NVEC)

    def _observation(self) -> np.ndarray:
        self.wanted = self.np_random.integers(NVEC)
        return np.concatenate([np.eye(n)[i] for n, i in zip(NVEC, self.wanted, strict=True)]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        reward = float((action == self.wanted).mean())
        self.t += 1
        return self._observation(), reward, False, self.t == 5, {}


SMALL: dict[str, Any] = dict(memory_kwargs=dict(hidden_size=8))


def make_learner(
    env: VecEnv | gym.Env | None = None,
    policy: str = "MlpPolicy",
    model_class: type[RecurrentDQN] = RecurrentDQN,
    **kwargs: Any,
) -> RecurrentDQN:
    """:return: a small model that trains now and then"""
    options: dict[str, Any] = dict(
        buffer_size=400,
        learning_starts=12,
        batch_size=4,
        train_freq=8,
        target_update_interval=10_000,
        tau=1.0,
        sequence_length=4,
        burn_in=2,
        n_steps=2,
        seed=0,
        policy_kwargs=SMALL,
        **PLAIN,
    )
    return model_class(policy, make_world() if env is None else env, **{**options, **kwargs})
