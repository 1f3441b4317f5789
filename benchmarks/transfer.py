"""
Does transfer pay? Agents trained on an easier or another task, then fine-tuned, against agents from scratch:
environment steps until the mean of greedy episodes reaches a threshold. Resumable; results in
``benchmarks/results/transfer.jsonl``, the agents that transfer starts from in ``logs/transfer``.

    python benchmarks/transfer.py --jobs 2         # run what is missing, then print the table and draw it
    python benchmarks/transfer.py --table
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib
import numpy as np
import torch as th
from base_settings import settings_of
from resumable import Line, ResultsFile, options
from rl_zoo3 import import_envs  # noqa: F401  registers the NoVel tasks
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, sync_envs_normalization

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PreviousActionReward
from sb3_attnmem.transfer import load_pretrained, set_learning

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ResultsFile("transfer")
PLOT = ROOT / "docs" / "pictures" / "transfer.png"
AGENTS = ROOT / "logs" / "transfer"
SEEDS = (0, 1, 2)
SOURCE = "source"
ADAPTERS = dict(targets=["encoder", "q_head"], rank=8)
#: how an agent begins -> arguments of ``set_learning``; None: from scratch
VARIANTS: dict[str, dict[str, Any] | None] = {
    "from scratch": None,
    "all fine-tuned": {},
    "encoder frozen": dict(freeze="encoder"),
    "encoder and memory frozen": dict(freeze=["encoder", "memory"]),
    "adapters only (encoder, head)": dict(freeze="all", adapters=ADAPTERS),
}


def maze(corridor: int) -> gym.Env:
    return PreviousActionReward(gym.make(f"PassiveTMaze{corridor}-v0"), reward=False)


def pole(mass: float = 0.1, length: float = 0.5) -> gym.Env:
    """:return: CartPole without velocities; half the length of the pole, as gymnasium counts it"""
    env = gym.make("CartPoleNoVel-v1")
    cart: Any = env.unwrapped
    cart.masspole, cart.length = mass, length
    cart.total_mass, cart.polemass_length = cart.masscart + mass, mass * length
    return env


class Task(NamedTuple):
    """
    :param make_source: the environment that the agent comes from
    :param source_entry: of ``benchmarks/base_settings.yml``
    :param make_target: the environment that counts
    :param target_entry: of ``benchmarks/base_settings.yml``
    :param steps: environment steps there, at most
    :param every: steps from one evaluation to the next
    :param episodes: of an evaluation
    :param threshold: of their mean return
    """

    make_source: Callable[[], gym.Env]
    source_entry: str
    make_target: Callable[[], gym.Env]
    target_entry: str
    steps: int
    every: int
    episodes: int
    threshold: float


TASKS = {
    "T-Maze 10 to 30": Task(
        partial(maze, 10), "PassiveTMaze10-v0", partial(maze, 30), "PassiveTMaze30-v0", 300_000, 4_000, 50, 0.95
    ),
    "pole 10x heavier, 3x longer": Task(
        pole, "CartPoleNoVel-v1", partial(pole, 1.0, 1.5), "CartPoleNoVel-v1", 60_000, 4_000, 20, 475.0
    ),
}


class Run(NamedTuple):
    """
    :param task: an entry of TASKS
    :param variant: an entry of VARIANTS, or the agent that they start from
    :param seed: of the run
    """

    task: str
    variant: str
    seed: int


class UntilSolved(BaseCallback):
    """
    Score greedy episodes on the way, and stop at the threshold.

    :param env: to score in
    :param task: when, how many, and what is enough
    """

    def __init__(self, env: VecEnv, task: Task) -> None:
        super().__init__()
        self.env = env
        self.task = task
        self.curve: list[tuple[int, float]] = []

    @property
    def solved(self) -> bool:
        return bool(self.curve) and self.curve[-1][1] >= self.task.threshold

    def _on_training_start(self) -> None:
        self._score()

    def _on_step(self) -> bool:
        if not self.solved and self.num_timesteps >= self.curve[-1][0] + self.task.every:
            self._score()
        return not self.solved

    def _score(self) -> None:
        if isinstance(self.env, VecNormalize):
            sync_envs_normalization(self.training_env, self.env)
        score, _ = evaluate_policy(self.model, self.env, n_eval_episodes=self.task.episodes)
        self.curve.append((self.num_timesteps, round(float(score), 3)))  # type: ignore[arg-type]


def make_env(make: Callable[[], gym.Env], normalize: bool, seed: int, statistics: Path | None = None) -> VecEnv:
    env: VecEnv = make_vec_env(make, n_envs=8, seed=seed)
    if statistics is not None and statistics.exists():
        return VecNormalize.load(str(statistics), env)
    return VecNormalize(env) if normalize else env


def train(run: Run) -> Line:
    th.set_num_threads(1)
    task, begin = TASKS[run.task], time.time()
    source = run.variant == SOURCE
    learning = None if source else VARIANTS[run.variant]
    make, entry = (task.make_source, task.source_entry) if source else (task.make_target, task.target_entry)
    settings = dict(settings_of(entry))
    normalize = settings.pop("normalize", False)
    steps = int(float(settings["n_timesteps"])) if source else task.steps
    for name in ("n_envs", "n_timesteps", "env_wrapper"):
        settings.pop(name, None)
    settings["learning_rate"] = LinearSchedule(float(settings["learning_rate"].removeprefix("lin_")), 0.0, 1.0)
    agent = AGENTS / f"{run.task.replace(' ', '_')}-{run.seed}"
    statistics = agent.with_suffix(".pkl")
    if learning is not None:  # it knows where to look already
        settings["exploration_initial_eps"] = settings["exploration_final_eps"]
    env = make_env(make, normalize, run.seed, None if learning is None else statistics)
    model = RecurrentDQN(env=env, seed=run.seed, **settings)
    told = ""
    if learning is not None:
        if not agent.with_suffix(".zip").exists():  # its line was written on another machine
            train(Run(run.task, SOURCE, run.seed))
        load_pretrained(model, agent)
        told = set_learning(model, **learning)
    scoring = make_env(make, normalize, 1_000 + run.seed)
    if isinstance(scoring, VecNormalize):
        scoring.training, scoring.norm_reward = False, False
    callback = UntilSolved(scoring, task._replace(every=task.every if not source else steps // 20))
    model.learn(steps, callback)
    if source:
        AGENTS.mkdir(parents=True, exist_ok=True)
        model.save(agent)
        if isinstance(env, VecNormalize):
            env.save(str(statistics))
    return dict(
        steps=model.num_timesteps if callback.solved else None,
        score=callback.curve[-1][1],
        curve=callback.curve,
        learning=told,
        seconds=round(time.time() - begin),
    )


def report() -> None:
    """Print the table, draw the curves."""
    lines = RESULTS.lines()
    found: dict[tuple[str, str], list[Line]] = {}
    for line in sorted(lines, key=lambda line: line["seed"]):
        found.setdefault((line["task"], line["variant"]), []).append(line)
    print(
        "| what learns | " + " | ".join(f"{name}: steps to {task.threshold:g}" for name, task in TASKS.items()) + " |"
    )
    print("|---|" + "---|" * len(TASKS))
    for variant in VARIANTS:
        cells = []
        for task in TASKS:
            runs = found.get((task, variant), [])
            cells.append(", ".join(f"{r['steps']:,}" if r["steps"] is not None else f"({r['score']:g})" for r in runs))
        print(f"| {variant} | {' | '.join(cell or '–' for cell in cells)} |")
    print("\nIn brackets: not reached, the last score. At 0 steps, before any fine-tuning, agents score:")
    for (name, variant), runs in found.items():
        if variant == "all fine-tuned":
            print(f"  {name}: {', '.join(str(run['curve'][0][1]) for run in runs)}")
    drawn = {name: task for name, task in TASKS.items() if any(key[0] == name and key[1] in VARIANTS for key in found)}
    if not drawn:
        return
    figure, axes = plt.subplots(1, len(drawn), figsize=(5.5 * len(drawn), 4.6), layout="constrained", squeeze=False)
    for axis, (name, task) in zip(axes[0], drawn.items(), strict=True):
        for i, variant in enumerate(VARIANTS):
            for j, run in enumerate(found.get((name, variant), [])):
                steps, scores = np.array(run["curve"]).T
                axis.plot(steps, scores, color=f"C{i}", alpha=0.8, label=variant if j == 0 else None)
                axis.plot(steps[-1], scores[-1], "o", color=f"C{i}", markersize=5)
        axis.axhline(task.threshold, color="grey", linestyle=":")
        axis.set(title=name, xlabel="environment steps", ylabel="greedy return (a line a seed)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    args = parser.parse_args()
    if not args.table:
        tasks = [name for name in TASKS if args.only in name]
        for variants in ((SOURCE,), tuple(VARIANTS)):
            runs = [Run(task, variant, seed) for seed in SEEDS for task in tasks for variant in variants]
            RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
