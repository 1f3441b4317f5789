"""What all extractors share: the shape of their features, and their last layer."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.common.checks import check_integer

OUTPUTS = ("vector", "map")
PRECISIONS = ("float32", "bfloat16")

_float32_only = ContextVar("float32_only", default=False)


class AttentionExtractor(BaseFeaturesExtractor):
    """
    A features extractor that knows the *shape* of its features.

    Most give a vector (B, features_dim). Some give a feature map as well, (B, P, C): P places of C channels, for a
    memory that attends by itself. ``features_dim`` is then P * C, the number of features in all, so that a network
    that expects a vector fails at once instead of broadcasting.

    :param observation_space: of the environment, as Stable-Baselines3 hands it over
    :param features_dim: length of the vector
    :raises ValueError: when ``features_dim`` is below 1

    :ivar places: how the places of the feature map lie over the image; None where a vector is given
    """

    places: PlaceGrid | None = None

    def __init__(self, observation_space: spaces.Space, features_dim: int) -> None:
        features_dim = check_integer("features_dim", features_dim)
        super().__init__(observation_space, features_dim)
        self._features_shape: tuple[int, ...] = (features_dim,)

    @property
    def features_shape(self) -> tuple[int, ...]:
        """The shape of one observation's features: (features_dim,) or (P, C)."""
        return self._features_shape

    def _give_map(self, grid: PlaceGrid, channels: int) -> None:
        self.places = grid
        self._features_shape = (grid.n_places, channels)
        self._features_dim = math.prod(self._features_shape)


@contextmanager
def in_float32() -> Iterator[None]:
    """Let all extractors compute in float32 meanwhile, whatever their precision: what is exported does."""
    token = _float32_only.set(True)
    try:
        yield
    finally:
        _float32_only.reset(token)


def computing_in(precision: str, inputs: th.Tensor) -> AbstractContextManager:
    """
    Let layers compute in a precision while their weights stay float32.

    :param precision: of :data:`PRECISIONS`
    :param inputs: of the layers
    :return: in which to call them
    """
    if precision == "float32" or _float32_only.get():
        return nullcontext()
    return th.autocast(inputs.device.type, th.bfloat16)


class Dense(nn.Sequential):
    """
    The last layer of an extractor, as that of ``NatureCNN``.

    :param in_features: features in
    :param out_features: features out
    :param precision: in which it computes, of :data:`PRECISIONS`
    """

    def __init__(self, in_features: int, out_features: int, precision: str = "float32") -> None:
        super().__init__(nn.Linear(in_features, out_features), nn.ReLU())
        self.precision = precision

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: (B, in_features)
        :return: (B, out_features), of the type that came
        """
        with computing_in(self.precision, features):
            return super().forward(features).to(features.dtype)
