"""Every extractor over every kind of observation it reads; a new extractor is a few lines here."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem.common.observations import map_observation
from sb3_attnmem.extractors import (
    AttentionCombinedExtractor,
    ChannelAttentionCNN,
    EntityAttention,
    FrameAttention,
    ImpalaCNN,
    PatchTransformer,
    PlainCNN,
    PretrainedExtractor,
    RelationalCNN,
    SpatialAttentionCNN,
)

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
MINIGRID = spaces.Box(0, 255, (3, 7, 7), np.uint8)  # as VecTransposeImage hands it over
MINIGRID_RGB = spaces.Box(0, 255, (3, 56, 40), np.uint8)
MINATAR = spaces.Box(0, 1, (10, 10, 6), np.bool_)  # channels last: Stable-Baselines3 leaves it so
ENTITIES = spaces.Box(-1, 1, (6, 5), np.float32)
MASKED = spaces.Dict({"entities": ENTITIES, "mask": spaces.MultiBinary(6)})
MIXED = spaces.Dict(
    {
        "camera": MINIGRID,
        "values": spaces.Box(-1, 1, (4,), np.float32),  # also the name of a method of nn.ModuleDict
        "units": ENTITIES,
        "units.mask": spaces.MultiBinary(6),
        "mode": spaces.Discrete(3),
    }
)


@dataclass(frozen=True)
class Case:
    """
    :param extractor_class: of the extractor
    :param space: of the observations
    :param kwargs: of the extractor
    :param has_dropout: whether it takes ``dropout``
    """

    extractor_class: type[BaseFeaturesExtractor]
    space: spaces.Space
    kwargs: dict[str, Any] = field(default_factory=dict)
    has_dropout: bool = False

    def build(self, **kwargs: Any) -> Any:
        """:return: the extractor, in eval mode, the same at every call"""
        th.manual_seed(0)
        return self.extractor_class(self.space, **{**self.kwargs, **kwargs}).eval()

    def observations(self, batch_size: int = 3) -> Any:
        """:return: a batch as Stable-Baselines3 hands it to an extractor, the same at every call"""
        return preprocess(sample(self.space, batch_size), self.space)


def sample(space: spaces.Space, batch_size: int) -> Any:
    """:return: a batch of observations, array or dict of arrays, the same at every call"""
    space.seed(1)
    batch = [space.sample() for _ in range(batch_size)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([observation[key] for observation in batch]) for key in space}
    return np.stack(batch)


def preprocess(observations: Any, space: spaces.Space) -> Any:
    """:return: what Stable-Baselines3 makes of a batch before an extractor sees it"""
    return preprocess_obs(map_observation(th.as_tensor, observations), space)


TOKEN_IDS = spaces.Box(0, 6, (5,), np.int64)
TOKENS_MASKED = spaces.Dict({"input_ids": TOKEN_IDS, "attention_mask": spaces.MultiBinary(5)})


class TokenEncoder(th.nn.Module):
    """As the transformers library makes them: called by keyword, the answer has ``last_hidden_state``."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = th.nn.Embedding(7, width)
        self.layers = th.nn.ModuleList(th.nn.Linear(width, width) for _ in range(3))

    def forward(self, input_ids: th.Tensor, attention_mask: th.Tensor | None = None) -> Any:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = hidden + layer(hidden).tanh()
        return SimpleNamespace(last_hidden_state=hidden)


