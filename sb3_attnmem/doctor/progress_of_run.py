"""Whether a run learns: how far its score came, and whether it still moves."""

from typing import NamedTuple

import numpy as np

from sb3_attnmem.doctor.records import RunRecord, threshold_of
from sb3_attnmem.doctor.reward_units import units_that_differ


class Progress(NamedTuple):
    """
    :param first: mean score of the first tenth
    :param last: of the last fifth
    :param best: of the best fifth
    :param gain: last - first, in deviations of the first tenth; or that of evaluations
    :param rising: whether the last third is clearly better than the one before
    :param solved: whether Gymnasium's threshold is reached, or evaluations are at the largest return ever seen
    :param n_scores: that were seen
    """

    first: float
    last: float
    best: float
    gain: float
    rising: bool
    solved: bool
    n_scores: int

    @property
    def healthy(self) -> bool:
        """:return: whether it learned, or does: then what looks odd is a note, no illness"""
        return self.solved or (
            self.gain > 3.0 and (self.rising or self.last > self.best - 0.25 * abs(self.best - self.first))
        )


def measure_progress(record: RunRecord) -> Progress | None:
    """
    :param record: of a run
    :return: how it went; None where fewer than five scores were written down
    """
    scores = record.scores
    if len(scores) < 5:
        return None
    tenth, fifth, third = (max(len(scores) // part, 1) for part in (10, 5, 3))
    first = scores[: max(tenth, 3)]
    smooth = np.convolve(scores, np.ones(fifth) / fifth, mode="valid")
    last, best = float(scores[-fifth:].mean()), float(smooth.max())
    spread = max(float(first.std()), 0.02 * abs(float(first.mean())), 1e-6)
    before, after = scores[-2 * third : -third], scores[-third:]
    error = np.sqrt(before.var() / len(before) + after.var() / len(after)) + 1e-9
    rising = bool(after.mean() - before.mean() > 3 * error)
    gain = (last - float(first.mean())) / spread
    if units_that_differ(record) is not None:
        # Which of the two are the environment's own, and its threshold's, nothing tells
        return Progress(float(first.mean()), last, best, gain, rising, False, len(scores))
    threshold, evaluated = threshold_of(record.env_id), None
    if record.evaluations is not None:
        evaluated = float(np.mean(record.evaluations[1][-3:]))
        # Against the first one: a greedy policy may be better than a random one before it has learned anything
        gain = max(gain, (evaluated - float(record.evaluations[1][0])) / spread)
    solved = threshold is not None and max(last, -np.inf if evaluated is None else evaluated) >= threshold
    return Progress(float(first.mean()), last, best, gain, rising, bool(solved), len(scores))
