"""What LSTM and GRU share: a fused kernel over time that knows no resets, given them."""

from abc import abstractmethod

import torch as th
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sb3_attnmem.memory.base import BaseMemory, MemoryState, Segments, split_at_starts


class RNNMemory(BaseMemory):
    """
    A stacked ``nn.LSTM`` or ``nn.GRU``. Tapes without an inner episode start take one fused kernel call;
    others are cut at their starts into the rows of one padded batch, which takes one call as well.

    State: one (``nn.GRU``: h) or two (``nn.LSTM``: h, c) tensors of shape (B, num_layers, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the state and of the latents
    :param num_layers: stacked layers
    :raises ValueError: when a size is not a positive integer
    """

    n_state_tensors: int

    def __init__(self, input_dim: int, hidden_size: int = 128, num_layers: int = 1) -> None:
        for name, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{type(self).__name__} got {name}={value!r}; it must be an integer of at least 1.")
        super().__init__(input_dim, latent_dim=hidden_size)
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.rnn = self._make_rnn()

    @abstractmethod
    def _make_rnn(self) -> nn.LSTM | nn.GRU:
        """:return: the batch-first kernel"""

    def initial_state(self, batch_size: int) -> MemoryState:
        weight = self.rnn.weight_hh_l0
        zeros = weight.new_zeros(batch_size, self.num_layers, self.hidden_size)
        return (zeros,) * self.n_state_tensors

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        state = self.reset_where(episode_starts[:, 0], state)
        if not _starts_inside(episode_starts):
            return self._run(features, state)
        segments = split_at_starts(features, episode_starts)
        latents, last = self._run_packed(segments.features, segments.lengths, self._states_of(segments, state))
        return (
            latents.flatten(0, 1)[segments.index].view(*features.shape[:2], -1),
            tuple(tensor[segments.closes_row] for tensor in last),
        )

    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        state = self.reset_where(episode_starts[:, 0], state)
        if not _starts_inside(episode_starts):
            return self._run(features, state)[0]
        # The fused kernel runs on into a segment's padding, which spoils only its last state: nobody reads that here
        segments = split_at_starts(features, episode_starts)
        latents, _ = self._run(segments.features, self._states_of(segments, state))
        return latents.flatten(0, 1)[segments.index].view(*features.shape[:2], -1)

    def advance(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        state = self.reset_where(episode_starts[:, 0], state)
        if not _starts_inside(episode_starts):
            return self._run(features, state)[1]
        # Only what follows the last start of each tape can reach its last state
        segments = split_at_starts(features, episode_starts)
        keep = segments.closes_row
        initial = tuple(tensor[keep] for tensor in self._states_of(segments, state))
        return self._run_packed(segments.features[keep], segments.lengths[keep], initial)[1]

    def _states_of(self, segments: Segments, state: MemoryState) -> MemoryState:
        """:return: the state before each segment: the tape's own for its first segment, the initial one for the rest"""
        per_segment = tuple(tensor[segments.row] for tensor in state)
        return self.reset_where(~segments.opens_row, per_segment)

    def _run(self, features: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        latents, last = self.rnn(features, self._to_kernel(state))
        return latents, self._from_kernel(last)

    def _run_packed(
        self, features: th.Tensor, lengths: th.Tensor, state: MemoryState
    ) -> tuple[th.Tensor, MemoryState]:
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        latents, last = self.rnn(packed, self._to_kernel(state))
        padded, _ = pad_packed_sequence(latents, batch_first=True, total_length=features.shape[1])
        return padded, self._from_kernel(last)

    @staticmethod
    def _to_kernel(state: MemoryState) -> th.Tensor | MemoryState:
        # (B, layers, H) -> (layers, B, H)
        tensors = tuple(tensor.transpose(0, 1).contiguous() for tensor in state)
        return tensors if len(tensors) > 1 else tensors[0]

    @staticmethod
    def _from_kernel(last: th.Tensor | MemoryState) -> MemoryState:
        tensors = last if isinstance(last, tuple) else (last,)
        return tuple(tensor.transpose(0, 1) for tensor in tensors)


def _starts_inside(episode_starts: th.Tensor) -> bool:
    return episode_starts.shape[1] > 1 and bool(episode_starts[:, 1:].any())
