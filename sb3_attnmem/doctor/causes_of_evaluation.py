"""Causes that lie between training and evaluation: another environment, other units, another limit."""

import math
from collections.abc import Iterator

import numpy as np

from sb3_attnmem.doctor.cause import Cause
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord
from sb3_attnmem.doctor.reward_units import units_that_differ

NAME = "evaluation_differs"
#: episodes of the greatest length that make it a limit
LEAST_AT_LIMIT = 3
SAME = (
    "Wrap the evaluation environment as the training's: the same wrappers, VecNormalize(training=False, "
    "norm_reward=False) with its statistics."
)


def evaluation(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Another environment in evaluation: the clearest sign of it."""
    for look in (_not_normalized, _other_observations, _other_limit, _other_rewards, _far_worse):
        found = look(record, progress)
        if found is not None:
            yield found
            return


def _not_normalized(record: RunRecord, progress: Progress | None) -> Cause | None:
    if record.trial is None or "obs" not in record.normalizes or record.trial.normalizes:
        return None
    return Cause(
        NAME,
        0.95,
        "The environment to play in does not normalise observations, and training did.",
        f"The run has vecnormalize.pkl; without it the agent scored {record.trial.returns.mean():.3g}.",
        SAME,
        certain=True,
    )


def _other_observations(record: RunRecord, progress: Progress | None) -> Cause | None:
    """Most observations lie further outside the range of the replay buffer than that range is wide."""
    trial, stored = record.trial, record.stored
    if trial is None or stored is None or trial.observations is None or stored.observations is None:
        return None
    seen, known = trial.observations, stored.observations
    if seen.shape[1] != known.shape[1] or len(known) < 100:
        return None
    low, high = known.min(axis=0), known.max(axis=0)
    width = np.maximum(high - low, 1e-3 * np.maximum(np.abs(high), 1.0))
    outside = (seen > high + width) | (seen < low - width)
    share = float(outside.any(axis=1).mean())
    if share < 0.5:
        return None
    place = int(outside.mean(axis=0).argmax())
    return Cause(
        NAME,
        0.95,
        "The environment to play in shows other observations than training did.",
        f"{share:.0%} of them lie far outside of what the replay buffer holds: number {place} is "
        f"{seen[:, place].mean():.3g} on average, and was between {low[place]:.3g} and {high[place]:.3g}; the agent "
        f"scored {trial.returns.mean():.3g}.",
        SAME,
        certain=True,
    )


def _other_limit(record: RunRecord, progress: Progress | None) -> Cause | None:
    """Episodes that last far longer than any of training, and all equally long."""
    lengths = record.episodes[1]
    if record.evaluations is None or len(lengths) < 20:
        return None
    longest, at_limit = float(lengths.max()), int((lengths == lengths.max()).sum())
    evaluated = float(record.evaluations[2].max())
    # Training ran into a limit, and evaluation went beyond it
    if at_limit < max(LEAST_AT_LIMIT, 0.05 * len(lengths)) or evaluated < 1.5 * longest:
        return None
    return Cause(
        NAME,
        0.8,
        "Evaluation has another time limit than training.",
        f"Evaluations last up to {evaluated:,.0f} steps on average; in training {at_limit / len(lengths):.0%} of the "
        f"episodes last {longest:,.0f}, none longer.",
        SAME,
        certain=True,
    )


def _other_rewards(record: RunRecord, progress: Progress | None) -> Cause | None:
    units = units_that_differ(record)
    if units is None:
        return None
    return Cause(
        NAME,
        0.9,
        "Evaluation counts rewards in other units than training.",
        f"A step of evaluation brings {units.evaluation:.3g}, one of training {units.training:.3g}.",
        "norm_reward=False for the evaluation's VecNormalize; the same reward wrappers, on the same side of Monitor.",
        certain=True,
    )


def _far_worse(record: RunRecord, progress: Progress | None) -> Cause | None:
    if progress is None or len(record.scores) < 20 or record.scores_come_from == "evaluations":
        return None
    if record.evaluations is not None:
        evaluations, what = record.evaluations[1][-5:], "The last evaluations"
    elif record.trial is not None:
        evaluations, what = record.trial.returns, "The episodes played now"
    else:
        return None
    evaluated = float(np.mean(evaluations))
    training = record.scores[-max(len(record.scores) // 5, 5) :]
    moved = progress.last - progress.first
    fell = training.mean() - evaluated
    error = math.sqrt(training.var() / len(training) + evaluations.var() / len(evaluations))
    if not (moved > 0 and progress.gain > 1.0 and fell > 0.6 * moved and fell > 3 * error):
        return None
    return Cause(
        NAME,
        0.9,
        "Evaluation is far worse than training: it does not see the same environment.",
        f"{what} scored {evaluated:.3g}, training {training.mean():.3g} (with exploration); it began at "
        f"{progress.first:.3g}.",
        SAME,
        certain=True,
    )
