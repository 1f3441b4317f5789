"""Environments whose need of memory, and whose faults, are known."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Echo(gym.Env):
    """
    One of three lamps is lit at each step. Paid is to name the one that was lit ``k`` observations ago, 1 being now.

    :param k: observations to remember
    :param length: steps of an episode
    """

    observation_space, action_space = spaces.Box(0.0, 1.0, (3,)), spaces.Discrete(3)

    def __init__(self, k: int = 1, length: int = 12) -> None:
        self.k, self.length = k, length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.lit = [int(self.np_random.integers(3))]
        return self.seen(), {}

    def seen(self) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[self.lit[-1]]

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward = float(len(self.lit) >= self.k and int(action) == self.lit[-self.k])
        self.lit.append(int(self.np_random.integers(3)))
        return self.seen(), reward, len(self.lit) > self.length, False, {}


class Silent(Echo):
    """Never pays."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return super().step(action)[0], 0.0, len(self.lit) > self.length, False, {}


class Dice(Echo):
    """Draws from a generator that no seed reaches."""

    def seen(self) -> np.ndarray:
        return np.random.default_rng().random(3).astype(np.float32)


class Map(Echo):
    """The lamps as codes on a small map of bytes."""

    observation_space = spaces.Box(0, 255, (7, 7, 3), np.uint8)

    def seen(self) -> np.ndarray:
        return np.tile(np.eye(3, dtype=np.uint8)[self.lit[-1]], (7, 7, 1))


class Wide(Echo):
    """The lamps, the first of them twice, and a number that never changes; of different sizes, in float64."""

    observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float64)

    def seen(self) -> np.ndarray:
        lamps = np.eye(3)[self.lit[-1]]
        return np.array([*(1000 * lamps), 1000 * lamps[0], 7.0])


class Masked(Echo):
    """Action 2 is never valid."""

    def action_masks(self) -> np.ndarray:
        return np.array([True, True, False])

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert action != 2
        return super().step(action)


class Rude(Echo):
    """Gives observations that its space does not hold."""

    def seen(self) -> np.ndarray:
        return super().seen() - 5


class Deep(Echo):
    """Pays after four times action 0 in a row from the start, and ends at the first other one."""

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.lit.append(int(self.np_random.integers(3)))
        return self.seen(), float(len(self.lit) == 13), int(action) != 0 or len(self.lit) > 12, False, {}
