"""
Train RecurrentDQN on one of the memory tasks with the settings of ``zoo_configs/rdqn.yml``, through the RL Zoo's
experiment manager, and print the final model's greedy score over 100 episodes.

    python examples/memory_tasks.py CartPoleNoVel-v1 --seed 0
    python examples/memory_tasks.py PassiveTMaze30-v0 --seed 0 --memory none      # the memoryless control
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import minigrid  # noqa: F401  registers its tasks
import numpy as np
import popgym  # noqa: F401  registers its tasks
import psutil
import sb3_attnmem.zoo_configs
import torch as th
import yaml
from rl_zoo3 import ALGOS, import_envs  # noqa: F401  registers the NoVel tasks
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import sync_envs_normalization

import sb3_attnmem.envs
from sb3_attnmem import MEMORIES, RecurrentDQN

CONFIG = Path(sb3_attnmem.zoo_configs.__file__).with_name("rdqn.yml")
SETTINGS = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))


class Result(NamedTuple):
    """
    :param score: mean greedy return
    :param steps: environment steps trained for
    :param curve: steps and mean greedy return on the way, where ``stop_at`` was given
    """

    score: float
    steps: int
    curve: list[tuple[int, float]]


def train_and_score(
    task: str,
    seed: int,
    memory: str | None = None,
    steps: int = -1,
    episodes: int = 100,
    memory_kwargs: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    stop_at: float | None = None,
    csv_folder: str | None = None,
    config: Path = CONFIG,
) -> Result:
    """
    :param task: an entry of ``zoo_configs/rdqn.yml``
    :param seed: of environments, weights and exploration
    :param memory: another memory than the entry's
    :param steps: environment steps instead of the entry's
    :param episodes: greedy episodes of the final model
    :param memory_kwargs: options of that memory beside the width of the entry's; "none" takes none
    :param overrides: other settings than the entry's
    :param stop_at: stop as soon as that many greedy episodes have this mean return, tried 20 times on the way
    :param csv_folder: where training's figures are written, as ``progress.csv``
    :param config: another settings file
    :return: of the final model
    """
    ALGOS["rdqn"] = RecurrentDQN
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    overrides = dict(overrides or {})
    if memory is not None:
        kwargs = settings[task].get("policy_kwargs", {})
        own = kwargs.get("memory_kwargs", {})
        if memory != kwargs.get("memory_class", "lstm"):
            own = {"hidden_size": own.get("hidden_size", 128)}
        memory_kwargs = {} if memory == "none" else {**own, **(memory_kwargs or {})}
        overrides["policy_kwargs"] = {**kwargs, "memory_class": memory, "memory_kwargs": memory_kwargs}
    if steps < 0:
        steps = int(float(settings[task if task in settings else "default"]["n_timesteps"]))
    with tempfile.TemporaryDirectory() as logs:
        manager = ExperimentManager(
            argparse.Namespace(),
            "rdqn",
            task,
            logs,
            n_timesteps=steps,
            eval_freq=-1,
            hyperparams=overrides,
            seed=seed,
            config=str(config),
            show_progress=True,
            verbose=0,
            log_interval=-2,
        )
        experiment = manager.setup_experiment()
        assert experiment is not None
        model = experiment[0]
        if csv_folder is not None:
            model.set_logger(configure(csv_folder, ["csv"]))
            manager.log_interval = 4
        env = manager.create_envs(8, eval_env=True)
        on_the_way = None
        if stop_at is not None:
            on_the_way = EvalCallback(
                env,
                StopTrainingOnRewardThreshold(stop_at),
                n_eval_episodes=episodes,
                eval_freq=steps // 20 // manager.n_envs,
                log_path=logs,
                verbose=0,
            )
            manager.callbacks.append(on_the_way)
        manager.learn(model)
        training_env = model.get_env()
        assert training_env is not None
        sync_envs_normalization(training_env, env)
        score, _ = evaluate_policy(model, env, n_eval_episodes=episodes)
        env.close()
    curve = [] if on_the_way is None else curve_of(on_the_way)
    return Result(float(score), model.num_timesteps, curve)  # type: ignore[arg-type]


def curve_of(evaluations: EvalCallback) -> list[tuple[int, float]]:
    """:return: steps and mean return of each evaluation"""
    means = np.mean(evaluations.evaluations_results, axis=1, dtype=float).round(3).tolist()
    return list(zip(evaluations.evaluations_timesteps, means, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help=f"one of {', '.join(SETTINGS)}, or what 'default' or 'atari' stands for")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", choices=MEMORIES, help="instead of the task's own; 'none' is the control")
    parser.add_argument("--steps", type=int, default=-1, help="environment steps instead of the task's own")
    parser.add_argument("--episodes", type=int, default=100, help="greedy episodes that the score is the mean of")
    args = parser.parse_args()
    if args.task not in gym.registry:
        parser.error(f"unknown task '{args.task}'; the tasks with settings are {', '.join(SETTINGS)}")
    th.set_num_threads(1)
    score = train_and_score(args.task, args.seed, args.memory, args.steps, args.episodes).score
    print(f"memory of this process: {psutil.Process().memory_info().rss / 1e6:,.0f} MB")
    print(f"score: {score:.3f}")


if __name__ == "__main__":
    main()
