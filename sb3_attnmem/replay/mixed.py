"""Batches that hold a fixed share of older data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.common.observations import Observation
from sb3_attnmem.replay.batches import SequencePart, SequenceSamples, join_samples
from sb3_attnmem.replay.buffer import SequenceReplayBuffer
from sb3_attnmem.replay.priorities import PrioritizedSequenceReplayBuffer


class _OfTheNew:
    """An attribute that is read from, and set on, the buffer that transitions are added to."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, mixed: "MixedSequenceReplayBuffer", owner: type | None = None) -> Any:
        return self if mixed is None else getattr(mixed.new, self.name)

    def __set__(self, mixed: "MixedSequenceReplayBuffer", value: Any) -> None:
        setattr(mixed.new, self.name, value)


class MixedSequenceReplayBuffer(SequenceReplayBuffer):
    """
    Holds a buffer that transitions are added to, and older ones that nothing is added to any more, and draws a fixed
    share of each batch from those. While the new one is empty, all of a batch is old. Size, environments and room are
    those of the new one.

    The share is exact where it gives whole sequences; a fraction is tossed for, so that it is exact on average. Several
    older buffers have equal parts of it. Each buffer keeps priorities of its own.

    :param new: that transitions are added to
    :param olds: older buffers, each of which holds something
    :param old_share: of each batch, in (0, 1)
    :raises ValueError: when the buffers replay other sequences than one another, an old one is empty, or the share is
        none
    """

    def __init__(self, new: SequenceReplayBuffer, olds: Sequence[SequenceReplayBuffer], old_share: float) -> None:
        # No constructor of a base class: what the buffer has, it has from `new`
        hint = "0.5: half of each batch is old. All old is learn_offline; all new is a buffer without old data."
        old_share = check_number("old_share", old_share, above=0, below=1, hint=hint)
        if not olds:
            raise ValueError("There is no old buffer to draw from.")
        for old in olds:
            _check_alike(new, old)
        self.new, self.olds, self.old_share = new, list(olds), old_share

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "new" not in state:
            # Pickled when a mixed buffer was the new one itself, with the older ones beside its own attributes
            olds, old_share = state.pop("olds"), state.pop("old_share")
            new_class = PrioritizedSequenceReplayBuffer if "priority_eta" in state else SequenceReplayBuffer
            new = new_class.__new__(new_class)
            new.__setstate__(state)
            state = dict(new=new, olds=olds, old_share=old_share)
        self.__dict__.update(state)

    observation_space = _OfTheNew()
    action_space = _OfTheNew()
    obs_shape = _OfTheNew()
    action_dim = _OfTheNew()
    n_envs = _OfTheNew()
    buffer_size = _OfTheNew()
    pos = _OfTheNew()
    full = _OfTheNew()
    optimize_memory_usage = _OfTheNew()
    handle_timeout_termination = _OfTheNew()
    sequence_length = _OfTheNew()
    burn_in = _OfTheNew()
    n_steps = _OfTheNew()
    state_interval = _OfTheNew()
    frame_stack = _OfTheNew()
    tapes = _OfTheNew()
    rng = _OfTheNew()
    priority_eta = _OfTheNew()

    @property
    def parts(self) -> list[SequenceReplayBuffer]:
        return [*self.olds, self.new]

    @property
    def is_empty(self) -> bool:
        return all(part.is_empty for part in self.parts)

    @property
    def is_prioritized(self) -> bool:
        return self.new.is_prioritized

    @property
    def device(self) -> th.device:
        return self.new.device

    @device.setter
    def device(self, device: th.device) -> None:
        for part in self.parts:
            part.device = device

    @property
    def mask_key(self) -> str | None:
        return self.new.mask_key

    @mask_key.setter
    def mask_key(self, key: str | None) -> None:
        for part in self.parts:
            part.mask_key = key

    def seed(self, seed: int | None) -> None:
        self.new.seed(seed)
        for i, old in enumerate(self.olds):
            old.seed(None if seed is None else seed + 1 + i)

    # What is done to the new data alone

    def size(self) -> int:
        return self.new.size()

    def reset(self) -> None:
        self.new.reset()

    def allocate(self, state_like: tuple[th.Tensor, ...] = ()) -> None:
        self.new.allocate(state_like)

    def stage_state(self, state: tuple[th.Tensor, ...]) -> None:
        self.new.stage_state(state)

    def stage_masks(self, valid: np.ndarray, successors_valid: np.ndarray) -> None:
        self.new.stage_masks(valid, successors_valid)

    def add(
        self,
        obs: Observation,
        next_obs: Observation,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self.new.add(obs, next_obs, action, reward, done, infos)

    def cut(self, which: np.ndarray | None = None) -> None:
        self.new.cut(which)

    def change_n_envs(self, n_envs: int) -> None:
        self.new.change_n_envs(n_envs)

    def window_range(self) -> tuple[np.ndarray, np.ndarray]:
        return self.new.window_range()

    def read(
        self,
        rows: np.ndarray,
        slots: np.ndarray,
        present: np.ndarray,
        starts: np.ndarray,
        env: VecNormalize | None = None,
    ) -> SequencePart:
        return self.new.read(rows, slots, present, starts, env)

    # What is done to all

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        batches = []
        batch_size = check_integer("batch_size", batch_size)
        counts = self._shares(batch_size, 1.0 if self.new.is_empty else self.old_share)
        for buffer, first_row, count in zip(self._in_rows(), self._first_rows(), counts, strict=True):
            if count:
                batch = buffer.sample(count, env)
                batches.append(batch._replace(drawn=(batch.drawn[0] + first_row, batch.drawn[1])))
        return join_samples(batches)

    def read_with_history(
        self, drawn: tuple[np.ndarray, np.ndarray], max_history: int, env: VecNormalize | None = None
    ) -> SequenceSamples:
        # What was drawn lies buffer by buffer, so joining keeps the order
        parts = [owner.read_with_history(theirs, max_history, env) for owner, theirs, _ in self.owners(drawn)]
        return join_samples(parts)._replace(drawn=drawn)

    def refresh_states(
        self, drawn: tuple[np.ndarray, np.ndarray], states: tuple[th.Tensor, ...], which: np.ndarray
    ) -> None:
        for owner, theirs, places in self.owners(drawn):
            tensors = tuple(tensor[th.as_tensor(places, device=tensor.device)] for tensor in states)
            owner.refresh_states(theirs, tensors, which[places])

    def anneal(self, progress: float) -> None:
        for part in self.parts:
            part.anneal(progress)

    def update_priorities(self, drawn: tuple[np.ndarray, np.ndarray], priorities: np.ndarray) -> None:
        for owner, theirs, places in self.owners(drawn):
            owner.update_priorities(theirs, priorities[places])

    def owners(
        self, drawn: tuple[np.ndarray, np.ndarray]
    ) -> list[tuple[SequenceReplayBuffer, tuple[np.ndarray, np.ndarray], np.ndarray]]:
        """
        Tell which buffers a batch is from.

        :param drawn: what a batch of :meth:`sample` says it drew
        :return: for each buffer that some of it is from: the buffer, what it drew, and the places in the batch
        """
        rows, windows = drawn
        first_rows, buffers = self._first_rows(), self._in_rows()
        owner = np.searchsorted(first_rows, rows, side="right") - 1
        found = []
        for i in np.unique(owner):
            places = np.flatnonzero(owner == i)
            found.append((buffers[i], (rows[places] - first_rows[i], windows[places]), places))
        return found

    def _in_rows(self) -> list[SequenceReplayBuffer]:
        """:return: the buffers in the order in which their tapes are counted: the new one's first"""
        return [self.new, *self.olds]

    def _first_rows(self) -> np.ndarray:
        """:return: the number of the first tape of each"""
        return np.cumsum([0, *(buffer.n_envs for buffer in self._in_rows()[:-1])])

    def _shares(self, batch_size: int, old_share: float) -> list[int]:
        """:return: sequences from the new data, and from each older buffer"""
        n_old = int(np.floor(batch_size * old_share + self.rng.random()))
        each, left = divmod(n_old, len(self.olds))
        counts = np.full(len(self.olds), each)
        counts[self.rng.permutation(len(self.olds))[:left]] += 1
        return [batch_size - n_old, *counts.tolist()]


#: What pickles of older versions call a mixed buffer with priorities
MixedPrioritizedSequenceReplayBuffer = MixedSequenceReplayBuffer


def _check_alike(new: SequenceReplayBuffer, old: SequenceReplayBuffer) -> None:
    if old is new or len(old.parts) > 1 or len(new.parts) > 1:
        raise ValueError("Buffers to mix must be plain ones; those of a mixed buffer are its `parts`.")
    for name in ("sequence_length", "burn_in", "n_steps", "observation_space", "action_space"):
        if getattr(new, name) != getattr(old, name):
            raise ValueError(f"The old buffer has {name}={getattr(old, name)}, the new one {getattr(new, name)}.")
    if old.is_prioritized != new.is_prioritized:
        raise ValueError(
            f"The old buffer is a {type(old).__name__}, the new one a {type(new).__name__}: both must have priorities, "
            "or none."
        )
    if old.tapes is None or old.is_empty:
        raise ValueError("The old buffer is empty: fill it first.")
    if new.tapes is not None and new.tapes.state_like != old.tapes.state_like:
        raise ValueError(
            f"The old buffer holds states of {old.tapes.state_like}, the new one of {new.tapes.state_like}: they serve "
            "other memories. fill_from_buffer recomputes them."
        )
