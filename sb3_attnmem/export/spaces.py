"""Spaces as JSON, for the metadata of a file."""

import math
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space


def describe(space: spaces.Space) -> dict[str, Any]:
    """
    :param space: one that Stable-Baselines3 knows
    :return: what JSON can hold of it: its type, and what an observation must be like
    :raises ValueError: for a space that DQN has no use for
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: describe(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound(space.low), "high": _bound(space.high)}
        return {"type": "Box", **_array(space), **bounds, "image": is_image_space(space)}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", **_array(space), "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", **_array(space), "nvec": space.nvec.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", **_array(space)}
    raise ValueError(f"{space} cannot be exported; Box, Discrete, MultiDiscrete, MultiBinary and Dict of these can.")


def _array(space: spaces.Space) -> dict[str, Any]:
    return {"shape": list(space.shape or ()), "dtype": np.dtype(space.dtype).name}


def _bound(values: np.ndarray) -> Any:
    """:return: one number if it is the same everywhere, else nested lists; infinity, which JSON lacks, as text"""
    alike = values.size > 0 and bool((values == values.flat[0]).all())
    return _numbers(values.flat[0].item() if alike else values.tolist())


def _numbers(values: Any) -> Any:
    if isinstance(values, list):
        return [_numbers(value) for value in values]
    return values if math.isfinite(values) else str(values)
