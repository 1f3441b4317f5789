"""Whether evaluation counts rewards as training does: of other units, its scores say nothing beside training's."""

from typing import NamedTuple

import numpy as np

from sb3_attnmem.doctor.records import RunRecord

#: episodes of training below which nothing is said
LEAST_EPISODES = 20


class Units(NamedTuple):
    """
    :param evaluation: size of what a step of evaluation brings, the median
    :param training: of a step of training
    """

    evaluation: float
    training: float


def units_that_differ(record: RunRecord) -> Units | None:
    """
    Rewards of other units: what a step brings is ten times that of any episode of training, and so is the return where
    training's steps bring now more, now less.

    :param record: of a run
    :return: what steps bring; None where units seem to be the same, or too little was written down
    """
    returns, lengths = record.episodes
    if record.evaluations is None or len(returns) < LEAST_EPISODES:
        return None
    evaluated, steps = np.abs(record.evaluations[1]), np.maximum(record.evaluations[2], 1.0)
    trained, a_step = np.abs(returns), np.abs(returns) / np.maximum(lengths, 1.0)
    alike = a_step.max() < 3 * a_step.min()
    larger = (evaluated / steps > 10 * a_step.max()) & (alike | (evaluated > 10 * trained.max()))
    smaller = (evaluated / steps < a_step.min() / 10) & (alike | (evaluated < trained.min() / 10)) & (evaluated > 0)
    if not len(evaluated) or not trained.max() or max(larger.mean(), smaller.mean()) < 0.9:
        return None
    return Units(float(np.median(evaluated / steps)), float(np.median(a_step)))
