"""Causes that cost time: updates, evaluations, environments, threads."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sb3_attnmem.doctor.cause import Cause, between, per_update
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord

#: replay ratio from which on more updates were never found to help
MOST_REPLAY = 128.0
#: evaluations' steps over training's; less is allowed where a curve has more points than anybody looks at
MOST_EVALUATION, MOST_OF_MANY, MANY_EVALUATIONS = 5.0, 1.0, 50


class Pace(NamedTuple):
    """
    :param warm_up: environment steps a second before learning starts
    :param training: afterwards, evaluations included
    """

    warm_up: float
    training: float

    @property
    def update_share(self) -> float:
        """:return: share of the time that goes into what warm-up does not do"""
        return min(max(1.0 - self.training / max(self.warm_up, 1e-9), 0.0), 1.0)


def measure_pace(record: RunRecord) -> Pace | None:
    """
    :param record: of a run
    :return: from the times at which Monitor saw episodes end; None where there are too few, or no warm-up
    """
    starts, at = record.setting("learning_starts"), record.ended_at
    if not record.is_q_learning or not starts or len(at) < 20 or len(at) != len(record.episodes[1]):
        return None
    steps = np.cumsum(record.episodes[1])
    n = int((steps <= starts).sum())
    if n < 5 or len(steps) - n < 10 or at[n - 1] <= at[0]:
        return None
    warm_up = (steps[n - 1] - steps[0]) / (at[n - 1] - at[0])
    # In pieces, so that one pause (an evaluation, the night between two parts of a run) does not count
    edges = np.linspace(n - 1, len(steps) - 1, 11).astype(int)
    made, took = np.diff(steps[edges]), np.diff(at[edges])
    return Pace(float(warm_up), float(np.median(made[took > 0] / took[took > 0])) if (took > 0).any() else 0.0)


def too_many_updates(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Updates that take nearly all of the time."""
    every, batch, pace = per_update(record), record.setting("batch_size"), measure_pace(record)
    if not record.is_q_learning or not every or not batch:
        return
    learned = batch * (record.setting("sequence_length") or 1)
    ratio = learned / every
    if ratio <= MOST_REPLAY or (pace is not None and pace.update_share < 0.8):
        return
    told = ""
    if pace is not None:
        told = (
            f"; {pace.warm_up:,.0f} steps a second in warm-up, {pace.training:,.0f} since: updates take "
            f"{pace.update_share:.0%} of the time"
        )
    yield Cause(
        "too_many_updates",
        0.5 + 0.4 * between(ratio, MOST_REPLAY, 8 * MOST_REPLAY),
        "Nearly all of the time goes into updates.",
        f"An update of {learned:,} steps every {every:,.3g}: replay ratio {ratio:,.0f}{told}.",
        f"train_freq=({max(int(learned // 32), 1)}, 'transition')."
        if record.is_recurrent
        else f"train_freq={max(int(learned // 8), 1)}, gradient_steps=1.",
        certain=True,
    )


def evaluates_too_often(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Evaluations that play more than training does."""
    if record.evaluations is None or not record.total_steps:
        return
    ratio = record.evaluation_steps / record.total_steps
    limit = MOST_EVALUATION if len(record.evaluations[0]) <= MANY_EVALUATIONS else MOST_OF_MANY
    if ratio > limit:
        yield Cause(
            "evaluates_too_often",
            0.5 + 0.4 * between(ratio, limit, 8 * limit),
            "Evaluations play more than training does.",
            f"{len(record.evaluations[0])} evaluations of {record.evaluation_steps:,} steps in all, beside "
            f"{record.total_steps:,} of training.",
            f"eval_freq={max(record.total_steps // 20, 1):,}, n_eval_episodes=5.",
            certain=True,
        )


def one_at_a_time(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Environments that training waits for, and threads that wait for one another. Slow, and no illness."""
    pace, n_envs = measure_pace(record), int(record.state.get("n_envs") or 0)
    if pace is not None and n_envs == 1 and pace.update_share < 0.5:
        yield Cause(
            "one_environment",
            0.2,
            "Most of the time goes into acting, one environment at a time.",
            f"{pace.warm_up:,.0f} steps a second in warm-up, {pace.training:,.0f} with updates, n_envs=1.",
            "n_envs=8: a step of eight takes little longer than one (SubprocVecEnv where the environment is slow).",
        )
    threads = record.settings.get("num_threads")
    if isinstance(threads, int) and threads != 1 and not record.is_actor_critic:
        yield Cause(
            "threads",
            0.15,
            "Torch was given several threads.",
            f"num_threads={threads}" + (" (all cores)" if threads < 1 else "") + ".",
            "--num-threads 1: small networks are several times faster on one (docs/performance.md); pictures are not.",
        )
