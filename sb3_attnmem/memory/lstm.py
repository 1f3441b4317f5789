"""Long short-term memory."""

from torch import nn

from sb3_attnmem.memory.rnn import RNNMemory


class LSTMMemory(RNNMemory):
    """
    Long short-term memory (Hochreiter & Schmidhuber, 1997, https://doi.org/10.1162/neco.1997.9.8.1735).

    State: (h, c), each (B, num_layers, H). See :class:`~sb3_attnmem.memory.rnn.RNNMemory` for the parameters.
    """

    n_state_tensors = 2

    def _make_rnn(self) -> nn.LSTM:
        return nn.LSTM(self.input_dim, self.hidden_size, self.num_layers, batch_first=True)
