"""Agents that the RL Zoo trained, read back from its folder of logs."""

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS, StoreDict, create_test_env, get_model_path, get_saved_hyperparams
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_attnmem.zoo.patches import run_files_are_data
from sb3_attnmem.zoo.registration import register
from sb3_attnmem.zoo.run_files import check_run_folder, read_run_file


class Trained(NamedTuple):
    """
    :param model: the agent, with an empty replay buffer
    :param env: as it was trained in, with ``VecNormalize``'s statistics, which no longer change; rewards are true
    :param path: of the model's file
    """

    model: BaseAlgorithm
    env: VecEnv
    path: Path


def add_agent_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: is given the options that name a trained agent, as rl_zoo3's ``enjoy`` has them
    """
    parser.add_argument("--algo", required=True, help="RL algorithm")
    parser.add_argument("--env", required=True, help="environment ID")
    parser.add_argument("-f", "--folder", default="logs", help="log folder")
    parser.add_argument("--exp-id", type=int, default=0, help="number of the run (0: the latest, -1: no run's folder)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--load-best", action="store_true", help="the best model instead of the last")
    which.add_argument("--load-checkpoint", type=int, help="the checkpoint after so many steps")
    which.add_argument("--load-last-checkpoint", action="store_true", help="the last checkpoint")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="arguments of the environment")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages that register environments")
    parser.add_argument("--seed", type=int, default=0, help="of the environment")
    parser.add_argument("--device", default="auto", help="torch device")


def load_agent(options: argparse.Namespace, n_envs: int = 1, render_mode: str | None = None) -> Trained:
    """
    :param options: what :func:`add_agent_options` asks for
    :param n_envs: environments to make
    :param render_mode: of these where they have it, for example "rgb_array"
    :return: the agent and its environments
    :raises ValueError: when there is no such agent in the folder, or its settings are not there
    """
    register()
    for package in options.gym_packages:
        importlib.import_module(package)
    try:
        _, model_path, log_path = get_model_path(
            options.exp_id,
            options.folder,
            options.algo,
            options.env,
            options.load_best,
            options.load_checkpoint,
            options.load_last_checkpoint,
        )
    except (AssertionError, ValueError) as error:
        raise ValueError(f"{error}. Trained agents there: {_listed(Path(options.folder))}.") from error
    stats_path = str(Path(log_path) / options.env)
    check_run_folder(stats_path)
    with run_files_are_data():
        hyperparams, stats = get_saved_hyperparams(stats_path, norm_reward=False, test_mode=True)
    set_random_seed(options.seed)
    env_kwargs = {
        **hyperparams.pop("env_kwargs", {}),
        **_typed_env_kwargs(Path(stats_path)),
        **(options.env_kwargs or {}),
    }
    if render_mode is not None and _can_render(options.env, render_mode):
        env_kwargs.setdefault("render_mode", render_mode)
    env = create_test_env(
        options.env,
        n_envs=n_envs,
        stats_path=stats,
        seed=options.seed,
        log_dir=None,
        should_render=False,
        hyperparams=hyperparams,
        env_kwargs=env_kwargs,
        # Not a process for each, which rl_zoo3 would make: they would start for longer than they play
        vec_env_cls=ExperimentManager.default_vec_env_cls or DummyVecEnv,
    )
    algorithm = ALGOS[options.algo]
    custom_objects: dict[str, Any] = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.0}
    small: dict[str, Any] = {"buffer_size": 1} if issubclass(algorithm, OffPolicyAlgorithm) else {}
    model = algorithm.load(model_path, custom_objects=custom_objects, device=options.device, seed=options.seed, **small)
    return Trained(model, env, Path(model_path))


def _can_render(env_id: str, mode: str) -> bool:
    """:return: whether an environment says that it has a render mode"""
    maker: Any = gym.spec(env_id).entry_point
    if isinstance(maker, str):
        maker = load_env_creator(maker)
    return mode in getattr(maker, "metadata", {}).get("render_modes", ())


def _typed_env_kwargs(folder: Path) -> dict[str, Any]:
    """:return: the environment's arguments of the command line that the agent was trained with"""
    path = folder / "args.yml"
    if not path.is_file():
        return {}
    return read_run_file(path).get("env_kwargs") or {}


def _listed(folder: Path) -> str:
    found: Sequence[str] = sorted(f"{path.parent.name}/{path.name}" for path in folder.glob("*/*_[0-9]*"))
    return ", ".join(found) or "none"
