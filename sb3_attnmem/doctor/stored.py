"""What a saved replay buffer holds: rewards, pieces of episodes and how they ended, the padding of its windows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl

from sb3_attnmem.replay import SequenceReplayBuffer
from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.replay.tapes import Tapes
from sb3_attnmem.replay.windows import draw_windows, locate_windows

#: bytes of a file that is read at most
LARGEST_FILE = 2_000_000_000
#: windows that padding is measured over, and observations that are looked at
N_WINDOWS, N_OBSERVATIONS = 500, 2_000
#: numbers of an observation that are compared at most
LARGEST_OBSERVATION = 30_000


class Stored(NamedTuple):
    """
    N transitions, in P pieces of episodes: what is stored of them.

    :param rewards: (N,) as the environment gave them
    :param lengths: (P,) steps
    :param terminated: (P,) bool, whether it ended by termination; else by a time limit, a cut, or not yet
    :param whole: (P,) bool, whether it is there from its first step to its end
    :param room: transitions that there is room for, of each environment
    :param padding: share of the steps of windows that hold nothing; None: it replays no windows
    :param observations: (n, D) some of them, flat, as the environment gave them; None: they are no plain arrays
    :param buffer: the buffer itself
    """

    rewards: np.ndarray
    lengths: np.ndarray
    terminated: np.ndarray
    whole: np.ndarray
    room: int
    padding: float | None
    observations: np.ndarray | None
    buffer: ReplayBuffer


def find_stored(folder: Path) -> Path | None:
    """
    :param folder: of a run
    :return: the newest replay buffer there; None where none was saved
    """
    return max(folder.rglob("*replay_buffer*.pkl"), key=lambda one: one.stat().st_mtime, default=None)


def read_stored(path: Path) -> Stored:
    """
    :param path: what ``save_replay_buffer`` wrote
    :return: what it holds
    :raises ValueError: for a file that is too large, or holds something else or nothing
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"{path.name}: {size / 1e9:.1f} GB, more than {LARGEST_FILE / 1e9:g} are not read")
    buffer: Any = load_from_pkl(path)
    if isinstance(buffer, SequenceReplayBuffer):
        return _of_sequences(buffer)
    if not isinstance(buffer, ReplayBuffer) or not buffer.size():
        raise ValueError(f"{path.name}: holds {type(buffer).__name__}, of no transitions that can be read")
    return _of_transitions(buffer)


def _of_transitions(buffer: ReplayBuffer) -> Stored:
    """:return: of SB3's own buffer"""
    n = buffer.size()
    order = np.roll(np.arange(n), -buffer.pos) if buffer.full else np.arange(n)
    dones = buffer.dones[order] > 0.5
    timeouts = buffer.timeouts[order] > 0.5
    pieces: list[tuple[int, bool, bool]] = []
    for env in range(buffer.n_envs):
        ends = np.flatnonzero(dones[:, env]).tolist()
        begin = 0
        for end in ends:
            pieces.append((end + 1 - begin, not timeouts[end, env], begin > 0 or not buffer.full))
            begin = end + 1
        if begin < n:
            pieces.append((n - begin, False, False))
    observations = getattr(buffer, "observations", None)
    if isinstance(observations, np.ndarray):
        observations = _some(observations[:n].reshape(n * buffer.n_envs, -1))
    else:
        observations = None
    rewards = np.asarray(buffer.rewards[order], dtype=float).ravel()
    return Stored(rewards, *_columns(pieces), buffer.buffer_size, None, observations, buffer)


def _of_sequences(buffer: SequenceReplayBuffer) -> Stored:
    """:return: of the newest part of a buffer of sequences"""
    plain = buffer.parts[-1]
    tapes = plain.tapes
    if tapes is None or plain.is_empty:
        raise ValueError("the replay buffer is empty")
    rewards, pieces, frames = [], [], []
    for row in range(tapes.n_envs):
        slots = np.arange(tapes.oldest[row], tapes.ends[row])
        places = slots % tapes.n_slots
        kinds = tapes.kinds[row, places]
        steps = (kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL)
        rewards.append(tapes.rewards[row, places[steps]])
        pieces += _pieces(tapes, row, places, kinds)
        if isinstance(tapes.observations, np.ndarray) and plain.frame_stack is None:
            chosen = places[steps][:: max(int(steps.sum()) * tapes.n_envs // N_OBSERVATIONS, 1)]
            frames.append(tapes.observations[row, chosen].reshape(len(chosen), -1))
    windows = draw_windows(*plain.window_range(), N_WINDOWS, np.random.default_rng(0))
    located = locate_windows(tapes, plain.window_shape, *windows)
    # Of the learning steps: those that a target looks ahead to are no loss
    padding = 1.0 - float(located.learning.sum()) / (N_WINDOWS * plain.sequence_length)
    observations = _some(np.concatenate(frames)) if frames else None
    joined = np.concatenate(rewards).astype(float)
    return Stored(joined, *_columns(pieces), plain.buffer_size, padding, observations, buffer)


def _pieces(tapes: Tapes, row: int, places: np.ndarray, kinds: np.ndarray) -> list[tuple[int, bool, bool]]:
    """:return: steps, whether it terminated, whether it is whole, of each piece on a tape"""
    found, begin = [], 0
    for end in np.flatnonzero((kinds == Slot.TERMINAL) | (kinds == Slot.FINAL)).tolist():
        terminated = bool(kinds[end] == Slot.TERMINAL)
        n = int((kinds[begin : end + 1] != Slot.EMPTY).sum()) - (not terminated)
        goes_on = bool(tapes.open[row]) and end == len(kinds) - 1
        if n:
            found.append((n, terminated, bool(tapes.starts[row, places[begin]]) and not goes_on))
        begin = end + 1
    return found


def _columns(pieces: list[tuple[int, bool, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths, terminated, whole = zip(*pieces, strict=True) if pieces else ((), (), ())
    return np.array(lengths, dtype=float), np.array(terminated, dtype=bool), np.array(whole, dtype=bool)


def _some(rows: np.ndarray) -> np.ndarray | None:
    if rows.shape[1] > LARGEST_OBSERVATION:
        return None
    return rows[:: max(len(rows) // N_OBSERVATIONS, 1)].astype(np.float32)
