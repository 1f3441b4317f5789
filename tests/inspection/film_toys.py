"""Environments and extractors for films, whose attention is known."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sb3_attnmem.attention import AttentionLayer, PlaceGrid, set_layout
from sb3_attnmem.extractors.base import AttentionExtractor
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.film.board import Board
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, film_episodes
from sb3_attnmem.inspection.film.views import Heads

IMAGE = spaces.Box(0, 255, (12, 16, 3), np.uint8)
FRAMES = spaces.Box(-1, 1, (4, 6), np.float32)
ENTITIES = spaces.Box(-1, 1, (6, 5), np.float32)
MIXED = spaces.Dict(camera=spaces.Box(0, 255, (3, 7, 7), np.uint8), units=ENTITIES, speed=spaces.Box(-1, 1, (2,)))
SMALL = dict(features_dim=8)
N_STEPS = 5


class Noise(gym.Env):
    """Random observations, the step's number as reward, five steps an episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, space: spaces.Space = IMAGE, render_mode: str | None = None, actions: Any = None) -> None:
        self.observation_space = space
        self.action_space = actions or spaces.Discrete(3)
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.n_steps += 1
        return self.observation_space.sample(), float(self.n_steps), self.n_steps == N_STEPS, False, {}

    def render(self) -> Any:
        return np.full((30, 50, 3), 40 * self.n_steps, np.uint8)


class Stare(AttentionExtractor):
    """
    Its layer steps at the place whose number is the first pixel of the observation; two heads, the second steps at the
    place after it.

    :param observation_space: an image
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=2)
        self.attention = AttentionLayer()
        self.grid = PlaceGrid.of_pixels(12, 16).after_conv(4, stride=4)  # 3×4 places
        self.scale = th.nn.Parameter(th.ones(2))
        set_layout(self, self.grid)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        place = (observations[:, 0, 0, 0] * 255).round().long() % self.grid.n_places
        weights = th.zeros(len(observations), 2, 1, self.grid.n_places)
        for head in range(2):
            weights[th.arange(len(place)), head, 0, (place + head) % self.grid.n_places] = 1.0
        self.attention.record(weights)
        return self.scale * observations.flatten(1)[:, :2]


def make(algorithm: type, env: gym.Env, extractor: type, policy: str = "CnnPolicy", **kwargs: Any) -> Any:
    options: dict[str, Any] = dict(buffer_size=64)
    if issubclass(algorithm, OnPolicyAlgorithm):
        options = dict(n_steps=8) if algorithm is A2C else dict(n_steps=8, batch_size=4)
    extractor_kwargs = kwargs.pop("extractor_kwargs", {} if extractor is Stare else SMALL)
    policy_kwargs = dict(
        features_extractor_class=extractor, features_extractor_kwargs=extractor_kwargs, net_arch=[8], **kwargs
    )
    return algorithm(policy, env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **options)


def look_into(model: Any, env: gym.Env, heads: Heads = "max", episodes: int = 1, max_steps: int = 50) -> FilmedEpisodes:
    return film_episodes(model, check_env(model, env), None, 6, heads, episodes, max_steps, 0, True, lambda: None)


def frames_of(path: Path) -> list[np.ndarray]:
    with imageio.get_reader(path) as reader:
        return list(reader.iter_data())


def panel_of(board: Board, kind: type) -> Any:
    return next(panel for panel in board.panels if isinstance(panel, kind))
