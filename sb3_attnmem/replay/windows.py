"""Windows over the tapes: which there are, how they are drawn, and which slots each of them reads."""

from typing import NamedTuple

import numpy as np

from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.replay.tapes import Tapes


class WindowShape(NamedTuple):
    """
    The parts of a window, in steps. Window m of a tape begins burning in at slot ``m * interval``, which may lie before
    the oldest slot, and its end beyond the newest.

    :param sequence_length: learning steps
    :param burn_in: steps before those
    :param n_steps: steps after those, that targets look ahead to
    :param interval: from the beginning of one window to the next; divides ``sequence_length`` and ``burn_in``
    """

    sequence_length: int
    burn_in: int
    n_steps: int
    interval: int


class SlotTable(NamedTuple):
    """
    Slots to read, T of each of B tapes.

    :param slots: (B, T)
    :param present: (B, T) bool, where there is something to read
    :param starts: (B, T) bool, the first steps of episodes
    """

    slots: np.ndarray
    present: np.ndarray
    starts: np.ndarray


class Located(NamedTuple):
    """
    Where B windows lie.

    :param window: the learning steps and those after them
    :param places: (B, T) where on the rings the window's slots lie
    :param burn_in: the steps before; None where no row has any
    :param state_slots: (B,) the slot whose stored state each row begins from
    :param transitions: (B, T) bool, as in ``SequenceSamples``
    :param terminals: (B, T) bool
    :param learning: (B, T) bool
    """

    window: SlotTable
    places: np.ndarray
    burn_in: SlotTable | None
    state_slots: np.ndarray
    transitions: np.ndarray
    terminals: np.ndarray
    learning: np.ndarray


def window_range(tapes: Tapes, shape: WindowShape) -> tuple[np.ndarray, np.ndarray]:
    """
    The windows whose learning part touches a transition that lives.

    :param tapes: of E environments
    :param shape: of the windows
    :return: (E,) the first and (E,) the last m of each tape; the last is before the first where a tape is empty
    """
    first = (tapes.oldest - shape.burn_in - shape.sequence_length) // shape.interval + 1
    last = (tapes.heads - 1 - shape.burn_in) // shape.interval
    return first, np.where(tapes.heads > 0, last, first - 1)


def draw_windows(
    first: np.ndarray, last: np.ndarray, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw uniformly from all windows.

    :param first: (E,) see :func:`window_range`
    :param last: (E,)
    :param n_draws: B
    :param rng: that draws
    :return: (B,) tapes and (B,) windows
    """
    n_windows = last - first + 1
    bounds = np.cumsum(n_windows)
    drawn = rng.integers(bounds[-1], size=n_draws)
    rows = np.searchsorted(bounds, drawn, side="right")
    return rows, first[rows] + drawn - (bounds - n_windows)[rows]


def locate_windows(
    tapes: Tapes, shape: WindowShape, rows: np.ndarray, windows: np.ndarray, burn_in: int | None = None
) -> Located:
    """
    Find the slots that windows read.

    :param tapes: that the windows lie on
    :param shape: of the windows
    :param rows: (B,) tapes
    :param windows: (B,) windows, within :func:`window_range`
    :param burn_in: steps before the learning part, a multiple of the interval; None: those of the shape
    :return: the slots to read
    """
    burn_in = shape.burn_in if burn_in is None else burn_in
    oldest = tapes.oldest[rows]
    begins = windows * shape.interval + shape.burn_in
    # A window that the ring's edge cuts begins at the oldest slot, whose state is stored
    firsts = np.maximum(begins, oldest)
    n_learning = (begins + shape.sequence_length - firsts)[:, None]
    columns = np.arange(shape.sequence_length + shape.n_steps)
    slots = firsts[:, None] + columns
    places = slots % tapes.n_slots
    tape = rows[:, None]
    kinds = tapes.kinds[tape, places]
    starts = tapes.starts[tape, places]
    present = (slots < tapes.ends[rows, None]) & (kinds != Slot.EMPTY) & (columns < n_learning + shape.n_steps)
    # Looking ahead never goes on into another episode
    present &= np.cumsum(starts & (columns >= n_learning), axis=1) == 0
    width = int(np.flatnonzero(present.any(axis=0))[-1]) + 1
    slots, places, kinds, present, starts = (array[:, :width] for array in (slots, places, kinds, present, starts))
    transitions = present & ((kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL))
    before, state_slots = locate_burn_in(tapes, rows, oldest, firsts, begins - burn_in, burn_in, starts[:, 0])
    return Located(
        window=SlotTable(slots, present, starts & present),
        places=places,
        burn_in=before,
        state_slots=state_slots,
        transitions=transitions,
        terminals=transitions & (kinds == Slot.TERMINAL),
        learning=transitions & (columns[:width] < n_learning),
    )


def locate_burn_in(
    tapes: Tapes,
    rows: np.ndarray,
    oldest: np.ndarray,
    firsts: np.ndarray,
    begins: np.ndarray,
    burn_in: int,
    window_starts: np.ndarray,
) -> tuple[SlotTable | None, np.ndarray]:
    """
    The steps before windows: from the last episode start before the window, else from the state stored ``burn_in``
    steps before it, else (the ring's edge cuts the burn-in) none at all.

    :param tapes: that the windows lie on
    :param rows: (B,) tapes
    :param oldest: (B,) their oldest slots
    :param firsts: (B,) the first slots of the windows
    :param begins: (B,) where burn-in would begin
    :param burn_in: steps from there to the window
    :param window_starts: (B,) bool, where a window begins with an episode
    :return: the slots to read, None where there are none, and (B,) the slot whose state each row begins from
    """
    if burn_in == 0:
        return None, firsts
    columns = np.arange(burn_in)
    slots = begins[:, None] + columns
    starts = tapes.starts[rows[:, None], slots % tapes.n_slots] & (slots >= oldest[:, None])
    last_start = np.where(starts, columns, -1).max(axis=1)
    burns_from = np.where(last_start >= 0, last_start, np.where(begins >= oldest, 0, burn_in))
    burns_from[window_starts | (begins + burn_in <= oldest)] = burn_in
    present = columns >= burns_from[:, None]
    state_slots = np.where(burns_from < burn_in, np.maximum(begins, oldest), firsts)
    left = int(burns_from.min())
    if left == burn_in:
        return None, state_slots
    present = present[:, left:]
    return SlotTable(slots[:, left:], present, starts[:, left:] & present), state_slots
