"""Minimal gated recurrent unit."""

import torch as th
from torch import nn

from sb3_attnmem.memory.scan import linear_scan
from sb3_attnmem.memory.stack import RecurrentLayer, StackedMemory, spread_steps


class MinGRULayer(RecurrentLayer):
    """
    z = σ(W_z x), h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ W_h x_t. The gate does not see the state, so that all steps are
    computed at once.

    :param input_dim: of its inputs
    :param hidden_size: H
    :param horizon: the units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic scale
    """

    def __init__(self, input_dim: int, hidden_size: int, horizon: float) -> None:
        super().__init__((hidden_size,))
        self.linear = nn.Linear(input_dim, 2 * hidden_size)  # W_z and W_h
        # z = 1 / (steps + 1) at zero inputs (the chrono initialisation of Tallec & Ollivier, 2018), and states of
        # variances alike, although slow units take little in at a time
        steps = spread_steps(hidden_size, horizon)
        with th.no_grad():
            self.linear.bias[:hidden_size] = -steps.log()
            self.linear.weight[hidden_size:] *= (2.0 * steps + 1.0).sqrt().unsqueeze(-1)

    def forward(self, inputs: th.Tensor, state: th.Tensor, episode_starts: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        gate, candidate = self.linear(inputs).chunk(2, dim=-1)  # (B, T, H) each
        keep = (-gate).sigmoid()
        decay = keep.masked_fill(episode_starts.unsqueeze(-1), 0.0)
        latents = linear_scan(decay, (1.0 - keep) * candidate, state)
        return latents, latents[:, -1]


class MinGRUMemory(StackedMemory):
    """
    Minimal gated recurrent unit (Feng et al., 2024, https://arxiv.org/abs/2410.01201): a GRU whose gate and candidate
    do not see the state. That makes it a linear recurrence, computed over time by a parallel scan; what depends on
    the state takes a second layer.

    State: (h,), (B, num_layers, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the state and of the latents
    :param num_layers: stacked layers
    :param layer_norm: whether each layer normalises its inputs
    :param residual: whether each layer but the first adds its inputs to its latents
    :param horizon: the units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic scale
    :raises ValueError: when a size is not a positive integer, or ``horizon`` is below 1
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        layer_norm: bool = True,
        residual: bool = True,
        horizon: float = 100.0,
    ) -> None:
        self._check_sizes(input_dim=input_dim, hidden_size=hidden_size, num_layers=num_layers)
        layers = [MinGRULayer(hidden_size if i else input_dim, hidden_size, horizon) for i in range(num_layers)]
        super().__init__(input_dim, hidden_size, layers, layer_norm, residual)
