"""MinAtar's games as Gymnasium environments: ``pip install --no-deps minatar``."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class MinAtar(gym.Env):
    """
    A MinAtar game (Young & Tian, 2019, https://arxiv.org/abs/1903.03176): 10×10 bool images, minimal actions,
    sticky actions, at most 2,500 steps an episode (cut by the time limit, not ended).

    :param game: "breakout", "space_invaders", …
    """

    def __init__(self, game: str) -> None:
        from minatar import Environment

        self.game = Environment(game)
        self.actions = self.game.minimal_action_set()
        self.observation_space = spaces.Box(0, 1, self.game.state_shape(), np.bool_)
        self.action_space = spaces.Discrete(len(self.actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.game.seed(seed)
        self.game.reset()
        self.steps = 0
        return self.game.state().astype(np.bool_), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward, over = self.game.act(self.actions[int(action)])
        self.steps += 1
        return self.game.state().astype(np.bool_), float(reward), bool(over), self.steps >= 2_500, {}
