"""The interface every memory implements, and the reset written once for all fused recurrent kernels."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch as th
from torch import nn

MemoryState = tuple[th.Tensor, ...]


class BaseMemory(nn.Module, ABC):
    """
    What a Q-network carries from one step to the next.

    Letters: B sequences (or environments), T steps, D features in, H latents out.
    The caller owns the state; a memory holds weights only, so acting, evaluation and the
    target network never disturb one another.

    A subclass sets its own named options in ``__init__`` and implements :meth:`initial_state` and :meth:`forward`.

    :param input_dim: D, the number of features a step brings
    :param latent_dim: H, the number of latents a step gives
    :raises ValueError: when a dimension is not a positive integer
    """

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        for name, value in (("input_dim", input_dim), ("latent_dim", latent_dim)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{type(self).__name__} got {name}={value!r}; it must be an integer of at least 1.")
        self.input_dim = input_dim
        self.latent_dim = latent_dim

    @abstractmethod
    def initial_state(self, batch_size: int) -> MemoryState:
        """
        :param batch_size: B
        :return: the state before the first step of an episode, on the memory's device; every tensor is (B, ...)
        """

    @abstractmethod
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        :param features: (B, T, D) float
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool, True on the first step of an episode;
            nothing earlier, ``state`` included, may reach that step or a later one
        :return: latents (B, T, H), and the state after the last step with the structure, shapes and dtypes of ``state``
        """

    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        """
        The latents alone, for training, where nobody reads the last state.
        A memory whose last state costs extra overrides this.

        :param features: (B, T, D)
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool
        :return: latents (B, T, H)
        """
        return self(features, state, episode_starts)[0]

    def advance(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        """
        The last state alone, for burn-in, where nobody reads the latents.

        :param features: (B, T, D)
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool
        :return: the state after the last step
        """
        return self(features, state, episode_starts)[1]

    def reset_where(self, starts: th.Tensor, state: MemoryState) -> MemoryState:
        """
        :param starts: (B,) bool
        :param state: tensors (B, ...)
        :return: ``state`` with the initial state in the rows where ``starts`` is True
        """
        fresh = self.initial_state(starts.shape[0])
        return tuple(
            th.where(starts.view(-1, *[1] * (old.dim() - 1)), new, old) for new, old in zip(fresh, state, strict=True)
        )


class Segments(NamedTuple):
    """
    A batch of tapes cut at its episode starts: S segments, padded on the right to the longest (M steps).

    :param features: (S, M, D)
    :param lengths: (S,) long, the steps of each segment
    :param row: (S,) long, the tape a segment was cut from
    :param opens_row: (S,) bool, True for the first segment of a tape
    :param closes_row: (S,) bool, True for the last segment of a tape
    :param index: (B * T,) long, where step t of tape b lies among the S * M steps
    """

    features: th.Tensor
    lengths: th.Tensor
    row: th.Tensor
    opens_row: th.Tensor
    closes_row: th.Tensor
    index: th.Tensor


def split_at_starts(features: th.Tensor, episode_starts: th.Tensor) -> Segments:
    """
    Cut tapes at their episode starts, so that a kernel that knows no resets can run all episodes as one padded batch.

    :param features: (B, T, D)
    :param episode_starts: (B, T) bool
    """
    n_rows, n_steps, _ = features.shape
    cuts = episode_starts.clone()
    cuts[:, 0] = True
    begins = cuts.flatten().nonzero().squeeze(1)  # (S,) in the flattened (B * T) tape
    ends = th.cat([begins[1:], begins.new_tensor([n_rows * n_steps])])
    lengths = ends - begins
    longest = int(lengths.max())
    segment = th.repeat_interleave(lengths)  # (B * T,): the segment each step belongs to
    index = segment * longest + th.arange(n_rows * n_steps, device=features.device) - begins[segment]
    padded = features.new_zeros(len(begins) * longest, features.shape[2])
    padded = padded.index_copy(0, index, features.flatten(0, 1))
    return Segments(
        features=padded.view(len(begins), longest, -1),
        lengths=lengths,
        row=begins // n_steps,
        opens_row=begins % n_steps == 0,
        closes_row=ends % n_steps == 0,
        index=index,
    )
