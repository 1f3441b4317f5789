"""Checks of transitions that were not collected by the model itself, before they are stored."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_attnmem.common.observations import Observation, arrays_of, map_observation
from sb3_attnmem.replay.stored_spaces import spaces_of, stored_shape

#: Shape (without the batch) and dtype of each tensor of a memory's state
StateLike = list[tuple[tuple[int, ...], np.dtype]]


def check_incoming(
    observation_space: spaces.Space,
    n_envs: int,
    n_actions: int,
    observations: dict[str, Observation],
    actions: np.ndarray,
    others: dict[str, Any],
) -> None:
    """
    Check a transition of every environment.

    :param observation_space: of the buffer
    :param n_envs: number of environments
    :param n_actions: number of actions
    :param observations: by the argument's name, (n_envs, ...)
    :param actions: (n_envs,)
    :param others: by the argument's name, one value an environment
    :raises ValueError: when a shape is wrong, an observation is not finite, or an action is none of the space
    """
    for name, observation in observations.items():
        _check_observation(name, observation, observation_space, n_envs)
    for name, values in dict(action=actions, **others).items():
        if len(values) != n_envs:
            raise ValueError(f"{name} has {len(values)} values; expected {n_envs}, one an environment.")
    # A NaN fails every comparison that must hold
    if (
        actions.dtype.kind not in "iuf"
        or not ((actions >= 0) & (actions < n_actions) & (actions == np.floor(actions))).all()
    ):
        raise ValueError(f"action={actions} must be integers from 0 to {n_actions - 1}.")


def _check_observation(name: str, observation: Observation, space: spaces.Space, n_envs: int) -> None:
    wanted = spaces_of(space)
    if isinstance(wanted, dict) and (not isinstance(observation, dict) or not wanted.keys() <= observation.keys()):
        given = sorted(observation) if isinstance(observation, dict) else type(observation).__name__
        raise ValueError(f"{name} must be a dict with the keys {sorted(wanted)}, one array each; got {given}.")

    def check(space: spaces.Space, values: Any) -> None:
        array, shape = np.asarray(values), stored_shape(space)
        if array.shape[:1] != (n_envs,) or array.size != n_envs * int(np.prod(shape)):
            raise ValueError(f"{name} has an array of shape {array.shape}; expected {(n_envs, *shape)}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} is not finite: {array}.")

    map_observation(check, wanted, observation)


def check_rewards(reward: Any) -> np.ndarray:
    """
    Check rewards.

    :param reward: (n_envs,)
    :return: (n_envs,) float32
    :raises ValueError: when one is not finite in 32 bits
    """
    rewards = np.asarray(reward).reshape(-1)
    if rewards.dtype != np.float32:
        with np.errstate(over="ignore"):
            rewards = rewards.astype(np.float32)
    if not np.isfinite(rewards).all():
        raise ValueError(f"reward={reward} must be finite, and fit into 32 bits; scale it down.")
    return rewards


def check_states(stored: StateLike, given: StateLike) -> None:
    """
    Check that a memory's states are those that there is room for.

    :param stored: the states that there is room for
    :param given: those that come
    :raises ValueError: when they are others
    """
    if stored != given:
        theirs, ours = (", ".join(f"{dims} {dtype}" for dims, dtype in which) or "none" for which in (stored, given))
        raise ValueError(
            f"The replay buffer has room for these states of a memory: {theirs}; what comes has: {ours}. Pass them to "
            "stage_state before each add, or let fill_from_episodes (sb3_attnmem.transfer) compute them for episodes "
            "that were collected elsewhere; a model with state_init='zero' stores none."
        )


def breaks(newest: Observation, observation: Observation) -> np.ndarray:
    """
    Find the environments where what comes is not what is stored last.

    :param newest: (n_envs, ...) what is stored
    :param observation: (n_envs, ...) what comes
    :return: (n_envs,) bool, where they differ
    """

    def differs(stored: np.ndarray, given: Any) -> np.ndarray:
        given = np.asarray(given).astype(stored.dtype, copy=False).reshape(stored.shape)
        return (stored != given).reshape(len(stored), -1).any(axis=1)

    return np.any(arrays_of(map_observation(differs, newest, observation)), axis=0)
