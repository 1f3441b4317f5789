"""Long short-term memory."""

from typing import ClassVar

import torch as th
from torch import nn

from sb3_attnmem.memory.base import MemoryState
from sb3_attnmem.memory.rnn import SHUT, RNNMemory


class LSTMMemory(RNNMemory):
    """
    Long short-term memory (Hochreiter & Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735).

    State: (h, c), each (B, num_layers, H). See :class:`~sb3_attnmem.memory.rnn.RNNMemory` for the parameters.
    """

    n_state_tensors = 2
    state_names = ("h", "c")
    spread_gates: ClassVar[dict[int, int]] = {0: -1, 1: 1}  # of i, f, g, o

    def _make_rnn(self) -> nn.LSTM:
        return nn.LSTM(self.input_dim, self.hidden_size, self.num_layers, batch_first=True)

    def _flush_column(self, bias_ih: th.Tensor) -> th.Tensor:
        # Gates i, f, g, o: nothing in (i), nothing kept (f), nothing out (o)
        column = bias_ih.new_full((4, self.hidden_size), SHUT)
        column[2] = 0.0
        return column.view(-1, 1)

    def _run_layer(
        self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]
    ) -> tuple[th.Tensor, MemoryState]:
        latents, h, c = th.lstm(inputs, state, weights, True, 1, 0.0, self.training, False, True)
        return latents, (h, c)

    def _step_layer(self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]) -> MemoryState:
        return th.lstm_cell(inputs, state, *weights)
