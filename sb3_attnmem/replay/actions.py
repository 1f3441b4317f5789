"""Actions as one number each: those of a ``MultiDiscrete`` space are counted through, the last dimension fastest."""

from typing import Any

import numpy as np
from gymnasium import spaces


def n_actions_of(space: spaces.Space) -> int:
    """
    Count actions.

    :param space: ``Discrete`` or ``MultiDiscrete``
    :return: A; of a ``MultiDiscrete`` space the product of its dimensions
    """
    if isinstance(space, spaces.MultiDiscrete):
        return int(np.prod(space.nvec.astype(object)))  # Python's integers do not overflow
    assert isinstance(space, spaces.Discrete)
    return int(space.n)


def join_actions(space: spaces.Space, actions: Any) -> np.ndarray:
    """
    Give each action its number.

    :param space: ``Discrete`` or ``MultiDiscrete`` of D dimensions
    :param actions: (n, D) as a ``MultiDiscrete`` environment takes them; what has D = 1, or is (n,), is numbers already
    :return: (n,) numbers from 0 to A - 1
    :raises ValueError: when one is none of the space
    """
    array = np.asarray(actions)
    if not isinstance(space, spaces.MultiDiscrete) or array.ndim < 2 or len(space.nvec) == 1:
        return array.reshape(-1)
    parts = array.reshape(-1, len(space.nvec))
    # A NaN fails every comparison that must hold
    if not ((parts >= 0) & (parts < space.nvec) & (parts == np.floor(parts))).all():
        raise ValueError(f"action={array} must be integers from 0 to {(space.nvec - 1).tolist()}.")
    return np.asarray(np.ravel_multi_index(tuple(parts.astype(np.int64).T), tuple(space.nvec)))


def split_actions(space: spaces.Space, numbers: np.ndarray) -> np.ndarray:
    """
    Give actions the shape that the environment takes, the inverse of :func:`join_actions`.

    :param space: ``Discrete`` or ``MultiDiscrete`` of D dimensions
    :param numbers: (n,), or ()
    :return: (n, D) or (D,) for ``MultiDiscrete``, else the numbers
    """
    if not isinstance(space, spaces.MultiDiscrete):
        return numbers
    return np.stack(np.unravel_index(numbers, tuple(space.nvec)), axis=-1).astype(space.dtype)
