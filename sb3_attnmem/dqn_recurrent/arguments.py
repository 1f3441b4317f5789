"""Checks of what a user passes to RecurrentDQN, before a network is built."""

import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from sb3_attnmem.dqn_recurrent.policies import POLICY_ALIASES, RecurrentDQNPolicy
from sb3_attnmem.memory import check_memory_kwargs, get_memory_class
from sb3_attnmem.replay import SequenceReplayBuffer

#: parameters below which a second torch thread was measured to gain nothing (docs/performance.md)
SMALL_NETWORK = 200_000


def warn_of_threads(network: nn.Module, device: th.device) -> None:
    """
    Warn where more than one torch thread can only slow training.

    :param network: that is trained
    :param device: where
    """
    threads, parameters = th.get_num_threads(), sum(weight.numel() for weight in network.parameters())
    if device.type == "cpu" and threads > 1 and parameters < SMALL_NETWORK:
        warnings.warn(
            f"A network of {parameters:,} parameters trains on {threads} torch threads no faster than on one, and "
            "several times slower when other runs share the cores: call torch.set_num_threads(1) first.",
            stacklevel=3,
        )


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """
    Check the arguments of :class:`~sb3_attnmem.RecurrentDQN`, before a network or a buffer is built.

    :param arguments: name -> value
    :raises ValueError: for the first that does not fit
    """
    given = SimpleNamespace(**arguments)
    if not isinstance(given.action_space, spaces.Discrete) or given.action_space.start != 0:
        raise ValueError(
            f"RecurrentDQN needs a Discrete action space that starts at 0, got {given.action_space}. "
            "Wrap the environment so that it takes one integer."
        )
    for name, least in (("sequence_length", 1), ("burn_in", 0), ("n_steps", 1), ("batch_size", 1)):
        value = arguments[name]
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}.")
    if given.state_init not in ("stored", "zero"):
        raise ValueError(f"state_init={given.state_init!r} is unknown; choose 'stored' or 'zero'.")
    if given.target_update_unit not in ("steps", "updates"):
        raise ValueError(f"target_update_unit={given.target_update_unit!r} is unknown; choose 'steps' or 'updates'.")
    if given.exploration_ladder < 0:
        raise ValueError(
            f"exploration_ladder={given.exploration_ladder} must be at least 0: the first environment explores most "
            "(R2D2 takes 7, 0 lets all explore alike)."
        )
    if not isinstance(given.delta_q_interval, (int, np.integer)) or given.delta_q_interval < 0:
        raise ValueError(f"delta_q_interval={given.delta_q_interval!r} must be a number of updates, or 0 for never.")
    if given.refresh_states and (given.burn_in == 0 or given.state_init == "zero"):
        raise ValueError(
            "refresh_states=True stores what burn-in recomputes: it needs burn_in of at least 1 and "
            f"state_init='stored', got burn_in={given.burn_in} and state_init={given.state_init!r}."
        )
    if given.n_steps > given.sequence_length:
        raise ValueError(
            f"n_steps={given.n_steps} must not exceed sequence_length={given.sequence_length}: lower n_steps or "
            "replay longer sequences."
        )
    if given.optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage=True is not needed with RecurrentDQN: its replay buffer stores each observation "
            "once, and handles time limits. Leave the argument out."
        )
    buffer_class = given.replay_buffer_class
    if buffer_class is not None and not (
        isinstance(buffer_class, type) and issubclass(buffer_class, SequenceReplayBuffer)
    ):
        raise ValueError(
            f"replay_buffer_class={getattr(buffer_class, '__name__', buffer_class)} does not replay sequences. "
            "Leave it out, or pass SequenceReplayBuffer or a subclass."
        )
    if not (isinstance(given.policy_class, type) and issubclass(given.policy_class, RecurrentDQNPolicy)):
        raise ValueError(
            f"policy={getattr(given.policy_class, '__name__', given.policy_class)} has no memory. "
            f"Pass a subclass of RecurrentDQNPolicy, or one of the names {', '.join(POLICY_ALIASES)}."
        )
    memory_class = get_memory_class(given.policy_kwargs.get("memory_class", "lstm"))
    check_memory_kwargs(memory_class, given.policy_kwargs.get("memory_kwargs") or {})


def check_finite(name: str, values: np.ndarray | dict[str, np.ndarray], env: int | None = None) -> None:
    """
    :param name: what it is
    :param values: (n_envs, ...), or (...) of one environment
    :param env: that environment
    :raises ValueError: where a value is not finite
    """
    if isinstance(values, dict):
        for key, array in values.items():
            check_finite(f"{name} {key!r}", array, env)
        return
    array = np.asarray(values)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.unique(np.argwhere(~np.isfinite(array))[:, 0]).tolist() if env is None else [env]
        raise ValueError(
            f"The {name} of environment(s) {bad} is not finite: {array[bad[0]] if env is None else array}. Nothing was "
            "learned from it; mend the environment (VecCheckNan finds the step)."
        )


def check_policy_name(policy: str | type, space: spaces.Space, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Let the policy's name mean what it means in SB3, although one class serves all.

    :param policy: name or class
    :param space: observation space
    :param policy_kwargs: that the user gave
    :return: the policy's keyword arguments
    :raises ValueError: when the name means other observations
    """
    if not isinstance(policy, str):
        return policy_kwargs
    if isinstance(space, spaces.Dict) != policy.startswith("MultiInput"):
        wanted = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy or CnnPolicy"
        raise ValueError(f"You must use {wanted} with the observation space {space}, not {policy}.")
    if "features_extractor_class" in policy_kwargs:
        return policy_kwargs
    is_image = is_image_space(space, normalized_image=not policy_kwargs.get("normalize_images", True))
    if policy.startswith("Cnn") and not is_image:
        raise ValueError(
            f"{policy} wants images (uint8 in [0, 255] with 1, 3 or 4 channels, or policy_kwargs="
            f"dict(normalize_images=False)), but the observation space is {space}. Use MlpPolicy, "
            "or pass a features_extractor_class."
        )
    if policy.startswith("Mlp") and is_image:
        return {**policy_kwargs, "features_extractor_class": FlattenExtractor}
    return policy_kwargs


def check_loaded(buffer: ReplayBuffer | None, ours: Mapping[str, Any], path: object) -> SequenceReplayBuffer:
    """
    :param buffer: that was loaded
    :param ours: what it must have been filled with: names of its attributes and their values; "states", what it stores
        of a memory's state
    :param path: where from
    :return: the buffer
    :raises ValueError: where something else than the number of environments keeps it from fitting
    """
    if not isinstance(buffer, SequenceReplayBuffer):
        raise ValueError(f"{path} holds a {type(buffer).__name__}, which does not replay sequences.")
    for name, expected in ours.items():
        if name == "states":
            theirs = expected if buffer.tapes is None else buffer.tapes.state_like
        else:
            theirs = getattr(buffer, name)
        if theirs != expected:
            raise ValueError(
                f"{path} was filled with {name}={theirs}, but the model has {expected}. "
                "Load it into a model made like the one that filled it."
            )
    return buffer
