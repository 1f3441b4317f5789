"""Which windows there are, that each is drawn alike, and which slots they read, on tapes that were filled by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from gymnasium import spaces

from sb3_attnmem.replay.tapes import Tapes
from sb3_attnmem.replay.windows import WindowShape, draw_windows, locate_windows, window_range

SHAPES = [WindowShape(4, 0, 1, 4), WindowShape(4, 8, 2, 2), WindowShape(3, 6, 1, 1), WindowShape(1, 0, 3, 1)]


def fill(n_envs: int, n_steps: int, block: int, filled: slice = slice(None)) -> Tapes:
    """:return: tapes of 24 slots, of which some are filled with episodes of 7 steps that a time limit ends"""
    tapes = Tapes(n_envs, 24, block, spaces.Box(-1, 1, (1,), np.float32), 2, [])
    one = Tapes(1, 24, block, spaces.Box(-1, 1, (1,), np.float32), 2, [])
    for step in range(n_steps):
        observation, flag = np.full((1, 1), step % 7, np.float32), np.array([step % 7 == 6])
        one.append(observation, observation + 1, np.zeros(1), np.zeros(1), flag & False, flag, ())
    for array, source in zip(tapes.arrays(), one.arrays(), strict=True):
        array[filled] = source
    tapes.heads[filled], tapes.open[filled] = one.heads, one.open
    return tapes


def check_range(tapes: Tapes, shape: WindowShape, find: Callable = window_range) -> None:
    """Worked out one by one: the windows whose learning part touches a slot that lives and is done."""
    first, last = find(tapes, shape)
    for row in range(tapes.n_envs):
        done = set(range(tapes.oldest[row], tapes.heads[row]))
        begins = {m: m * shape.interval + shape.burn_in for m in range(-60, 90)}
        wanted = [m for m, begin in begins.items() if done & set(range(begin, begin + shape.sequence_length))]
        assert list(range(first[row], last[row] + 1)) == wanted


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_steps", [1, 6, 7, 8, 23, 24, 25, 61])
def test_the_range_of_windows(shape: WindowShape, n_steps: int) -> None:
    check_range(fill(2, n_steps, shape.interval), shape)
    check_range(fill(4, n_steps, shape.interval, filled=slice(1, 3)), shape)


def every_draw(tapes: Tapes, shape: WindowShape, find: Callable = window_range) -> list[tuple[int, int]]:
    """:return: tape and window of each of the equally likely draws"""

    class InTurn:
        def integers(self, high: int, size: int) -> np.ndarray:
            return np.arange(high)

    rows, windows = draw_windows(*find(tapes, shape), 1, InTurn())  # type: ignore[arg-type]
    return list(zip(rows.tolist(), windows.tolist(), strict=True))


def check_draws(tapes: Tapes, shape: WindowShape, find: Callable = window_range) -> None:
    """Each window is drawn once in as many draws as there are; a tape that is empty is never drawn."""
    first, last = find(tapes, shape)
    draws = every_draw(tapes, shape, find)
    assert draws == [(row, m) for row in range(tapes.n_envs) for m in range(first[row], last[row] + 1)]
    assert {row for row, _ in draws} == set(np.flatnonzero(tapes.ends).tolist())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("filled", [slice(0, 1), slice(1, 3), slice(3, 4), slice(0, 4)])
def test_each_window_is_drawn_and_no_tape_that_is_empty(shape: WindowShape, filled: slice) -> None:
    check_draws(fill(4, 30, shape.interval, filled), shape)


def range_of_empty_tapes_too(tapes: Tapes, shape: WindowShape) -> tuple[np.ndarray, np.ndarray]:
    """Planted: an empty tape has the windows that would touch its slot 0, if there were something."""
    first, _ = window_range(tapes, shape)
    return first, (np.maximum(tapes.heads, 1) - 1 - shape.burn_in) // shape.interval


def range_of_what_is_written(tapes: Tapes, shape: WindowShape) -> tuple[np.ndarray, np.ndarray]:
    """Planted: windows that hold no more than the newest observation count as well."""
    first, _ = window_range(tapes, shape)
    last = (tapes.ends - 1 - shape.burn_in) // shape.interval
    return first, np.where(tapes.ends > 0, last, first - 1)


def range_of_whole_windows(tapes: Tapes, shape: WindowShape) -> tuple[np.ndarray, np.ndarray]:
    """Planted: windows that reach beyond what lives are left out."""
    first, last = window_range(tapes, shape)
    return np.maximum(first, (tapes.oldest - shape.burn_in) // shape.interval), last


@pytest.mark.parametrize("planted", [range_of_empty_tapes_too, range_of_what_is_written, range_of_whole_windows])
def test_wrong_ranges_are_caught(planted: Callable) -> None:
    shape = WindowShape(4, 8, 2, 2)
    with pytest.raises(AssertionError):
        check_range(fill(4, 30, 2, filled=slice(1, 3)), shape, planted)


def test_draws_from_empty_tapes_are_caught() -> None:
    with pytest.raises(AssertionError):
        check_draws(fill(4, 30, 2, slice(1, 3)), WindowShape(4, 8, 2, 2), range_of_empty_tapes_too)


def test_what_a_window_reads() -> None:
    """Slots 0 to 7 hold seven steps and their final observation, 8 to 12 four steps more and the newest one."""
    tapes = fill(1, 11, 2)
    shape = WindowShape(sequence_length=4, burn_in=2, n_steps=2, interval=2)
    located = locate_windows(tapes, shape, np.array([0, 0, 0]), np.array([-1, 2, 4]))
    # Window -1 begins at slot 0, window 2 at 6, window 4 at 10; 6 columns each, as far as there is something to read
    assert located.window.slots.tolist() == [list(range(i, i + 6)) for i in (0, 6, 10)]
    assert located.window.present.tolist() == [[True] * 6, [True] * 6, [True, True, True, False, False, False]]
    assert [np.flatnonzero(row).tolist() for row in located.window.starts] == [[0], [2], []]
    assert [np.flatnonzero(row).tolist() for row in located.transitions] == [
        [0, 1, 2, 3, 4, 5],
        [0, 2, 3, 4, 5],  # slot 7 holds the final observation
        [0, 1],
    ]
    assert [np.flatnonzero(row).tolist() for row in located.learning] == [[0, 1, 2, 3], [0, 2, 3], [0, 1]]
    # Nothing lies before an episode; two steps lie before slots 6 and 10, with the states stored at 4 and 8
    assert located.burn_in is not None
    assert located.burn_in.present.tolist() == [[False, False], [True, True], [True, True]]
    assert located.burn_in.slots[1:].tolist() == [[4, 5], [8, 9]] and located.burn_in.starts[2].tolist() == [
        True,
        False,
    ]
    assert located.state_slots.tolist() == [0, 4, 8]
