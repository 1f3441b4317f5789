"""Make observations and episodes from elsewhere fit a model, or say why they do not."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecTransposeImage

from sb3_attnmem.common.checks import check_flag
from sb3_attnmem.common.observations import Observation, arrays_of
from sb3_attnmem.replay import Episode, join_actions, n_actions_of


def fit_spaces(theirs: spaces.Space, ours: spaces.Space) -> Callable[[Any], Any]:
    """
    Find out how observations of one space become those of another.

    :param theirs: of the data, or of an environment
    :param ours: of the model; the same, or with the channels of images first
    :return: function that makes observations (n, ...) of theirs ours
    :raises ValueError: when they do not fit
    """
    if theirs == ours:
        return lambda observations: observations
    if isinstance(theirs, spaces.Dict) and isinstance(ours, spaces.Dict) and set(theirs) == set(ours):
        fits = {key: fit_spaces(theirs[key], ours[key]) for key in ours}
        return lambda observations: {key: fit(observations[key]) for key, fit in fits.items()}
    if isinstance(theirs, spaces.Box) and is_image_space(theirs) and VecTransposeImage.transpose_space(theirs) == ours:
        return lambda observations: np.moveaxis(observations, -1, 1)
    raise ValueError(
        f"The data have observations of {theirs}, the model of {ours}. Record them from the environment, with all its "
        "wrappers, that the model is made for."
    )


def check_episode(number: int, episode: Any, space: spaces.Space, action_space: spaces.Space) -> Episode:
    """
    Check an episode, and make what it holds arrays of the types that are stored.

    :param number: of the episode, for messages
    :param episode: that a user passed; lists are taken for arrays
    :param space: of its observations
    :param action_space: of the model
    :return: the same episode
    :raises ValueError: when it is none, or holds something else
    """
    if not isinstance(episode, Episode):
        raise ValueError(
            f"Episode {number} is {_what(episode)}; pass Episode(observations, actions, rewards, terminated)."
        )
    actions, n_actions = _as_array(number, "actions", episode.actions), n_actions_of(action_space)
    if isinstance(action_space, spaces.MultiDiscrete) and actions.shape[1:] == action_space.shape:
        actions = join_actions(action_space, actions)
    rewards = _as_array(number, "rewards", episode.rewards)
    observations = _observations(number, episode.observations, space)
    n_steps, lengths = len(actions), {len(array) for array in arrays_of(observations)}
    if n_steps == 0 or lengths != {n_steps + 1} or len(rewards) != n_steps:
        raise ValueError(
            f"Episode {number} has {n_steps} actions, {len(rewards)} rewards and {sorted(lengths)} "
            "observations; it needs at least one action, as many rewards, and one observation more."
        )
    integers = actions.shape == (n_steps,) and actions.dtype.kind in "iu"
    if not integers or actions.min() < 0 or actions.max() >= n_actions:
        raise ValueError(
            f"Episode {number} has actions of shape {actions.shape} and type {actions.dtype} from {actions.min()} to "
            f"{actions.max()}; the model takes integers from 0 to {n_actions - 1}, one a step."
        )
    rewards = _as_type(number, "rewards", rewards, np.dtype(np.float32), ())
    terminated = check_flag(f"terminated of episode {number}", episode.terminated)
    valid = None
    if episode.valid is not None:
        valid = _as_array(number, "action masks", episode.valid) != 0
        if valid.shape != (n_steps + 1, n_actions) or not valid[np.arange(n_steps), actions].all():
            raise ValueError(
                f"Episode {number} has action masks of shape {valid.shape}; expected {(n_steps + 1, n_actions)}, and "
                "the actions taken must be valid."
            )
    return Episode(observations, actions.astype(np.int64), rewards, terminated, valid)


def _observations(number: int, observations: Any, space: spaces.Space) -> Observation:
    if isinstance(space, spaces.Dict):
        if not isinstance(observations, Mapping) or set(observations) != set(space):
            given = f"the keys {sorted(map(str, observations))}" if isinstance(observations, Mapping) else "no keys"
            raise ValueError(f"Episode {number} has observations with {given}; the space has {sorted(space)}.")
        return {key: _observations(number, observations[key], space[key]) for key in space}  # type: ignore[misc]
    array = _as_array(number, "observations", observations)
    if space.shape == () and array.shape[1:] == (1,):
        array = array[:, 0]  # as replay buffers store `Discrete` observations
    assert space.dtype is not None
    array = _as_type(number, "observations", array, space.dtype, space.shape or ())
    first, end = _integers_of(space)
    if array.size and ((array < first) | (array >= end)).any():
        raise ValueError(f"Episode {number} has observations from {array.min()} to {array.max()}, outside of {space}.")
    return array


def _integers_of(space: spaces.Space) -> tuple[Any, Any]:
    """:return: the first value and the one past the last; a Box's bounds are not looked at"""
    if isinstance(space, spaces.Discrete):
        return space.start, space.start + space.n
    if isinstance(space, spaces.MultiDiscrete):
        return space.start, space.start + space.nvec
    return (0, 2) if isinstance(space, spaces.MultiBinary) else (-np.inf, np.inf)


def _as_array(number: int, what: str, values: Any) -> np.ndarray:
    """
    :return: the values, an array of numbers with at least one axis
    :raises ValueError: when they are ragged, or no numbers
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"Episode {number} has {what} of different shapes; each step needs the same.") from error
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise ValueError(f"Episode {number} has {what} that are no array of numbers, but {_what(values)}.")
    return array


def _as_type(number: int, what: str, array: np.ndarray, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """
    :param number: of the episode
    :param what: the array holds
    :param array: (n, *shape)
    :param dtype: to store it as
    :param shape: of each step
    :return: the array of that type
    :raises ValueError: when it has another shape, or values that the type does not hold
    """
    if array.shape[1:] != shape and not (len(array) == 0 and array.ndim == 1):
        raise ValueError(f"Episode {number} has {what} of shape {array.shape[1:]} a step; the space has {shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"Episode {number} has {what} that are not finite.")
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        stored = array.astype(dtype)
    kept = np.isfinite(stored) if dtype.kind == "f" else stored == array
    if not kept.all():
        raise ValueError(
            f"Episode {number} has {what} of type {array.dtype} from {array.min()} to {array.max()}, which do not fit "
            f"into {dtype}."
        )
    return stored


def _what(value: Any) -> str:
    text = repr(value)
    return f"a {type(value).__name__} ({text if len(text) <= 60 else f'{text[:60]}…'})"
