"""Gated recurrent unit."""

from typing import ClassVar

import torch as th
from torch import nn

from sb3_attnmem.memory.base import MemoryState
from sb3_attnmem.memory.rnn import SHUT, RNNMemory


class GRUMemory(RNNMemory):
    """
    Gated recurrent unit (Cho et al., 2014, https://arxiv.org/abs/1406.1078).

    State: (h,), (B, num_layers, H). See :class:`~sb3_attnmem.memory.rnn.RNNMemory` for the parameters.
    """

    n_state_tensors = 1
    state_names = ("h",)
    spread_gates: ClassVar[dict[int, int]] = {1: 1}  # of r, z, n

    def _make_rnn(self) -> nn.GRU:
        return nn.GRU(self.input_dim, self.hidden_size, self.num_layers, batch_first=True)

    def _flush_column(self, bias_ih: th.Tensor) -> th.Tensor:
        # h' = (1 - z) tanh(n) + z h with gates r, z, n: nothing of h in n (r), nothing kept (z), and n itself 0
        shut = bias_ih.new_full((2 * self.hidden_size,), SHUT)
        return th.cat([shut, -bias_ih[2 * self.hidden_size :]]).unsqueeze(1)

    def _run_layer(
        self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]
    ) -> tuple[th.Tensor, MemoryState]:
        latents, h = th.gru(inputs, state[0], weights, True, 1, 0.0, self.training, False, True)
        return latents, (h,)

    def _step_layer(self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]) -> MemoryState:
        return (th.gru_cell(inputs, state[0], *weights),)
