"""``sb3-attnmem doctor``: how much memory an environment asks for, and why an agent does not learn."""

import argparse
import contextlib
import importlib
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch as th
import yaml
from rl_zoo3 import import_envs  # noqa: F401  registers the tasks without velocities
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import StoreDict, get_wrapper_class
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_attnmem.common.files import write_text
from sb3_attnmem.doctor import Report, diagnose_env, diagnose_run
from sb3_attnmem.zoo.registration import CONFIGS
from sb3_attnmem.zoo.run_files import read_run_file
from sb3_attnmem.zoo.trained import load_agent


def main() -> int:
    """
    Read the command line of the process, look into an environment or a run, say what was found.

    :return: the exit code: 0 when nothing is wrong, 1 when something is, 2 where the command line does not make sense
    """
    options = _read_options()
    threads = th.get_num_threads()
    th.set_num_threads(1)  # networks this small are several times faster on one
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            report = _environment(options) if options.folder is None else _run(options)
    except (ImportError, OSError, ValueError, gym.error.Error) as error:
        print(f"sb3-attnmem doctor: {error}", file=sys.stderr)
        return 2
    finally:
        th.set_num_threads(threads)
    if options.output is not None:
        write_text(options.output, report.to_json() + "\n")
    print(report.to_json() if options.json else report)
    return report.exit_code


def _environment(options: argparse.Namespace) -> Report:
    env = make_env(options.env, _settings(options), options.env_kwargs or {})
    with tqdm(total=1, bar_format="{desc}", disable=options.no_progress, leave=False) as line:
        try:
            return diagnose_env(
                env, options.n_timesteps, options.seed, options.max_history, tick=line.set_description_str
            )
        finally:
            env.close()


def _run(options: argparse.Namespace) -> Report:
    """:return: of the folder; settings that no model's file tells are those of ``config.yml``"""
    settings: dict[str, Any] = {}
    for path in options.folder.glob("*/config.yml"):
        told = dict(read_run_file(path))
        settings = {name: value for name, value in told.items() if isinstance(value, (bool, int, float, tuple, list))}
        settings["normalize"] = told.get("normalize", False)
        arguments = path.with_name("args.yml")
        if arguments.is_file():
            settings["num_threads"] = read_run_file(arguments).get("num_threads")
    env = _trained_env(options) if options.play else None
    with tqdm(total=1, bar_format="{desc}", disable=options.no_progress, leave=False) as line:
        try:
            return diagnose_run(
                options.folder, settings, options.algo, options.need, env, options.play or 1, options.seed,
                tick=line.set_description_str,
            )  # fmt: skip
        finally:
            if env is not None:
                env.close()


def _trained_env(options: argparse.Namespace) -> VecEnv:
    """
    :return: environments like those of the run, several side by side, with its wrappers and ``VecNormalize``
    :raises ValueError: where the folder is no run of the RL Zoo
    """
    folder = options.folder.absolute()
    env_id, _, number = folder.name.rpartition("_")
    if not number.isdecimal() or not any(folder.glob("*/config.yml")):
        raise ValueError(
            f"--play needs the folder of a run of the RL Zoo, as logs/rdqn/CartPole-v1_1, got {options.folder}. In "
            "Python, pass an environment: diagnose_run(folder, env=env)."
        )
    which = argparse.Namespace(
        algo=folder.parent.name, env=env_id, folder=str(folder.parent.parent), exp_id=int(number), load_best=False,
        load_checkpoint=None, load_last_checkpoint=False, env_kwargs=options.env_kwargs, gym_packages=[],
        seed=options.seed, device="cpu",
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        return load_agent(which, min(options.play, 16)).env


def make_env(env_id: str, settings: dict[str, Any], env_kwargs: dict[str, Any]) -> gym.Env:
    """
    :param env_id: of a registered environment
    :param settings: of the RL Zoo for it; its wrappers and the environment's arguments are taken from there
    :param env_kwargs: more arguments of the environment
    :return: the environment as an agent would see it, less what normalises or stacks
    """
    env = gym.make(env_id, **{**settings.get("env_kwargs", {}), **env_kwargs})
    wrapper = get_wrapper_class(settings)
    return env if wrapper is None else wrapper(env)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """
    :return: the entry of the environment in a settings file, empty where there is none
    :raises ValueError: when the user's own file has none
    """
    path = options.conf_file or CONFIGS.get(options.algo or "rdqn")
    if path is None:
        return {}
    entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    atari = ["atari"] if ExperimentManager.is_atari(options.env) else []
    for name in (options.env, *atari, "default"):
        if name in entries:
            return dict(entries[name])
    if options.conf_file is not None:
        raise ValueError(f"{path} has no entry {options.env}, and no 'default'.")
    return {}


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", help="environment ID: what does it ask for?")
    parser.add_argument("-f", "--folder", type=Path, help="folder of a run, as logs/rdqn/ENV_1: why does it not learn?")
    parser.add_argument("--need", type=int, help="with -f: observations to remember, as --env found")
    parser.add_argument("--play", type=int, default=0, help="with -f: greedy episodes to play: is its memory used?")
    parser.add_argument("--algo", help="whose settings tell the environment's wrappers (default: rdqn)")
    parser.add_argument("-conf", "--conf-file", help="settings file (.yml) to take them from")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="arguments of the environment")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages that register environments")
    parser.add_argument("-n", "--n-timesteps", type=int, default=25_000, help="steps to play")
    parser.add_argument("--max-history", type=int, default=64, help="observations to look back over at most")
    parser.add_argument("--seed", type=int, default=0, help="of play and predictors")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("-o", "--output", type=Path, help="file to write the report to, as JSON")
    parser.add_argument("--no-progress", action="store_true", help="do not tell what is being done")
    options = parser.parse_args()
    if (options.env is None) == (options.folder is None):
        parser.error("name either an environment with --env, or the folder of a run with -f")
    if options.play < 0:
        parser.error(f"--play {options.play}: pass the number of episodes to play, from 1 on, or leave it out")
    for package in options.gym_packages:
        importlib.import_module(package)
    return options
