"""Whole episodes, read from a replay buffer's tapes and laid onto them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sb3_attnmem.common.observations import Observation, map_observation, rows_of
from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.replay.tape_buffer import TapeBuffer


class Episode(NamedTuple):
    """
    An episode of T steps.

    :param observations: (T + 1, ...), as the environment gave them, the one after the last action included; of a Dict
        space a dict of such arrays
    :param actions: (T,)
    :param rewards: (T,), as the environment gave them
    :param terminated: whether it ended by termination; if not (a time limit, a cut), the last observation is
        bootstrapped from
    :param valid: (T + 1, A) bool, the actions that were valid at each observation; None: all were, or the observations
        hold the mask
    """

    observations: Observation
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    valid: np.ndarray | None = None


def read_episodes(buffer: TapeBuffer) -> Iterator[Episode]:
    """
    Read all that a buffer holds, oldest first on each tape.

    :param buffer: a plain one
    :return: its episodes. One whose beginning was overwritten begins where the rest of it does; of stacked frames the
        older ones are zeros there, as at any beginning
    """
    tapes = buffer.tapes
    if tapes is None:
        return
    for row in range(tapes.n_envs):
        slots = np.arange(tapes.oldest[row], tapes.ends[row])
        kinds = tapes.kinds[row, slots % tapes.n_slots]
        begin = 0
        for end in np.flatnonzero((kinds == Slot.TERMINAL) | (kinds == Slot.FINAL)).tolist():
            chain = slots[begin : end + 1][kinds[begin : end + 1] != Slot.EMPTY]
            begin = end + 1
            terminated = bool(kinds[end] == Slot.TERMINAL)
            steps = chain if terminated else chain[:-1]
            if len(steps) == 0:
                continue
            rows = np.full(len(chain), row)
            stack = buffer.frame_stack
            observations = tapes.read(rows, chain) if stack is None else stack.rebuild(tapes, rows, chain, chain[0])
            valid = None if tapes.masks is None else tapes.masks.read(rows, chain % tapes.n_slots)
            if terminated:
                # Nobody looks at what comes after a termination: the last observation stands in for it
                observations = map_observation(lambda array: np.concatenate([array, array[-1:]]), observations)
                valid = None if valid is None else np.concatenate([valid, valid[-1:]])
            places = steps % tapes.n_slots
            actions = tapes.actions[row, places].astype(np.int64)
            yield Episode(observations, actions, tapes.rewards[row, places], terminated, valid)


def lay_episodes(buffer: TapeBuffer, episodes: Sequence[Episode]) -> None:
    """
    Lay episodes on the tapes of a buffer, behind what is there, each on the tape that is shortest then. The memory's
    states are left as they are.

    :param buffer: with room allocated
    :param episodes: of at least one step each, whose arrays fit the buffer's spaces
    :raises ValueError: when they have too little room, or begin with a stack of frames that cannot be rebuilt; nothing
        is laid then
    """
    tapes, stack = buffer.tapes, buffer.frame_stack
    assert tapes is not None
    if not buffer.handle_timeout_termination:
        episodes = [episode._replace(terminated=True) for episode in episodes]
    rows = _choose_rows(buffer, episodes)
    if stack is not None:
        for episode in episodes:
            stack.check_beginnings(rows_of(episode.observations, slice(1)))
        episodes = [episode._replace(observations=stack.newest(episode.observations)) for episode in episodes]
    # Nothing can fail from here on
    for row, episode in zip(rows, episodes, strict=True):
        tapes.lay(row, *episode)


def _choose_rows(buffer: TapeBuffer, episodes: Sequence[Episode]) -> list[int]:
    """
    :return: the tape for each episode
    :raises ValueError: when they have too little room
    """
    tapes = buffer.tapes
    assert tapes is not None
    ends = tapes.ends.copy()
    rows = []
    for episode in episodes:
        row = int(ends.argmin())
        # A final observation is kept only where something bootstraps from it
        ends[row] += len(episode.actions) + (not episode.terminated)
        rows.append(row)
    if ends.max() > tapes.n_alive * tapes.block:
        raise ValueError(
            f"The data have {sum(len(episode.actions) for episode in episodes)} transitions, too many for "
            f"buffer_size={buffer.buffer_size * buffer.n_envs}, whose {buffer.n_envs} tape(s) share them. Set "
            f"buffer_size to at least {int(ends.max()) * buffer.n_envs}."
        )
    return rows
