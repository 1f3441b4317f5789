"""Replay of windows that begin with episodes."""

import numpy as np

from sb3_attnmem.replay.buffer import SequenceReplayBuffer
from sb3_attnmem.replay.tapes import Tapes


class EpisodeSequenceReplayBuffer(SequenceReplayBuffer):
    """
    Replays windows that begin with episodes: where ``sequence_length`` holds the longest one, what an early step wrote
    into memory gets its gradient from every later step, and no window begins from a state that an older network left.
    In windows that begin anywhere, one of ``sequence_length / state_interval`` holds a whole long episode.

    A stored slot is drawn, each as likely as any other, and the window begins with its episode. Episodes that are
    shorter than a window are followed by the next ones, so that nothing is padding; longer ones are cut into windows
    of ``sequence_length``, the first of which begins with the episode, the others from stored states.

    Windows begin at multiples of ``state_interval``, up to that many steps less one before the episode: for whole
    episodes ``sequence_length`` must be at least the longest one's steps and that. Parameters are those of
    :class:`SequenceReplayBuffer`.
    """

    def _draw_windows(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        first, last = self.window_range()
        assert self.tapes is not None
        rows, slots = _draw_slots(self.tapes, batch_size, self.rng)
        begins = _episode_starts(self.tapes, rows, slots)
        reach = self.sequence_length - self.state_interval + 1  # whatever place of the grid a window begins at
        begins += (slots - begins) // reach * reach
        return rows, np.clip((begins - self.burn_in) // self.state_interval, first[rows], last[rows])


def _draw_slots(tapes: Tapes, n_draws: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """:return: (B,) tapes and (B,) slots, uniformly of all that live and are done"""
    n_slots = tapes.heads - tapes.oldest
    bounds = np.cumsum(n_slots)
    drawn = rng.integers(bounds[-1], size=n_draws)
    rows = np.searchsorted(bounds, drawn, side="right")
    return rows, tapes.oldest[rows] + drawn - (bounds - n_slots)[rows]


def _episode_starts(tapes: Tapes, rows: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """
    :param tapes: that the slots lie on
    :param rows: (B,) tapes
    :param slots: (B,)
    :return: (B,) the first slots of their episodes; the oldest that lives, where the beginning does not any more
    """
    begins = np.empty_like(slots)
    for row in np.unique(rows):
        here, oldest = rows == row, tapes.oldest[row]
        places = np.flatnonzero(tapes.starts[row])
        starts = np.sort(oldest + (places - oldest) % tapes.n_slots)
        which = np.searchsorted(starts, slots[here], side="right") - 1
        begins[here] = np.where(which >= 0, starts[np.maximum(which, 0)], oldest)
    return begins
