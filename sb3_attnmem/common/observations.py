"""Observations that are an array, or a dict of arrays: one way to do the same to each."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

#: (n, ...) or a dict of such arrays
Observation = np.ndarray | dict[str, np.ndarray]

AnyValue = TypeVar("AnyValue")


def map_observation(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """
    Apply a function to an observation, or to each array of a dict.

    :param function: of one array (or tensor, or space) of each observation
    :param first: an observation
    :param others: more of the same structure, whose arrays go to the same call
    :return: its result, or the dict of its results, key by key
    """
    if isinstance(first, dict):
        return {key: function(value, *(other[key] for other in others)) for key, value in first.items()}
    return function(first, *others)


def arrays_of(observation: AnyValue | dict[str, AnyValue]) -> list[AnyValue]:
    """
    List the arrays of an observation.

    :param observation: an array, or a dict of arrays
    :return: the arrays, in order
    """
    return list(observation.values()) if isinstance(observation, dict) else [observation]


def named_arrays(observation: AnyValue | dict[str, AnyValue]) -> list[tuple[str | None, AnyValue]]:
    """
    List the arrays of an observation with their keys.

    :param observation: an array, or a dict of arrays
    :return: key and array; an array alone has the key None
    """
    return list(observation.items()) if isinstance(observation, dict) else [(None, observation)]


def n_rows(observation: Any) -> int:
    """
    Count the rows of an observation.

    :param observation: (n, ...), or a dict of such arrays
    :return: n
    """
    return len(arrays_of(observation)[0])


def rows_of(observation: Any, which: Any) -> Any:
    """
    Select rows of an observation.

    :param observation: (n, ...), or a dict of such arrays
    :param which: an index of the first axis: a mask, places or a slice
    :return: those rows
    """
    return map_observation(lambda array: array[which], observation)


def copy_observation(observation: Any) -> Any:
    """
    Copy an observation.

    :param observation: an array, or a dict of arrays, that somebody else may overwrite
    :return: the same, for good
    """
    return map_observation(np.array, observation)


def check_finite(
    name: str,
    values: np.ndarray | dict[str, np.ndarray],
    env: int | None = None,
    hint: str = "Nothing was learned from it; mend the environment (VecCheckNan finds the step).",
) -> None:
    """
    Look for values that are NaN or infinite.

    :param name: what it is
    :param values: (n_envs, ...), or (...) of one environment
    :param env: that environment
    :param hint: how to mend it
    :raises ValueError: where a value is not finite
    """
    if isinstance(values, dict):
        for key, array in values.items():
            check_finite(f"{name} {key!r}", array, env, hint)
        return
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.unique(np.argwhere(~np.isfinite(array))[:, 0]).tolist() if env is None else [env]
        raise ValueError(
            f"The {name} of environment(s) {bad} is not finite: {array[bad[0]] if env is None else array}. {hint}"
        )
