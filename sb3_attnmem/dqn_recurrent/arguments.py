"""Checks of what a user passes to RecurrentDQN, before a network is built."""

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sb3_attnmem.common.checks import check_choice, check_flag, check_integer, check_number
from sb3_attnmem.dqn_recurrent.architecture import check_widths
from sb3_attnmem.dqn_recurrent.masks import check_mask_source
from sb3_attnmem.dqn_recurrent.observation_spaces import check_image_sizes, check_observation_space
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from sb3_attnmem.memory import get_memory_class
from sb3_attnmem.replay import SequenceReplayBuffer, n_actions_of

#: whole numbers, and the smallest that makes sense
INTEGERS: dict[str, int] = {
    "sequence_length": 1,
    "burn_in": 0,
    "n_steps": 1,
    "batch_size": 1,
    "buffer_size": 1,
    "gradient_steps": -1,  # as many as steps were collected
    "target_update_interval": 1,
    "delta_q_interval": 0,  # never
    "exploration_duration": 1,  # no action is held
    "_stats_window_size": 1,
}
#: other numbers, and their limits
NUMBERS: dict[str, dict[str, Any]] = {
    "learning_rate": dict(least=0),
    "gamma": dict(least=0, most=1),
    "tau": dict(least=0, most=1, hint="It is the share of the online network in an update of the target network."),
    "learning_starts": dict(least=0),
    "exploration_fraction": dict(least=0, most=1),
    "exploration_initial_eps": dict(least=0, most=1, hint="It is a probability."),
    "exploration_final_eps": dict(least=0, most=1, hint="It is a probability."),
    "exploration_ladder": dict(
        least=0, hint="The first environment explores most (R2D2 takes 7, 0 lets all explore alike)."
    ),
    "max_grad_norm": dict(above=0, hint="float('inf') clips nothing."),
}
FLAGS = ("double_q", "value_rescaling", "refresh_states", "optimize_memory_usage")
CHOICES = {"state_init": ("stored", "zero"), "target_update_unit": ("steps", "updates")}
#: combinations of a ``MultiDiscrete`` action that may have a Q-value each
MOST_COMBINATIONS = 4_096
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


def check_arguments(arguments: Mapping[str, Any], policy_aliases: Mapping[str, type]) -> None:
    """
    Check the arguments of :class:`~sb3_attnmem.RecurrentDQN`, before a network or a buffer is built.

    :param arguments: name -> value
    :param policy_aliases: names of the algorithm's policy
    :raises ValueError: for the first that does not fit
    """
    given = SimpleNamespace(**arguments)
    check_action_space(given.action_space, given.policy_kwargs.get("branching", False))
    check_observation_space(given.observation_space)
    check_mask_source(given.action_masks, given.observation_space, given.action_space)
    check_numbers(arguments)
    for name in FLAGS:
        check_flag(name, arguments[name])
    for name, choices in CHOICES.items():
        check_choice(name, arguments[name], choices)
    _check_train_freq(given.train_freq)
    if given.seed is not None:
        check_integer("seed", given.seed, 0, 2**32 - 1)
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
    policy_class = _check_policy_class(given.policy_class, policy_aliases)
    options = given.policy_kwargs
    check_image_sizes(given.observation_space, options)
    if isinstance(options.get("net_arch"), list):
        check_widths("net_arch", options["net_arch"])
    named = {one.name: options[one.name] for one in fields(policy_class.architecture_class) if one.name in options}
    given_or_default = {
        "memory_class": get_memory_class(options.get("memory_class", "lstm")),
        **{name: named.pop(name, None) or {} for name in ("memory_kwargs", "memory_fusion_kwargs")},
        "encoder_arch": named.pop("encoder_arch", None) or [],
    }
    policy_class.architecture_class(**{**named, **given_or_default})


def _check_policy_class(policy_class: Any, policy_aliases: Mapping[str, type]) -> type[RecurrentDQNPolicy]:
    """
    :param policy_class: that is to be built
    :param policy_aliases: names of the algorithm's policy
    :return: the class
    :raises ValueError: when it is none with a memory, or that of another algorithm
    """
    expected = next(iter(policy_aliases.values()))
    name = getattr(policy_class, "__name__", policy_class)
    names = f"Pass a subclass of {expected.__name__}, or one of the names {', '.join(policy_aliases)}."
    if not (isinstance(policy_class, type) and issubclass(policy_class, RecurrentDQNPolicy)):
        raise ValueError(f"policy={name} has no memory. {names}")
    if policy_class.network_class is not expected.network_class:  # type: ignore[attr-defined]
        raise ValueError(f"policy={name} is not of this algorithm: its network learns something else. {names}")
    return policy_class


def check_action_space(space: spaces.Space, branching: Any) -> None:
    """
    :param space: of the environment's actions
    :param branching: whether each choice has a Q-value, and not each combination
    :raises ValueError: when they are no finite list that starts at 0, or too many for a Q-value each
    """
    is_flat = isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1
    if not (isinstance(space, spaces.Discrete) or is_flat) or np.any(space.start != 0):  # type: ignore[attr-defined]
        raise ValueError(
            "RecurrentDQN needs a Discrete action space that starts at 0, or a MultiDiscrete of one axis, got "
            f"{space}. Wrap the environment so that it takes one integer."
        )
    if branching is True and not is_flat:
        raise ValueError(f"branching=True is for MultiDiscrete actions, got {space}: leave it out.")
    if not is_flat:
        return
    if branching is True and n_actions_of(space) > np.iinfo(np.int64).max:
        raise ValueError(f"{space} has more combinations than 64 bits can number: drop or coarsen dimensions.")
    if branching is not True and n_actions_of(space) > MOST_COMBINATIONS:
        raise ValueError(
            f"{space} has {n_actions_of(space):,} combinations, and each would have a Q-value of its own; at most "
            f"{MOST_COMBINATIONS:,} may. Pass policy_kwargs=dict(branching=True), which gives one to each choice of "
            "each dimension."
        )


def check_numbers(arguments: Mapping[str, Any], names: Iterable[str] = (*INTEGERS, *NUMBERS)) -> None:
    """
    :param arguments: name -> value
    :param names: which of them to check, of ``INTEGERS`` and ``NUMBERS``
    :raises ValueError: when one makes no sense
    """
    for name in names:
        value = arguments[name]
        if name in INTEGERS:
            check_integer(name.lstrip("_"), value, INTEGERS[name])
        elif name == "learning_rate" and callable(value):
            check_learning_rate(value(1.0))
        elif not (name == "max_grad_norm" and value == math.inf):  # no clipping
            check_number(name, value, **NUMBERS[name])


def check_learning_rate(rate: Any) -> None:
    """
    :param rate: that a schedule gave
    :raises ValueError: when it is no rate
    """
    check_number("learning_rate", rate, least=0, hint="It is what the schedule gave.")


def _check_train_freq(train_freq: Any) -> None:
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    check_integer("train_freq", frequency)
    check_choice("train_freq's unit", getattr(unit, "value", unit), ("step", "episode"))


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
