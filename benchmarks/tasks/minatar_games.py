"""MinAtar's games as Gymnasium environments: ``pip install --no-deps minatar``."""

import functools
import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from tasks.memory_tasks import Task

from sb3_attnmem.envs import FlickerWrapper

#: MinAtar's own extractor: 16 filters of 3×3, then 128 units (Young & Tian, 2019)
EXTRACTOR: dict[str, Any] = dict(
    features_extractor_class="plain_cnn", features_extractor_kwargs=dict(trunk=[(16, 3)], features_dim=128)
)


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


def breakout_task(steps: int, blank: float = 0.0) -> Task:
    """
    :param steps: environment steps to learn for
    :param blank: share of the frames that are blank
    :return: MinAtar's Breakout
    """
    wrapper = functools.partial(FlickerWrapper, p=blank) if blank else None
    game = functools.partial(MinAtar, "breakout")
    return Task(game, steps, mean=math.nan, wrapper=wrapper, policy_kwargs=EXTRACTOR)
