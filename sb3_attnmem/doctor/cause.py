"""A cause, and what several of them are worked out from."""

import math
from typing import NamedTuple

from sb3_attnmem.doctor.records import RunRecord


class Cause(NamedTuple):
    """
    :param name: short and fixed
    :param score: from 0 to 1; from 0.5 on it is an illness
    :param title: a sentence
    :param evidence: the figures
    :param advice: the change to try first
    :param certain: it is an illness even where the score rises
    :param limits: it keeps a score from going further; that it rose, and then stopped, does not speak against it
    """

    name: str
    score: float
    title: str
    evidence: str
    advice: str
    certain: bool = False
    limits: bool = False


def between(value: float, low: float, high: float) -> float:
    """
    :param value: of a figure
    :param low: where it begins to tell something
    :param high: where it tells all
    :return: 0 at ``low``, 1 at ``high``, in between on a logarithmic scale
    """
    if value <= 0 or low <= 0:
        return float(value >= high)
    return min(max(math.log(value / low) / math.log(high / low), 0.0), 1.0)


def told(record: RunRecord, *names: str) -> str:
    """
    :param record: of a run
    :param names: of figures of its log
    :return: those that are there, to go on with in a sentence
    """
    pairs = [(name, record.last(name)) for name in names]
    return "".join(f", {name} {value:.3g}" for name, value in pairs if value is not None)


def per_update(record: RunRecord) -> float | None:
    """
    :param record: of a run of Q-learning
    :return: environment steps from one gradient step to the next
    """
    frequency = record.setting("train_freq")
    steps, unit = frequency if isinstance(frequency, (tuple, list)) and len(frequency) == 2 else (frequency, "step")
    gradient_steps = record.setting("gradient_steps") or 1
    if not isinstance(steps, (int, float)):
        return None
    counted = record.state.get("_transitions_per_update")  # a saved model's train_freq is in steps of its environments
    if counted:
        steps, unit = counted, "transition"
    if unit == "episode":
        steps = steps * (record.median_length or 1)
    elif unit == "step":
        steps = steps * int(record.state.get("n_envs", record.settings.get("n_envs", 1)) or 1)
    return 1.0 if gradient_steps < 0 else float(steps) / gradient_steps


def updates_made(record: RunRecord) -> float | None:
    """
    :param record: of a run of Q-learning
    :return: gradient steps so far
    """
    told = [*record.values("train/n_updates"), record.state.get("_n_updates", 0)]
    if max(told) > 0:
        return float(max(told))
    every = per_update(record)
    starts = float(record.setting("learning_starts") or 0)
    return None if every is None else max(record.total_steps - starts, 0.0) / every
