"""Two batches of sequences as one."""

from collections.abc import Sequence

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import TensorDict

from sb3_attnmem.replay.types import SequencePart, SequenceSamples


def join_samples(batches: Sequence[SequenceSamples]) -> SequenceSamples:
    """
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
    )


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
    observations = like.observations
    none: th.Tensor | TensorDict = (
        {key: tensor[:0] for key, tensor in observations.items()}
        if isinstance(observations, dict)
        else observations[:0]
    )
    mask = like.present.new_zeros(n_rows, like.present.shape[1])
    return SequencePart(none, like.position[:0], mask, mask)


def _join_parts(parts: Sequence[SequencePart], width: int, left: bool) -> SequencePart:
    """
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
    first = parts[0].observations
    observations: th.Tensor | TensorDict
    if isinstance(first, dict):
        observations = {key: th.cat([part.observations[key] for part in parts]) for key in first}  # type: ignore[index]
    else:
        observations = th.cat([part.observations for part in parts])  # type: ignore[misc]
    return SequencePart(
        observations=observations,
        position=th.cat(positions),
        present=th.cat([_widened(part.present, width, left) for part in parts]),
        episode_starts=th.cat([_widened(part.episode_starts, width, left) for part in parts]),
    )


def _widened(values: th.Tensor, width: int, left: bool) -> th.Tensor:
    """:return: (B, T), padded with zeros to ``width`` columns"""
    missing = width - values.shape[1]
    return th.nn.functional.pad(values, (missing, 0) if left else (0, missing))
