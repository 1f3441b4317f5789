"""Batches that hold a fixed share of older data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.replay.joining import join_samples
from sb3_attnmem.replay.priorities import PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.sequences import SequenceReplayBuffer
from sb3_attnmem.replay.types import SequenceSamples


class OldDataMixin(SequenceReplayBuffer):
    """
    A buffer that draws a share of each batch from older buffers, which nothing is added to any more. While it is empty
    itself, all of a batch is old. Made by :func:`with_old_data`; what is said of a buffer elsewhere (its size, its
    environments, what :meth:`add` overwrites) is said of the new data.

    The share is exact where it gives whole sequences; a fraction is tossed for, so that it is exact on average. Several
    older buffers have equal parts of it.
    """

    olds: list[SequenceReplayBuffer]
    old_share: float

    def seed(self, seed: int | None) -> None:
        super().seed(seed)
        for i, old in enumerate(getattr(self, "olds", [])):
            old.seed(None if seed is None else seed + 1 + i)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        is_empty = self.tapes is None or not self.tapes.heads.any()
        batches = []
        for i, n_rows in enumerate(self._shares(batch_size, 1.0 if is_empty else self.old_share)):
            if n_rows == 0:
                continue
            batch = super().sample(n_rows, env) if i == 0 else self.olds[i - 1].sample(n_rows, env)
            # The tapes of the older buffers are counted on behind the new ones
            batches.append(batch._replace(drawn=(batch.drawn[0] + self._first_rows[i], batch.drawn[1])))
        return join_samples(batches)

    def read_with_history(
        self, drawn: tuple[np.ndarray, np.ndarray], max_history: int, env: VecNormalize | None = None
    ) -> SequenceSamples:
        # What was drawn lies buffer by buffer, so joining keeps the order
        parts = [
            super(OldDataMixin, self).read_with_history(theirs, max_history, env)
            if old is None
            else old.read_with_history(theirs, max_history, env)
            for old, theirs, _ in self._owners(drawn)
        ]
        return join_samples(parts)._replace(drawn=drawn)

    def refresh_states(
        self, drawn: tuple[np.ndarray, np.ndarray], states: tuple[th.Tensor, ...], which: np.ndarray
    ) -> None:
        for old, theirs, places in self._owners(drawn):
            tensors = tuple(tensor[th.as_tensor(places, device=tensor.device)] for tensor in states)
            if old is None:
                super().refresh_states(theirs, tensors, which[places])
            else:
                old.refresh_states(theirs, tensors, which[places])

    @property
    def _first_rows(self) -> np.ndarray:
        """:return: the number of the first tape of the new data, and of each older buffer"""
        return np.cumsum([0, self.n_envs, *(old.n_envs for old in self.olds[:-1])])

    def _shares(self, batch_size: int, old_share: float) -> list[int]:
        """:return: sequences from the new data, and from each older buffer"""
        n_old = int(np.floor(batch_size * old_share + self.rng.random()))
        each, left = divmod(n_old, len(self.olds))
        counts = np.full(len(self.olds), each)
        counts[self.rng.permutation(len(self.olds))[:left]] += 1
        return [batch_size - n_old, *counts.tolist()]

    def _owners(
        self, drawn: tuple[np.ndarray, np.ndarray]
    ) -> list[tuple[SequenceReplayBuffer | None, tuple[np.ndarray, np.ndarray], np.ndarray]]:
        """
        :param drawn: what a batch of :meth:`sample` says it drew
        :return: for each buffer that some of it is from: the older buffer (None: the new data), what that drew, and the
            places in the batch
        """
        rows, windows = drawn
        owner = np.searchsorted(self._first_rows, rows, side="right") - 1
        found = []
        for i in np.unique(owner):
            places = np.flatnonzero(owner == i)
            found.append(
                (
                    None if i == 0 else self.olds[i - 1],
                    (rows[places] - self._first_rows[i], windows[places]),
                    places,
                )
            )
        return found


class MixedSequenceReplayBuffer(OldDataMixin, SequenceReplayBuffer):
    """A :class:`SequenceReplayBuffer` with older data."""


class MixedPrioritizedSequenceReplayBuffer(OldDataMixin, PrioritizedSequenceReplayBuffer):
    """A :class:`PrioritizedSequenceReplayBuffer` with older data; every buffer keeps priorities of its own."""

    olds: list[PrioritizedSequenceReplayBuffer]  # type: ignore[assignment]

    def anneal(self, progress: float) -> None:
        super().anneal(progress)
        for old in self.olds:
            old.anneal(progress)

    def update_priorities(self, drawn: tuple[np.ndarray, np.ndarray], priorities: np.ndarray) -> None:
        for old, theirs, places in self._owners(drawn):
            if old is None:
                super().update_priorities(theirs, priorities[places])
            else:
                assert isinstance(old, PrioritizedSequenceReplayBuffer)
                old.update_priorities(theirs, priorities[places])


def with_old_data(
    new: SequenceReplayBuffer, olds: Sequence[SequenceReplayBuffer], old_share: float
) -> SequenceReplayBuffer:
    """
    :param new: that transitions are added to; it is changed
    :param olds: that nothing is added to any more; an empty list takes older data away again
    :param old_share: of each batch, in (0, 1)
    :return: ``new``, which draws that share of each batch from ``olds``
    :raises ValueError: when the buffers replay other sequences than one another, an old one is empty, or the share is
        none
    """
    if not 0 < old_share < 1:
        raise ValueError(
            f"old_share={old_share} must lie between 0 and 1 (0.5: half of each batch is old). All old is "
            "learn_offline; all new is a buffer without old data."
        )
    if not olds:
        raise ValueError("There is no old buffer to draw from.")
    for old in olds:
        _check_alike(new, old)
    prioritized = isinstance(new, PrioritizedSequenceReplayBuffer)
    plain = PrioritizedSequenceReplayBuffer if prioritized else SequenceReplayBuffer
    if not isinstance(new, OldDataMixin):
        if type(new) is not plain:
            raise ValueError(
                f"Old data can be mixed into a {plain.__name__}, not into a subclass of it ({type(new).__name__})."
            )
        new.__class__ = MixedPrioritizedSequenceReplayBuffer if prioritized else MixedSequenceReplayBuffer
    assert isinstance(new, OldDataMixin)
    new.olds, new.old_share = list(olds), old_share
    return new


def parts_of(buffer: SequenceReplayBuffer) -> list[SequenceReplayBuffer]:
    """
    Take a buffer apart.

    :param buffer: with or without older data; it loses that
    :return: the older buffers, then itself; those that hold nothing are left out
    """
    olds: list[SequenceReplayBuffer] = []
    if isinstance(buffer, OldDataMixin):
        olds = list(buffer.olds)
        prioritized = isinstance(buffer, PrioritizedSequenceReplayBuffer)
        state: dict[str, Any] = buffer.__dict__
        state.pop("olds"), state.pop("old_share")
        buffer.__class__ = PrioritizedSequenceReplayBuffer if prioritized else SequenceReplayBuffer  # type: ignore[assignment]
    return [part for part in (*olds, buffer) if part.tapes is not None and part.tapes.heads.any()]


def _check_alike(new: SequenceReplayBuffer, old: SequenceReplayBuffer) -> None:
    names = ("sequence_length", "burn_in", "n_steps", "observation_space", "action_space")
    for name in names:
        if getattr(new, name) != getattr(old, name):
            raise ValueError(f"The old buffer has {name}={getattr(old, name)}, the new one {getattr(new, name)}.")
    kinds = [isinstance(buffer, PrioritizedSequenceReplayBuffer) for buffer in (old, new)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"The old buffer is a {type(old).__name__}, the new one a {type(new).__name__}: both must have priorities, "
            "or none."
        )
    if old is new or isinstance(old, OldDataMixin):
        raise ValueError("An old buffer must be a plain one: take a mixed one apart first (`parts_of`).")
    if old.tapes is None or not old.tapes.heads.any():
        raise ValueError("The old buffer is empty: fill it first.")
    if new.tapes is not None and new.tapes.state_like != old.tapes.state_like:
        raise ValueError(
            f"The old buffer holds states of {old.tapes.state_like}, the new one of {new.tapes.state_like}: they serve "
            "other memories. fill_from_buffer recomputes them."
        )
