"""Observations on their way into a graph: checked, batched, in the type that it takes. numpy only."""

from typing import Any

import numpy as np

from sb3_attnmem.common.observations import check_finite
from sb3_attnmem.export.names import observation_name

#: the end of the message on an observation that is not finite
NOT_PREDICTED = "Nothing was predicted from it."
Description = dict[str, Any]


def to_inputs(observation: Any, space: Description) -> tuple[dict[str, np.ndarray], bool]:
    """
    :param observation: one, or a batch of B; for a Dict a dict
    :param space: of it, as the file's metadata describes it
    :return: name of the input -> (B, ...), and whether it was a batch (for one observation B is 1)
    :raises ValueError: when it is not one of that space
    """
    if isinstance(observation, tuple):
        raise ValueError(
            "predict() got a tuple instead of an observation. `obs, info = env.reset()` is Gymnasium's API, "
            "`obs = vec_env.reset()` that of SB3's VecEnv."
        )
    if space["type"] != "Dict":
        values, batched = _to_array(observation, space, "observation")
        check_finite("observation", values, None if batched else 0, NOT_PREDICTED)
        return {observation_name(None): values if batched else values[None]}, batched
    if not isinstance(observation, dict):
        raise ValueError(
            f"The observation is of type {type(observation).__name__}, expected a dict of {list(space['spaces'])}."
        )
    if observation.keys() != space["spaces"].keys():
        raise ValueError(f"The observation has the keys {sorted(observation)}, expected {sorted(space['spaces'])}.")
    parts = {key: _to_array(observation[key], part, f"observation['{key}']") for key, part in space["spaces"].items()}
    sizes = {key: len(values) if batched else None for key, (values, batched) in parts.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"The observation's keys have batches of different sizes (None: no batch): {sizes}.")
    any_batched = any(batched for _, batched in parts.values())
    for key, (values, _) in parts.items():
        check_finite(f"observation {key!r}", values, None if any_batched else 0, NOT_PREDICTED)
    return {
        observation_name(key): values if any_batched else values[None] for key, (values, _) in parts.items()
    }, any_batched


def _to_array(given: Any, space: Description, what: str) -> tuple[np.ndarray, bool]:
    """:return: ``given`` in the space's dtype, with its channels first if it is an image, and whether it is a batch"""
    shape = tuple(space["shape"])
    try:
        values = np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{what} is no array of shape {shape}: {error}") from error
    if space.get("image"):
        values = _channels_first(values, shape)
    if values.shape == shape:
        batched = False
    elif values.ndim == len(shape) + 1 and values.shape[1:] == shape and len(values):
        batched = True
    else:
        batch = ", ".join(["B", *map(str, shape)])
        raise ValueError(f"{what} has shape {values.shape}, expected {shape}, or ({batch}) for a batch of B.")
    values = _cast(values, np.dtype(space["dtype"]), what)
    _check_range(values, space, what)
    return values, batched


def _channels_first(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """:return: the image, or the batch, as SB3's ``predict`` turns it if it only fits so"""
    if image.ndim not in (3, 4) or shape in (image.shape, image.shape[1:]):
        return image
    turned = np.moveaxis(image, -1, -3)
    return turned if shape in (turned.shape, turned.shape[1:]) else image


def _cast(values: np.ndarray, dtype: np.dtype, what: str) -> np.ndarray:
    if values.dtype == dtype:
        return values
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{what} has dtype {values.dtype}, expected {dtype}.")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
    if not np.issubdtype(dtype, np.floating) and not np.array_equal(cast, values):
        raise ValueError(
            f"{what} has dtype {values.dtype} and values from {values.min()} to {values.max()} that {dtype} cannot "
            f"hold. Pass {dtype}, as the environment gives it."
        )
    return cast


def _check_range(values: np.ndarray, space: Description, what: str) -> None:
    highest = {"Discrete": space.get("n"), "MultiDiscrete": space.get("nvec"), "MultiBinary": 2}.get(space["type"])
    if highest is not None and not ((values >= 0) & (values < np.asarray(highest))).all():
        raise ValueError(f"{what} is {values.tolist()}, expected integers from 0, below {highest}.")


def to_starts(episode_start: Any, n: int) -> np.ndarray:
    """
    Check which observations begin an episode.

    :param episode_start: flags of any number type; None: none does
    :param n: observations
    :return: (n,) bool
    :raises ValueError: when they are no flags, or not as many
    """
    if episode_start is None:
        return np.zeros(n, np.bool_)
    starts = np.asarray(episode_start).reshape(-1)
    if starts.shape != (n,):
        raise ValueError(f"episode_start has shape {starts.shape}, but there are {n} observations.")
    if starts.dtype == np.bool_:
        return starts
    if starts.dtype.kind not in "iuf" or not np.isin(starts, (0, 1)).all():
        raise ValueError(f"episode_start={episode_start!r} must be True or False for each observation.")
    return starts.astype(np.bool_)
