"""What can be told to be wrong, in words that say how to mend it."""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from torch import nn

from sb3_attnmem.dqn_recurrent.policies import POLICY_ALIASES, RecurrentDQNPolicy
from sb3_attnmem.memory import check_memory_kwargs, get_memory_class
from sb3_attnmem.replay import SequenceReplayBuffer

if TYPE_CHECKING:
    from sb3_attnmem.dqn_recurrent.dqn_recurrent import RecurrentDQN

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


def check_arguments(model: "RecurrentDQN") -> None:
    """
    Everything that can be told before a network or a buffer is built.

    :param model: whose arguments are set, and nothing else
    :raises ValueError: for the first that does not fit
    """
    if not isinstance(model.action_space, spaces.Discrete) or model.action_space.start != 0:
        raise ValueError(
            f"RecurrentDQN needs a Discrete action space that starts at 0, got {model.action_space}. "
            "Wrap the environment so that it takes one integer."
        )
    for name, least in (("sequence_length", 1), ("burn_in", 0), ("n_steps", 1), ("batch_size", 1)):
        value = getattr(model, name)
        if not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name}={value!r} must be an integer of at least {least}.")
    if model.state_init not in ("stored", "zero"):
        raise ValueError(f"state_init={model.state_init!r} is unknown; choose 'stored' or 'zero'.")
    if model.target_update_unit not in ("steps", "updates"):
        raise ValueError(f"target_update_unit={model.target_update_unit!r} is unknown; choose 'steps' or 'updates'.")
    if model.exploration_ladder < 0:
        raise ValueError(
            f"exploration_ladder={model.exploration_ladder} must be at least 0: the first environment explores most "
            "(R2D2 takes 7, 0 lets all explore alike)."
        )
    if not isinstance(model.delta_q_interval, (int, np.integer)) or model.delta_q_interval < 0:
        raise ValueError(f"delta_q_interval={model.delta_q_interval!r} must be a number of updates, or 0 for never.")
    if model.refresh_states and (model.burn_in == 0 or model.state_init == "zero"):
        raise ValueError(
            "refresh_states=True stores what burn-in recomputes: it needs burn_in of at least 1 and "
            f"state_init='stored', got burn_in={model.burn_in} and state_init={model.state_init!r}."
        )
    if model.n_steps > model.sequence_length:
        raise ValueError(
            f"n_steps={model.n_steps} must not exceed sequence_length={model.sequence_length}: lower n_steps or "
            "replay longer sequences."
        )
    if model.optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage=True is not needed with RecurrentDQN: its replay buffer stores each observation "
            "once, and handles time limits. Leave the argument out."
        )
    buffer_class = model.replay_buffer_class
    if buffer_class is not None and not (
        isinstance(buffer_class, type) and issubclass(buffer_class, SequenceReplayBuffer)
    ):
        raise ValueError(
            f"replay_buffer_class={getattr(buffer_class, '__name__', buffer_class)} does not replay sequences. "
            "Leave it out, or pass SequenceReplayBuffer or a subclass."
        )
    if not (isinstance(model.policy_class, type) and issubclass(model.policy_class, RecurrentDQNPolicy)):
        raise ValueError(
            f"policy={getattr(model.policy_class, '__name__', model.policy_class)} has no memory. "
            f"Pass a subclass of RecurrentDQNPolicy, or one of the names {', '.join(POLICY_ALIASES)}."
        )
    memory_class = get_memory_class(model.policy_kwargs.get("memory_class", "lstm"))
    check_memory_kwargs(memory_class, model.policy_kwargs.get("memory_kwargs") or {})


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


def check_loaded(model: "RecurrentDQN", buffer: ReplayBuffer | None, path: object) -> SequenceReplayBuffer:
    """
    :param model: that the buffer is to serve
    :param buffer: that was loaded
    :param path: where from
    :return: the buffer
    :raises ValueError: where something else than the number of environments keeps it from fitting
    """
    if not isinstance(buffer, SequenceReplayBuffer):
        raise ValueError(f"{path} holds a {type(buffer).__name__}, which does not replay sequences.")
    names = [*model._sequence_kwargs(), "observation_space", "action_space"]
    theirs, ours = ({name: getattr(either, name) for name in names} for either in (buffer, model))
    if buffer.tapes is not None:
        theirs["states"] = buffer.tapes.state_like
        ours["states"] = buffer.describe(model._stored(model.q_net.memory.initial_state(1)))
    for name in theirs:
        if theirs[name] != ours[name]:
            raise ValueError(
                f"{path} was filled with {name}={theirs[name]}, but the model has {ours[name]}. "
                "Load it into a model made like the one that filled it."
            )
    return buffer
