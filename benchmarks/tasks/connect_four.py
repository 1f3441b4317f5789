"""Connect four against an opponent that plays at random, for Gymnasium: ``pip install pettingzoo pygame``."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class ConnectFour(gym.Env):
    """
    The agent begins every other game, by chance. A win is 1, a loss -1, a draw 0. A column that is full is no valid
    action.

    :param masked: whether the environment has ``action_masks()`` and refuses invalid actions; if not, an invalid action
        loses the game
    """

    def __init__(self, masked: bool = True) -> None:
        from pettingzoo.classic import connect_four_v3  # not among the packages that the benchmarks share

        self.game = connect_four_v3.raw_env()
        self.observation_space = spaces.Box(0.0, 1.0, (6 * 7 * 2,), np.float32)
        self.action_space = spaces.Discrete(7)
        if masked:
            self.action_masks = self._mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.game.reset()
        first, second = self.game.possible_agents
        self.me, self.other = (first, second) if self.np_random.random() < 0.5 else (second, first)
        if self.me == second:
            self._other_moves()
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if not self._mask()[action]:
            if hasattr(self, "action_masks"):
                raise ValueError(f"The column {action} is full: {self._mask()}.")
            return self._observation(), -1.0, True, False, {"invalid": True}
        self.game.step(int(action))
        if not self._over():
            self._other_moves()
        reward = float(self.game.rewards[self.me]) if self._over() else 0.0
        return self._observation(), reward, self._over(), False, {}

    def _mask(self) -> np.ndarray:
        return np.array(self.game.board).reshape(6, 7)[0] == 0

    def _other_moves(self) -> None:
        self.game.step(int(self.np_random.choice(np.flatnonzero(self._mask()))))

    def _over(self) -> bool:
        return bool(self.game.terminations[self.me])

    def _observation(self) -> np.ndarray:
        return self.game.observe(self.me)["observation"].astype(np.float32).reshape(-1)
