"""Environments that actors make in processes of their own, which import this module, but not a script."""

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

import sb3_attnmem.envs  # noqa: F401  registers the maze

#: seconds that a sleeping environment takes for a step
NAP = 0.02


class Sleeper(gym.Env):
    """Sleeps at each step, as a simulator elsewhere would. Its observations say which process made them."""

    observation_space = spaces.Box(-1, 1e7, (8,), np.float32)
    action_space = spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.n_steps = 0
        return self._observation(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        time.sleep(NAP)
        self.n_steps += 1
        return self._observation(), float(self.np_random.random()), False, self.n_steps >= 500, {}

    def _observation(self) -> np.ndarray:
        return np.append(self.np_random.uniform(-1, 1, 7), os.getpid()).astype(np.float32)


def make_sleeper() -> VecEnv:
    return DummyVecEnv([Sleeper])


def make_maze(n_envs: int = 2) -> VecEnv:
    return make_vec_env("PassiveTMaze10-v0", n_envs)
