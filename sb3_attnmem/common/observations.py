"""Observations that are an array, or a dict of arrays: one way to do the same to each."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

#: (n, ...) or a dict of such arrays
Observation = np.ndarray | dict[str, np.ndarray]

AnyValue = TypeVar("AnyValue")


def map_observation(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """
    Apply a function to each array of an observation.

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
    Count the observations in a batch.

    :param observation: (n, ...), or a dict of such arrays
    :return: n
    """
    return len(arrays_of(observation)[0])


def rows_of(observation: Any, which: Any) -> Any:
    """
    Pick observations from a batch.

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
