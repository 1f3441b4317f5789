"""What films and reports share: an agent that plays, looked at without changing it."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecMonitor,
    VecTransposeImage,
    is_vecenv_wrapped,
    unwrap_vec_normalize,
)
from tqdm import tqdm

from sb3_attnmem.common.checks import check_integer

#: Observations of B environments and which of them begin an episode -> actions (B, ...), and what else is to be kept
Act = Callable[[Any, np.ndarray], tuple[np.ndarray, Any]]


class Step(NamedTuple):
    """
    One step of B environments.

    :param starts: (B,) bool, whether the agent was told that an episode begins (after a lost life, too)
    :param actions: (B, ...)
    :param kept: what ``act`` returned beside the actions
    :param rewards: (B,), what followed
    :param over: (B,) bool, whether the game ended; a lost life may end an episode while the game goes on
    :param monitored: (B,), the returns of games that ended, before other wrappers changed the rewards; None without a
        ``Monitor``
    """

    starts: np.ndarray
    actions: np.ndarray
    kept: Any
    rewards: np.ndarray
    over: np.ndarray
    monitored: np.ndarray | None


def play(env: VecEnv, act: Act, seed: int) -> Iterator[Step]:
    """
    Play from a reset on, for as many steps as the caller asks for.

    :param env: the environments
    :param act: decides; what it keeps of its arguments it copies, since environments may overwrite them
    :param seed: of the reset
    :return: step by step, across the ends of episodes
    :raises ValueError: when a reward is not finite
    """
    monitored = is_vecenv_wrapped(env, VecMonitor) or any(env.env_is_wrapped(Monitor))
    env.seed(seed)
    observations: Any = env.reset()
    starts = np.ones(env.num_envs, bool)
    while True:
        actions, kept = act(observations, starts)
        begun = starts
        observations, rewards, dones, infos = env.step(actions)
        rewards = np.array(rewards, float)
        if not np.isfinite(rewards).all():
            raise ValueError(f"The environment gave the rewards {rewards.tolist()}: they must be finite numbers.")
        starts = np.array(dones, bool)  # some environments say 0 and 1
        over, returns = starts, None
        if monitored:
            over = starts & np.array(["episode" in info for info in infos])
            returns = np.array([info["episode"]["r"] if "episode" in info else np.nan for info in infos])
        yield Step(begun, actions, kept, rewards, over, returns)


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


#: A description, the total (None: not known) and the unit -> opens a progress bar and gives what advances it
Bar = Callable[[str, int | None, str], AbstractContextManager[Callable[[int], Any]]]


def bars(progress: bool) -> Bar:
    """
    Choose how progress is shown.

    :param progress: whether it is
    :return: what opens a progress bar
    """

    @contextmanager
    def bar(name: str, total: int | None, unit: str) -> Iterator[Callable[[int], Any]]:
        with tqdm(total=total, desc=name, unit=f" {unit}", disable=not progress, leave=False) as shown:
            yield shown.update

    return bar


def environment_of(env: VecEnv) -> str:
    """
    Tell the name of an environment.

    :param env: environments
    :return: the ID of the first one
    """
    specs = env.get_attr("spec") if hasattr(env, "get_attr") else [None]
    return getattr(specs[0], "id", None) or "an environment without a name"


def check_env(model: BaseAlgorithm, env: Any) -> VecEnv:
    """
    Check that an agent can be looked at in an environment.

    :param model: the agent
    :param env: that should fit it, one environment or several
    :return: the environments, images transposed as SB3 does
    :raises ValueError: when they are none, or do not fit, or the model trains in this environment
    """
    if not isinstance(env, (VecEnv, gym.Env)):
        raise ValueError(f"env must be a gymnasium.Env or a VecEnv, got {_what(env)}.")
    if _has_learned(model) and model.env is not None and not _bases(model.env).isdisjoint(_bases(env)):
        raise ValueError(
            "This is the environment that the model trains in: playing in it would tear the episode that its training "
            "goes on with. Make another one to look at it, as for EvalCallback."
        )
    envs = DummyVecEnv([lambda: env]) if isinstance(env, gym.Env) else env
    if envs.observation_space != model.observation_space:
        envs = _transposed(envs, model.observation_space)
    for name in ("observation_space", "action_space"):
        theirs, ours = getattr(envs, name), getattr(model, name)
        if theirs != ours:
            raise ValueError(
                f"The environment's {name} is {theirs}, the model was trained with {ours}. Make the environment as in "
                "training, with the same wrappers (and VecNormalize, if it had one)."
            )
    return envs


def check_model(model: Any) -> None:
    """
    Check that something is an agent.

    :param model: that should be a Stable-Baselines3 model
    :raises ValueError: when it is something else
    """
    if not isinstance(model, BaseAlgorithm):
        raise ValueError(f"model must be a Stable-Baselines3 model, such as RecurrentDQN or PPO; got {_what(model)}.")


def check_path(name: str, path: Any, is_folder: bool) -> Path:
    """
    Check a path before anything is played: nothing is made.

    :param name: of the argument
    :param path: that the user gave
    :param is_folder: whether it is to be a folder rather than a file
    :return: the path, nothing of it made
    :raises ValueError: when it is no path, or something else stands there
    """
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ValueError(f"{name}={path!r} must be a path.")
    found = Path(path)
    if found.exists() and found.is_dir() != is_folder:
        raise ValueError(f"{name}='{found}' is a {'file' if is_folder else 'folder'}; choose another name.")
    for above in found.parents:
        if above.exists() and not above.is_dir():
            raise ValueError(f"{name}='{found}' cannot be made: {above} is a file.")
    return found


def check_seed(seed: Any) -> int:
    """
    Check the seed of an environment.

    :param seed: that the user gave, from 0 on
    :return: the seed
    :raises ValueError: when it is none
    """
    return check_integer("seed", seed, least=0, most=2**32 - 1)


def _what(thing: Any) -> str:
    return f"the class {thing.__name__}" if isinstance(thing, type) else type(thing).__name__


def _has_learned(model: BaseAlgorithm) -> bool:
    """:return: whether ``learn`` was called since the model was made or loaded: there is no logger before"""
    return model.num_timesteps > 0 and hasattr(model, "logger")


def _transposed(envs: VecEnv, space: gym.Space) -> VecEnv:
    """:return: the environments with the channels of their images first, if this makes their space the given one"""
    try:
        transposed = VecTransposeImage(envs)
    except AssertionError:  # no images
        return envs
    return transposed if transposed.observation_space == space else envs


def _bases(env: VecEnv | gym.Env) -> set[int]:
    """:return: what identifies the environments below all wrappers"""
    if isinstance(env, gym.Env):
        return {id(env.unwrapped)}
    base = env.unwrapped
    return {id(one.unwrapped) for one in base.envs} if isinstance(base, DummyVecEnv) else {id(base)}
