"""Settings as the RL Zoo's YAML writes them, written and read."""

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch as th
import yaml
from rl_zoo3.utils import ALGOS, get_class_by_name
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule

from sb3_attnmem.common.checks import check_keys
from sb3_attnmem.zoo.literals import classes_in, parse_literal

#: of an algorithm: what rl_zoo3 evaluates as Python where it stands as a string
EVALUATED = ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs")
#: arguments of an algorithm that no search draws: what they name would be imported, or is the run's own
NOT_DRAWN = {"self", "policy", "env", "tensorboard_log", "seed", "device", "verbose", "_init_setup_model"}


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
        elif name == "action_noise" and isinstance(value, (NormalActionNoise, OrnsteinUhlenbeckActionNoise)):
            normal = isinstance(value, NormalActionNoise)
            settings["noise_type"] = "normal" if normal else "ornstein-uhlenbeck"
            settings["noise_std"] = float(value._sigma[0])
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
    :raises TypeError: when they are not plain
    """
    head = "".join(f"# {line}\n" for line in comments)
    try:
        return head + yaml.safe_dump({env_id: settings}, sort_keys=False, width=120)
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"These settings cannot be written into a YAML file of the RL Zoo: {error}.") from None


def read_settings(settings: Any, algo: str, classes: Iterable[type] = ()) -> dict[str, Any]:
    """
    Read settings that somebody else wrote, such as those of a trial in a shared study.

    :param settings: in the RL Zoo's words
    :param algo: whose they are
    :param classes: that they may name besides ours, SB3's and torch's
    :return: the same, written anew from what was read: nothing else is left in it that rl_zoo3 would run
    :raises ValueError: when they are not data, or not what a search draws
    """
    if not isinstance(settings, Mapping):
        raise ValueError(f"settings must be a dict, got {type(settings).__name__}.")
    known = {*inspect.signature(ALGOS[algo].__init__).parameters, "noise_type", "noise_std"} - NOT_DRAWN
    check_keys("settings", settings, sorted(known), f"a search for {algo}")
    read = {}
    for name, value in settings.items():
        try:
            read[name] = parse_literal(value, classes) if name in EVALUATED and isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"settings: {name}: {error}") from None
        if name in EVALUATED and isinstance(read[name], str):  # which rl_zoo3 would evaluate a second time
            raise ValueError(f"settings: {name}: {read[name]!r} is a string within a string.")
    return as_settings(read)


def classes_named(settings: Mapping[str, Any]) -> set[type]:
    """
    :param settings: of the user's own file, before or after rl_zoo3 evaluated them
    :return: the classes that they name
    """
    classes = classes_in(dict(settings))
    for text in filter(lambda value: isinstance(value, str), settings.values()):
        named = (get_class_by_name(path) for path in re.findall(r"get_class_by_name\(\s*['\"]([\w.]+)['\"]\s*\)", text))
        classes |= {one for one in named if isinstance(one, type)}
    return classes
