"""Settings as the RL Zoo's YAML writes them."""

from typing import Any

import torch as th
import yaml
from stable_baselines3.common.utils import LinearSchedule

#: of an algorithm: what rl_zoo3 evaluates as Python where it stands as a string
EVALUATED = ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs")


def as_settings(hyperparams: dict[str, Any]) -> dict[str, Any]:
    """
    :param hyperparams: arguments of an algorithm: numbers, strings, classes, a learning rate that falls to 0
    :return: the same in plain YAML, which rl_zoo3 turns into these arguments
    :raises TypeError: for what the RL Zoo's YAML has no word for
    """
    settings: dict[str, Any] = {}
    for name, value in hyperparams.items():
        if name in EVALUATED and not isinstance(value, str):
            settings[name] = _expression(value)
        elif name == "learning_rate" and callable(value):
            settings[name] = _rate(value)
        elif isinstance(value, tuple):
            settings[name] = list(value)
        elif isinstance(value, (bool, int, float, str, list, dict, type(None))):
            settings[name] = value
        else:
            raise TypeError(f"{name}={value!r} cannot be written into a YAML file of the RL Zoo.")
    return settings


def _rate(schedule: Any) -> str | float:
    begin, end = float(schedule(1.0)), float(schedule(0.0))
    if begin == end:
        return begin
    if end == 0.0 and not (isinstance(schedule, LinearSchedule) and schedule.end_fraction != 1.0):
        return f"lin_{begin!r}"
    raise TypeError(f"learning_rate={schedule!r}: the RL Zoo's YAML has constant rates and those that fall to 0.")


def _expression(value: Any) -> str:
    """:return: Python that rl_zoo3 evaluates to ``value``"""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_expression(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(_expression, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside},)"
    if isinstance(value, type):
        return f"get_class_by_name({value.__module__ + '.' + value.__qualname__!r})"
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    if isinstance(value, th.dtype):
        return str(value).replace("torch.", "th.")
    raise TypeError(f"{value!r} cannot be written into a YAML file of the RL Zoo.")


def to_yaml(env_id: str, settings: dict[str, Any], comments: list[str]) -> str:
    """
    :param env_id: of the environment
    :param settings: plain ones
    :param comments: lines above them
    :return: a file that ``train -conf`` takes
    """
    head = "".join(f"# {line}\n" for line in comments)
    return head + yaml.safe_dump({env_id: settings}, sort_keys=False, width=120)
