"""Recurrent layers on top of one another, each with a state of its own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch as th
from torch import nn

from sb3_attnmem.memory.base import BaseMemory, MemoryState


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
        :param state: (B, *state_shape)
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
        self.residual = residual
        self.layers = nn.ModuleList(layers)
        self.norms = input_norms(input_dim, hidden_size, len(layers)) if layer_norm else None

    def initial_state(self, batch_size: int) -> MemoryState:
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, *layer.state_shape) for layer in self.layers)  # type: ignore[misc]

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents, last = features, []
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
    :raises ValueError: when ``horizon`` is below 1
    """
    if not horizon >= 1.0:
        raise ValueError(f"horizon={horizon!r} is a number of steps; it must be at least 1.")
    return th.logspace(0.0, 1.0, n_units, base=horizon)


def input_norms(input_dim: int, hidden_size: int, num_layers: int) -> nn.ModuleList:
    """
    :param input_dim: width of the first layer's inputs
    :param hidden_size: width of the others'
    :param num_layers: layers
    :return: what normalises the inputs of each layer
    """
    return nn.ModuleList(nn.LayerNorm(hidden_size if i else input_dim) for i in range(num_layers))