class Normed(th.nn.Module):
    """An encoder with statistics and dropout, in the names of a backbone's checkpoint."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.norm = th.nn.BatchNorm1d(4)
        self.layers = th.nn.Sequential(
            th.nn.Linear(4, width), th.nn.Tanh(), th.nn.Dropout(0.5), th.nn.Linear(width, width)
        )

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        return self.layers(self.norm(inputs))


def image_encoder() -> th.nn.Sequential:
    """As torchvision and timm make them, less the head: maps (B, C, H, W)."""
    stem = th.nn.Sequential(th.nn.Conv2d(3, 8, 3, padding=1), th.nn.ReLU())
    return th.nn.Sequential(stem, th.nn.Conv2d(8, 12, 3, stride=2, padding=1))


SMALL = dict(features_dim=16)
SEQ = dict(features_dim=16, embed_dim=16)

CASES: dict[str, Case] = {
    "plain-minatar": Case(PlainCNN, MINATAR, SMALL),
    "plain-map": Case(PlainCNN, MINIGRID, dict(output="map")),
    "impala-atari": Case(ImpalaCNN, ATARI, SMALL),
    "impala-map": Case(ImpalaCNN, MINATAR, dict(output="map", trunk_width=0.5)),
    "spatial-impala": Case(SpatialAttentionCNN, MINIGRID_RGB, dict(SMALL, trunk="impala", trunk_width=0.25)),
    "se-impala": Case(ChannelAttentionCNN, MINIGRID_RGB, dict(SMALL, trunk="impala", trunk_width=0.25)),
    "spatial-atari": Case(SpatialAttentionCNN, ATARI, SMALL),
    "spatial-minatar": Case(SpatialAttentionCNN, MINATAR, SMALL),
    "spatial-minigrid": Case(SpatialAttentionCNN, MINIGRID, SMALL),
    "spatial-oblong": Case(SpatialAttentionCNN, MINIGRID_RGB, dict(SMALL, n_heads=3)),
    "relational-atari": Case(RelationalCNN, ATARI, SEQ, has_dropout=True),
    "relational-minatar-max": Case(RelationalCNN, MINATAR, dict(SEQ, pooling="max", n_layers=1), has_dropout=True),
    "relational-map": Case(RelationalCNN, MINIGRID, dict(SEQ, output="map"), has_dropout=True),
    "se-atari": Case(ChannelAttentionCNN, ATARI, dict(SMALL, kind="se")),
    "cbam-minigrid": Case(ChannelAttentionCNN, MINIGRID, dict(SMALL, kind="cbam")),
    "cbam-map": Case(ChannelAttentionCNN, MINATAR, dict(kind="cbam", output="map")),
    "patches-atari": Case(PatchTransformer, ATARI, SEQ, has_dropout=True),
    "patches-minatar": Case(PatchTransformer, MINATAR, dict(SEQ, patch_size=5, pooling="mean"), has_dropout=True),
    "patches-map": Case(PatchTransformer, MINIGRID, dict(SEQ, output="map"), has_dropout=True),
    "frames-atari": Case(FrameAttention, ATARI, SEQ, has_dropout=True),
    "frames-vectors": Case(
        FrameAttention,
        spaces.Box(-1, 1, (12,), np.float32),
        dict(SEQ, n_frames=4, positions="rotary", n_layers=2),
        has_dropout=True,
    ),
    "frames-minatar": Case(
        FrameAttention, spaces.Box(0, 1, (10, 10, 12), np.bool_), dict(SEQ, n_frames=2), has_dropout=True
    ),
    "frames-colour": Case(
        FrameAttention, spaces.Box(0, 255, (3, 20, 20, 3), np.uint8), dict(SEQ, positions="none"), has_dropout=True
    ),
    "entities": Case(EntityAttention, ENTITIES, SEQ, has_dropout=True),
    "entities-masked": Case(EntityAttention, MASKED, dict(SEQ, pooling="max"), has_dropout=True),
    "combined": Case(
        AttentionCombinedExtractor,
        MIXED,
        dict(SEQ, masks={"units": "units.mask"}, image_class="relational_cnn", entity_kwargs=dict(embed_dim=8)),
        has_dropout=True,
    ),
    "pretrained-map": Case(PretrainedExtractor, MINIGRID, dict(module=image_encoder, freeze="none", features_dim=16)),
    "pretrained-tokens": Case(PretrainedExtractor, TOKENS_MASKED, dict(module=TokenEncoder, freeze="none")),
}


class Noise(gym.Env):
    """
    Samples of a space; the rewards are noise too.

    :param space: of the observations
    """

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample(), float(self.np_random.normal()), self.np_random.random() < 0.2, False, {}
