"""Observations of any space as vectors of a limited size."""

from typing import Any

import numpy as np
from gymnasium import spaces

#: numbers of an observation that are kept; larger images are averaged over blocks
LARGEST = 1_200


class ObservationReader:
    """
    Reads observations as flat vectors of float32. Discrete parts become one-hot codes, large images averages over
    blocks of pixels.

    :param space: of the observations
    """

    def __init__(self, space: spaces.Space) -> None:
        self.space = space
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def read(self, observation: Any) -> np.ndarray:
        """
        :param observation: of the space
        :return: (D,) float32
        """
        if isinstance(self.space, spaces.Box):
            vector = _pooled(np.asarray(observation, dtype=np.float32))
        elif isinstance(self.space, spaces.Dict):
            parts = [_pooled(_flat(self.space[key], observation[key])) for key in self.space.spaces]
            vector = np.concatenate([part.ravel() for part in parts])
        else:
            vector = _flat(self.space, observation)
        return vector.ravel()

    def cell(self, vector: np.ndarray) -> bytes:
        """
        :param vector: (D,) what :meth:`read` gave
        :return: the same for observations that are much alike: each number is one of five levels of its range so far
        """
        if self._low is None or self._high is None:
            self._low, self._high = vector.copy(), vector.copy()
        np.minimum(self._low, vector, out=self._low)
        np.maximum(self._high, vector, out=self._high)
        with np.errstate(invalid="ignore"):
            levels = 4.999 * (vector - self._low) / np.maximum(self._high - self._low, 1e-12)
        return np.asarray(levels, dtype=np.int8).tobytes()


def _flat(space: spaces.Space, value: Any) -> np.ndarray:
    if isinstance(space, spaces.Box):
        return np.asarray(value, dtype=np.float32)
    return np.asarray(spaces.flatten(space, value), dtype=np.float32)


def _pooled(array: np.ndarray) -> np.ndarray:
    """:return: images averaged over blocks until they are small enough"""
    while array.size > LARGEST and array.ndim >= 2:
        axes = np.argsort(array.shape)[-2:]  # the two longest are height and width
        for axis in axes:
            n = array.shape[axis] // 2 * 2
            array = np.take(array, range(n), axis=axis)
            array = (np.take(array, range(0, n, 2), axis=axis) + np.take(array, range(1, n, 2), axis=axis)) / 2
    return array.ravel()
