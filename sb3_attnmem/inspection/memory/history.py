"""How many observations an agent needs to play as it does: its score with the state rebuilt from the last k."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

#: Standard errors that a difference must exceed not to be taken for noise
SURE = 2.0


class Point(NamedTuple):
    """
    The score with the last k observations.

    :param k: the present one included
    :param mean: mean return
    :param error: its standard error; nan for one episode
    :param loss: mean of what full memory scores more, episode by episode from the same seeds
    :param loss_error: standard error of that difference
    """

    k: int
    mean: float
    error: float
    loss: float
    loss_error: float

    @property
    def noise(self) -> float:
        """A loss up to this may be chance; 0 where one episode tells nothing about chance."""
        return SURE * self.loss_error if math.isfinite(self.loss_error) else 0.0


class HistoryScore(NamedTuple):
    """
    The score by the number of observations.

    :param mean: mean return with full memory
    :param error: its standard error
    :param points: by k
    :param needed: the least k from which on the score is that of full memory, None where it is more than ``searched``
    :param allowed: the loss that is tolerated
    :param whole: as many observations are full memory: those of the longest episode, or that the memory can hold
    :param searched: the largest k that could have been found
    """

    mean: float
    error: float
    points: list[Point]
    needed: int | None
    allowed: float
    whole: int
    searched: int

    def point(self, k: int) -> Point | None:
        """
        Find what was measured with k observations.

        :param k: a number of observations
        :return: what was measured with them, None where nothing was
        """
        return next((point for point in self.points if point.k == k), None)


def within(score: HistoryScore, point: Point) -> bool:
    """:return: whether the point's loss is tolerated, or not to be told from chance"""
    return _tolerable(point, score.allowed)


def score_against_history(
    full: np.ndarray,
    returns_with: Callable[[int], np.ndarray],
    whole: int,
    max_history: int,
    tolerance: float,
) -> HistoryScore:
    """
    The analysis of R2D2 (Kapturowski et al., 2019, https://openreview.net/forum?id=r1lyTjAqYX), made exact:
    k = 1, 2, 4, … and then a bisection for the least k whose score is within the tolerance, as are those of all larger
    k that were tried. The bisection ends one step apart up to k = 32, and within a 32nd of k beyond.

    A score counts as within the tolerance when its loss is at most ``tolerance`` times the return of full memory (or
    the loss with one observation, where that is larger: returns may lie around zero), or not to be told from chance.

    :param full: (E,), returns with full memory
    :param returns_with: k -> (E,) returns of episodes from the same seeds
    :param whole: as many observations are full memory
    :param max_history: the largest k to try
    :param tolerance: a share, in (0, 1)
    :return: all that was measured
    """
    points: dict[int, Point] = {}

    def measure(k: int) -> Point:
        if k not in points:
            returns = returns_with(k)
            loss = full - returns
            points[k] = Point(k, float(returns.mean()), _error(returns), float(loss.mean()), _error(loss))
        return points[k]

    searched = min(whole, max_history)
    grid = [2**i for i in range(searched.bit_length()) if 2**i < searched]
    if max_history < whole:
        grid.append(max_history)
    for k in grid:
        measure(k)
    allowed = tolerance * max(abs(float(full.mean())), points[1].loss if 1 in points else 0.0)

    def is_enough(k: int) -> bool:
        if k >= whole:
            return True  # full memory itself
        return _tolerable(measure(k), allowed)

    enough = searched if is_enough(searched) else None
    too_few = 0
    for k in reversed(grid):
        if not is_enough(k):
            too_few = k
            break
        enough = k
    if enough is not None:
        while enough - too_few > max(1, enough // 32):
            middle = (too_few + enough) // 2
            if is_enough(middle):
                enough = middle
            else:
                too_few = middle
    return HistoryScore(
        float(full.mean()), _error(full), [points[k] for k in sorted(points)], enough, allowed, whole, searched
    )


def _tolerable(point: Point, allowed: float) -> bool:
    return point.loss <= max(allowed, point.noise)


def _error(values: np.ndarray) -> float:
    """:return: standard error of the mean"""
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
