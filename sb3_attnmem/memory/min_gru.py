"""Minimal gated recurrent unit."""

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.memory.convolution import convolve_steps
from sb3_attnmem.memory.scan import decay_with_starts, linear_scan
from sb3_attnmem.memory.stack import RecurrentLayer, StackedMemory, spread_steps


class MinGRULayer(RecurrentLayer):
    """
    x' = Σ_k w_k ⊙ x_{t−k}, z = σ(W_z x'), h_t = (1 − z_t) ⊙ h_{t−1} + z_t ⊙ W_h x'_t. The gate does not see the
    state, so that all steps are computed at once.

    Its state is h in the first H numbers, and behind them the last K − 1 inputs, oldest first.

    :param input_dim: D of its inputs
    :param hidden_size: H
    :param horizon: the units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic scale
    :param conv_size: K, steps that each channel of the inputs is convolved over
    """

    def __init__(self, input_dim: int, hidden_size: int, horizon: float, conv_size: int) -> None:
        super().__init__((hidden_size + (conv_size - 1) * input_dim,))
        self.hidden_size = hidden_size
        self.taps = nn.Parameter(conv_size**-0.5 * th.randn(conv_size, input_dim)) if conv_size > 1 else None
        self.linear = nn.Linear(input_dim, 2 * hidden_size)  # W_z and W_h
        # z = 1 / (steps + 1) at zero inputs (the chrono initialisation of Tallec & Ollivier, 2018), and states of
        # variances alike, although slow units take little in at a time
        steps = spread_steps(hidden_size, horizon)
        with th.no_grad():
            self.linear.bias[:hidden_size] = -steps.log()
            self.linear.weight[hidden_size:] *= (2.0 * steps + 1.0).sqrt().unsqueeze(-1)

    def forward(self, inputs: th.Tensor, state: th.Tensor, episode_starts: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        hidden, before = state[:, : self.hidden_size], state[:, self.hidden_size :]
        if self.taps is not None:
            before = before.unflatten(1, (-1, inputs.shape[2]))  # (B, K - 1, D)
            inputs, before = convolve_steps(inputs, before, episode_starts, self.taps)
            before = before.flatten(1)
        gate, candidate = self.linear(inputs).chunk(2, dim=-1)  # (B, T, H) each
        keep = (-gate).sigmoid()
        decay = decay_with_starts(keep, episode_starts)
        latents = linear_scan(decay, (1.0 - keep) * candidate, hidden)
        return latents, th.cat([latents[:, -1], before], dim=1)


class MinGRUMemory(StackedMemory):
    """
    Minimal gated recurrent unit (Feng et al., 2024, https://arxiv.org/abs/2410.01201): a GRU whose gate and candidate
    do not see the state. That makes it a linear recurrence, computed over time by a parallel scan; what depends on
    the state takes a second layer. Positive decays blur what came a few steps ago, so a short convolution over time
    comes first, as in the paper's larger models.

    State: one tensor a layer, (B, H + (conv_size - 1) * D), h and the last inputs; D is H but in the first layer.
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the state and of the latents
    :param num_layers: stacked layers
    :param layer_norm: whether each layer normalises its inputs
    :param residual: whether each layer but the first adds its inputs to its latents
    :param horizon: the units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic scale
    :param conv_size: steps that each channel of a layer's inputs is convolved over; 1 leaves the convolution out
    :raises ValueError: when a size is not a positive integer, a flag is not True or False, or ``horizon`` is below 1
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        layer_norm: bool = True,
        residual: bool = True,
        horizon: float = 100.0,
        conv_size: int = 4,
    ) -> None:
        input_dim = check_integer("input_dim", input_dim)
        hidden_size = check_integer("hidden_size", hidden_size)
        conv_size = check_integer("conv_size", conv_size)
        layers = [
            MinGRULayer(hidden_size if i else input_dim, hidden_size, horizon, conv_size)
            for i in range(check_integer("num_layers", num_layers))
        ]
        super().__init__(input_dim, hidden_size, layers, layer_norm, residual)
