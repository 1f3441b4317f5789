"""Gated recurrent unit."""

from torch import nn

from sb3_attnmem.memory.rnn import RNNMemory


class GRUMemory(RNNMemory):
    """
    Gated recurrent unit (Cho et al., 2014, https://arxiv.org/abs/1406.1078).

    State: (h,), (B, num_layers, H). See :class:`~sb3_attnmem.memory.rnn.RNNMemory` for the parameters.
    """

    n_state_tensors = 1

    def _make_rnn(self) -> nn.GRU:
        return nn.GRU(self.input_dim, self.hidden_size, self.num_layers, batch_first=True)
