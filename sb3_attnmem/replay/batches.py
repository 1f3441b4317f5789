"""What a batch of replayed sequences looks like, and several batches as one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import TensorDict

from sb3_attnmem.common.observations import map_observation, rows_of


class SequencePart(NamedTuple):
    """
    Steps to unroll a network over. B sequences, T steps, N <= B * T frames that exist.

    :param observations: (N, ...) or a dict of such tensors: the frames that exist, in row-major order; padding has none
    :param position: (N,) long, where each frame lies among the B * T steps
    :param present: (B, T) bool, True where there is a frame
    :param episode_starts: (B, T) bool
    """

    observations: th.Tensor | TensorDict
    position: th.Tensor
    present: th.Tensor
    episode_starts: th.Tensor


class SequenceSamples(NamedTuple):
    """
    A batch of B windows. Column t of the (B, T) tensors is step t of the window; T covers the learning steps
    and the steps after them that n-step targets look ahead to.

    :param state: the acting network's state before the first frame of ``burn_in`` where a row has one,
        else before the first frame of ``window``; tensors (B, ...)
    :param burn_in: the steps before the window, right-aligned; None where no row has any
    :param window: the window, left-aligned
    :param actions: (B, T) long, the action taken at the step
    :param rewards: (B, T) float, the reward that followed
    :param transitions: (B, T) bool: an action was taken here (not so at the observation that ends a time-limited
        episode, at the newest observation of a tape, and in padding)
    :param terminals: (B, T) bool: the transition ended its episode by termination
    :param learning: (B, T) bool: the transition belongs to the learning part, so it enters the loss
    :param drawn: (B,) tapes and (B,) windows, to say what new priorities or refreshed states belong to
    :param weights: (B,) importance weights, None where all are 1
    :param valid: (B, T, A) bool, the actions that may be taken at the step; None where all may
    """

    state: tuple[th.Tensor, ...]
    burn_in: SequencePart | None
    window: SequencePart
    actions: th.Tensor
    rewards: th.Tensor
    transitions: th.Tensor
    terminals: th.Tensor
    learning: th.Tensor
    drawn: tuple[np.ndarray, np.ndarray]
    weights: th.Tensor | None = None
    valid: th.Tensor | None = None


def join_samples(batches: Sequence[SequenceSamples]) -> SequenceSamples:
    """
    Join batches into one.

    :param batches: of B_1, B_2, … windows, each as wide as its longest
    :return: all of them in one batch, padded to the widest; ``drawn`` is theirs, one after the other
    """
    width = max(batch.actions.shape[1] for batch in batches)
    weights = [batch.weights for batch in batches if batch.weights is not None]
    assert len(weights) in (0, len(batches)), "some batches have importance weights, others none"

    def rows(name: str) -> th.Tensor:
        return th.cat([_widened(getattr(batch, name), width, left=False) for batch in batches])

    return SequenceSamples(
        state=tuple(th.cat(tensors) for tensors in zip(*(batch.state for batch in batches), strict=True)),
        burn_in=_join_burn_ins(batches),
        window=_join_parts([batch.window for batch in batches], width, left=False),
        actions=rows("actions"),
        rewards=rows("rewards"),
        transitions=rows("transitions"),
        terminals=rows("terminals"),
        learning=rows("learning"),
        drawn=(
            np.concatenate([batch.drawn[0] for batch in batches]),
            np.concatenate([batch.drawn[1] for batch in batches]),
        ),
        weights=th.cat(weights) if weights else None,
        valid=_join_masks(batches, width),
    )


def _join_masks(batches: Sequence[SequenceSamples], width: int) -> th.Tensor | None:
    """:return: (B, T, A); all actions are valid in padding, and in batches without masks"""
    masks = [batch.valid for batch in batches if batch.valid is not None]
    if not masks:
        return None
    n_rows = sum(len(batch.actions) for batch in batches)
    joined = masks[0].new_ones(n_rows, width, masks[0].shape[-1])
    row = 0
    for batch in batches:
        if batch.valid is not None:
            joined[row : row + len(batch.actions), : batch.valid.shape[1]] = batch.valid
        row += len(batch.actions)
    return joined


def _join_burn_ins(batches: Sequence[SequenceSamples]) -> SequencePart | None:
    parts = [batch.burn_in for batch in batches]
    there = [part for part in parts if part is not None]
    if not there:
        return None
    empty = [
        _nothing(len(batch.actions), there[0]) if part is None else part
        for part, batch in zip(parts, batches, strict=True)
    ]
    return _join_parts(empty, max(part.present.shape[1] for part in there), left=True)


def _nothing(n_rows: int, like: SequencePart) -> SequencePart:
    """:return: ``n_rows`` rows without a frame"""
    mask = like.present.new_zeros(n_rows, like.present.shape[1])
    return SequencePart(rows_of(like.observations, slice(0)), like.position[:0], mask, mask)


def _join_parts(parts: Sequence[SequencePart], width: int, left: bool) -> SequencePart:
    """
    Join the steps of several batches, row after row.

    :param parts: (B_i, T_i) steps
    :param width: T >= T_i
    :param left: whether padding goes to the left
    :return: (B, T) steps
    """
    positions, n_rows = [], 0
    for part in parts:
        narrow = part.present.shape[1]
        row, column = part.position.div(narrow, rounding_mode="floor"), part.position % narrow
        positions.append((row + n_rows) * width + column + left * (width - narrow))
        n_rows += len(part.present)
    return SequencePart(
        observations=map_observation(lambda *tensors: th.cat(tensors), *(part.observations for part in parts)),
        position=th.cat(positions),
        present=th.cat([_widened(part.present, width, left) for part in parts]),
        episode_starts=th.cat([_widened(part.episode_starts, width, left) for part in parts]),
    )


def _widened(values: th.Tensor, width: int, left: bool) -> th.Tensor:
    """:return: (B, T), padded with zeros to ``width`` columns"""
    missing = width - values.shape[1]
    return th.nn.functional.pad(values, (missing, 0) if left else (0, missing))
