"""What is asked of an agent and its environment, and how nothing of them is changed."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from sb3_attnmem.dqn_recurrent import RecurrentDQN


@contextmanager
def undisturbed(model: BaseAlgorithm, env: VecEnv) -> Iterator[None]:
    """
    Evaluate inside the ``with``: dropout is off, ``VecNormalize`` gives true rewards and keeps its statistics. After
    it the modes and all global random generators are as they were.

    :param model: the agent
    :param env: that it plays in
    """
    modes = [(module, module.training) for module in model.policy.modules()]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    normalize = unwrap_vec_normalize(env)
    flags = None if normalize is None else (normalize.training, normalize.norm_reward)
    devices = [model.device] if model.device.type == "cuda" else []
    with th.random.fork_rng(devices=devices):
        try:
            model.policy.set_training_mode(False)
            if normalize is not None:
                normalize.training, normalize.norm_reward = False, False
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            if normalize is not None and flags is not None:
                normalize.training, normalize.norm_reward = flags
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def check_agent(model: Any, env: Any) -> VecEnv:
    """
    :param model: that should be a ``RecurrentDQN``
    :param env: that should fit it, one environment or several
    :return: the environments, images transposed as SB3 does
    :raises ValueError: when either is something else, or they do not fit, or the model trains in this environment
    """
    if not isinstance(model, RecurrentDQN):
        raise ValueError(
            f"A memory report needs a RecurrentDQN, got {type(model).__name__}. For what another model's attention "
            "looks at, use record_attention_video (sb3-attnmem inspect attention)."
        )
    return check_env(model, env)


def check_env(model: BaseAlgorithm, env: Any) -> VecEnv:
    """
    :param model: the agent
    :param env: that should fit it, one environment or several
    :return: the environments, images transposed as SB3 does
    :raises ValueError: when they are none, or do not fit, or the model trains in this environment
    """
    if not isinstance(env, (VecEnv, gym.Env)):
        raise ValueError(f"env must be a gymnasium.Env or a VecEnv, got {type(env).__name__}.")
    if model.env is not None and model._last_obs is not None and not _bases(model.env).isdisjoint(_bases(env)):
        raise ValueError(
            "This is the environment that the model trains in: playing in it would tear the episode that its training "
            "goes on with. Make another one to look at it, as for EvalCallback."
        )
    env = BaseAlgorithm._wrap_env(env, monitor_wrapper=False)
    for name in ("observation_space", "action_space"):
        theirs, ours = getattr(env, name), getattr(model, name)
        if theirs != ours:
            raise ValueError(
                f"The environment's {name} is {theirs}, the model was trained with {ours}. Make the environment as in "
                "training, with the same wrappers (and VecNormalize, if it had one)."
            )
    return env


def _bases(env: VecEnv | gym.Env) -> set[int]:
    """:return: what identifies the environments below all wrappers"""
    if isinstance(env, gym.Env):
        return {id(env.unwrapped)}
    base = env.unwrapped
    return {id(one.unwrapped) for one in base.envs} if isinstance(base, DummyVecEnv) else {id(base)}
