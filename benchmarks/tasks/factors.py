"""Tasks that ask for attention, for memory, for both, or for neither; and agents that have them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper
from rl_zoo3 import import_envs  # noqa: F401  registers the tasks without velocities

from sb3_attnmem.envs import FlickerWrapper
from sb3_attnmem.extractors import EntityAttention

from .cued_target import ONE_CELL, CuedTarget
from .minatar_games import MinAtar


class FactorTask(NamedTuple):
    """
    :param make_env: makes the environment
    :param steps: environment steps to learn for
    :param wants: what theory says an agent needs
    :param worst: return that counts as 0 where tasks are put together
    :param best: return that counts as 1
    :param image: whether observations are images
    :param trunk: of convolutions
    :param settings: what the task asks for
    """

    make_env: Callable[[], gym.Env]
    steps: int
    wants: str
    worst: float
    best: float
    image: bool = True
    trunk: Any = "auto"
    settings: dict[str, Any] = {}  # noqa: RUF012  read only


class AttentionOverInputs(EntityAttention):
    """
    Attention over the numbers of a vector: each is an entity that knows which of them it is.

    :param observation_space: Box (D,)
    :param kwargs: of :class:`EntityAttention`
    """

    def __init__(self, observation_space: spaces.Box, **kwargs: Any) -> None:
        n = observation_space.shape[0]
        super().__init__(spaces.Box(-np.inf, np.inf, (n, n + 1)), **kwargs)

    def forward(self, observations: th.Tensor) -> th.Tensor:  # type: ignore[override]
        n = observations.shape[1]
        which = th.eye(n, device=observations.device).expand(len(observations), n, n)
        return super().forward(th.cat([observations.unsqueeze(2), which], dim=2))


def memory_from_pixels() -> gym.Env:
    """:return: MiniGrid's memory task, seen as 24×24 pixels in colours"""
    import minigrid  # noqa: F401

    env = ImgObsWrapper(RGBImgPartialObsWrapper(gym.make("MiniGrid-MemoryS7-v0"), tile_size=8))
    return gym.wrappers.ResizeObservation(env, (24, 24))


#: of MinAtar's own agents (Young and Tian, 2019, https://arxiv.org/abs/1903.03176): one layer; and one for 24×24 pixels
ONE_LAYER, TWO_LAYERS = [(16, 3)], [(16, 4, 2), (32, 3, 2)]

TASKS = {
    "CartPole": FactorTask(lambda: gym.make("CartPole-v1"), 60_000, "neither", 0, 500, image=False),
    "Space Invaders": FactorTask(lambda: MinAtar("space_invaders"), 150_000, "neither", 0, 50, trunk=ONE_LAYER),
    "Breakout": FactorTask(lambda: MinAtar("breakout"), 200_000, "attention", 0, 30, trunk=ONE_LAYER),
    "CartPoleNoVel": FactorTask(lambda: gym.make("CartPoleNoVel-v1"), 100_000, "memory", 0, 500, image=False),
    "flickering Breakout": FactorTask(
        lambda: FlickerWrapper(MinAtar("breakout"), 0.5), 200_000, "both", 0, 15, trunk=ONE_LAYER
    ),
    "MemoryS7, pixels": FactorTask(memory_from_pixels, 400_000, "both", 0, 1, trunk=TWO_LAYERS),
    "cued target": FactorTask(CuedTarget, 60_000, "both", 0.25, 1, trunk=ONE_CELL, settings=dict(gamma=0.0)),
}

#: whether an agent has attention, its memory, and how the two are joined
AGENTS: dict[str, tuple[bool, str, dict[str, Any]]] = {
    "neither": (False, "none", {}),
    "attention": (True, "none", {}),
    "memory": (False, "lstm", {}),
    "both": (True, "lstm", {}),
    "both, gate": (True, "lstm", dict(memory_fusion="gate")),
    "directed": (False, "attentive_lstm", {}),
}
#: features of an observation, in all agents
WIDTH = 128


def policy_kwargs(task: FactorTask, agent: str) -> dict[str, Any] | None:
    """
    :param task: of ``TASKS``
    :param agent: of ``AGENTS``
    :return: of the policy; None: the agent reads maps, and the task has none
    """
    attends, memory, joined = AGENTS[agent]
    kwargs: dict[str, Any] = dict(memory_class=memory, **joined)
    if not task.image:
        if memory == "attentive_lstm":
            return None
        if attends:
            extractor = dict(features_dim=WIDTH, embed_dim=32, n_layers=1)
            kwargs |= dict(features_extractor_class=AttentionOverInputs, features_extractor_kwargs=extractor)
        return kwargs
    extractor = dict(trunk=task.trunk)
    if memory == "attentive_lstm":
        extractor |= dict(output="map")
    else:
        extractor |= dict(features_dim=WIDTH)
    kwargs |= dict(
        features_extractor_class="spatial_attention_cnn" if attends else "plain_cnn",
        features_extractor_kwargs=extractor,
    )
    return kwargs
