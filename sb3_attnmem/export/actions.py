"""From a file's numbers to actions, greedy or drawn. numpy only."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Description = dict[str, Any]


def choose(values: np.ndarray, nvec: Sequence[int], rng: np.random.Generator | None = None) -> np.ndarray:
    """
    Choose one of each dimension.

    :param values: (..., sum of nvec), logits or Q-values of the choices; -inf where one is not valid
    :param nvec: number of choices of each of D dimensions
    :param rng: draws by the probabilities that the logits stand for; None: the best
    :return: (..., D) integers
    """
    if rng is not None:
        # The largest of logits with Gumbel noise is drawn by softmax
        values = values + rng.gumbel(size=values.shape)
    parts = np.split(values, np.cumsum(nvec)[:-1], axis=-1)
    return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)


def within_bounds(actions: np.ndarray, space: Description, squashed: bool) -> np.ndarray:
    """
    Bring actions into their space, as the ``predict`` of SB3's policies does.

    :param actions: (..., D), flat, on the policy's own scale
    :param space: a Box, as the file's metadata describes it
    :param squashed: whether the policy squashes (gSDE with ``squash_output``): tanh, then the space's scale; otherwise
        actions are clipped
    :return: (..., *shape)
    """
    shape, dtype = tuple(space["shape"]), np.dtype(space["dtype"])
    low, high = (np.broadcast_to(np.asarray(space[name], np.float64).astype(dtype), shape) for name in ("low", "high"))
    shaped = actions.reshape(*actions.shape[:-1], *shape)
    if squashed:
        return low + (0.5 * (np.tanh(shaped) + 1.0) * (high - low))
    return np.clip(shaped, low, high)


def to_valid(action_masks: Any, shape: tuple[int, ...], nvec: Sequence[int] | None = None) -> np.ndarray:
    """
    Check masks.

    :param action_masks: 1 or True where an action is valid
    :param shape: of the values, (..., A)
    :param nvec: number of choices of each dimension; None: they are of one
    :return: of that shape, True where an action is valid
    :raises ValueError: when they are of another shape, or allow no choice of a dimension
    """
    masks = np.asarray(action_masks)
    if masks.shape != shape and not (len(shape) == 2 and shape[0] == 1 and masks.shape == shape[1:]):
        raise ValueError(f"action_masks has shape {masks.shape}, expected {shape}, 1 for valid ones.")
    valid = masks.reshape(shape) != 0
    parts = np.split(valid, np.cumsum(nvec or [shape[-1]])[:-1], axis=-1)
    if not all(part.any(axis=-1).all() for part in parts):
        raise ValueError("An observation has no valid action: its action mask is all 0.")
    return valid
