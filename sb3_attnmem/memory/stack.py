"""Recurrent layers on top of one another, each with a state of its own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_flag, check_number
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes

#: steps; a horizon beyond is none, and at 1e38 weights would be infinite
LONGEST = 1e9


class RecurrentLayer(nn.Module, ABC):
    """
    One layer of a :class:`StackedMemory`.

    :param state_shape: of its state, without the batch
    """

    def __init__(self, state_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.state_shape = state_shape

    @abstractmethod
    def forward(self, inputs: th.Tensor, state: th.Tensor, episode_starts: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param inputs: (B, T, width)
        :param state: (B, *state_shape), reset already in the rows whose first step starts an episode
        :param episode_starts: (B, T) bool
        :return: latents (B, T, H), and the state after the last step
        """


class StackedMemory(BaseMemory):
    """
    Layers of one kind. Each normalises its inputs first, if asked to; each but the first adds its inputs to its
    latents, if asked to.

    State: a tensor a layer, (B, *state_shape).

    :param input_dim: D, the width of the first layer's inputs
    :param hidden_size: H, the width of all other inputs and of all latents
    :param layers: first to last
    :param layer_norm: whether each layer normalises its inputs
    :param residual: whether each layer but the first adds its inputs to its latents
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int,
        layers: Sequence[RecurrentLayer],
        layer_norm: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__(input_dim, latent_dim=hidden_size)
        self.residual = check_flag("residual", residual)
        self.layers = nn.ModuleList(layers)
        self.norms = None
        if check_flag("layer_norm", layer_norm):
            self.norms = input_norms(self.input_dim, self.latent_dim, len(layers))

    def initial_state(self, batch_size: int) -> MemoryState:
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, *layer.state_shape) for layer in self.layers)  # type: ignore[misc]

    def _embed(self, features: th.Tensor) -> th.Tensor:
        """:return: (B, T, width), what the first layer reads"""
        return features

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents, last = self._embed(features), []
        for i, layer in enumerate(self.layers):
            inputs = latents if self.norms is None else self.norms[i](latents)
            outputs, last_of_layer = layer(inputs, state[i], episode_starts)
            latents = latents + outputs if self.residual and i > 0 else outputs
            last.append(last_of_layer)
        return latents, tuple(last)


def spread_steps(n_units: int, horizon: float) -> th.Tensor:
    """
    :param n_units: N
    :param horizon: steps
    :return: (N,), 1 to ``horizon`` steps, spread evenly on a logarithmic scale
    :raises ValueError: when ``horizon`` is no number of at least 1, or beyond :data:`LONGEST`
    """
    horizon = check_number("horizon", horizon, least=1.0, most=LONGEST, hint="It is a number of steps.")
    return th.logspace(0.0, 1.0, n_units, base=horizon)


def input_norms(input_dim: int, hidden_size: int, num_layers: int) -> nn.ModuleList:
    """
    :param input_dim: width of the first layer's inputs
    :param hidden_size: width of the others'
    :param num_layers: layers
    :return: what normalises the inputs of each layer
    """
    return nn.ModuleList(nn.LayerNorm(hidden_size if i else input_dim) for i in range(num_layers))
