"""
What is forgotten when one task follows another, with and without old data in each batch. Three passive T-Mazes of the
same length in which the cue, or the way, means something else: what is right in the first is wrong in the second.
Which of them it is stands beside the cue in the first observation, so that one agent can do all three. Resumable;
results in ``benchmarks/results/continual.jsonl``.

    python benchmarks/continual.py --jobs 2    # run what is missing, then print the tables and draw them
    python benchmarks/continual.py --table
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib
import numpy as np
import torch as th
from base_settings import settings_of
from gymnasium import spaces
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PassiveTMaze, PreviousActionReward
from sb3_attnmem.transfer import ContinualReport, Stage, learn_in_sequence

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ResultsFile("continual")
PLOT = ROOT / "docs" / "pictures" / "continual.png"
SETTINGS = settings_of("PassiveTMaze10-v0")
SEEDS = (0, 1, 2)
TASKS = ("as the cue says", "against the cue", "left and right swapped")
STEPS, CORRIDOR = 12_000, 5
#: what a batch holds when a task follows another
VARIANTS: dict[str, float | None] = {
    "no old data": 0.0,
    "one buffer, uniform": None,
    "50% old data": 0.5,
}


class SwitchedMaze(gym.Wrapper):
    """
    A passive T-Maze in which the cue, or the actions, mean something else. Which of them it is stands in the first
    observation of an episode, one-hot behind the cue, and nowhere after that.

    :param corridor: its length
    :param task: an entry of TASKS
    """

    def __init__(self, corridor: int, task: str) -> None:
        super().__init__(PassiveTMaze(corridor))
        self.number = TASKS.index(task)
        self.observation_space = spaces.Box(-1.0, 1.0, (2 + len(TASKS),), np.float32)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        if self.number == 1:
            observation = observation * np.array([1, -1], np.float32)
        return np.append(observation, np.eye(len(TASKS), dtype=np.float32)[self.number]), info

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        # Right is 0 and left is 2
        turned = 2 - int(action) if self.number == 2 and action in (0, 2) else int(action)
        observation, *rest = self.env.step(turned)
        return np.append(observation, np.zeros(len(TASKS), np.float32)), *rest  # type: ignore[return-value]


def make_maze(task: str) -> gym.Env:
    return PreviousActionReward(SwitchedMaze(CORRIDOR, task), reward=False)


class Run(NamedTuple):
    """
    :param variant: an entry of VARIANTS
    :param seed: of the run
    """

    variant: str
    seed: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    begin = time.time()
    settings = {name: x for name, x in SETTINGS.items() if name not in ("env_wrapper", "n_envs", "n_timesteps")}
    settings |= dict(learning_rate=1e-3, sequence_length=24, train_freq=2, target_update_interval=16, batch_size=16)
    stages = [
        Stage(
            task,
            make_vec_env(partial(make_maze, task), n_envs=SETTINGS["n_envs"], seed=run.seed + 10 * i),
            make_vec_env(partial(make_maze, task), n_envs=8, seed=1_000 + run.seed),
            STEPS,
        )
        for i, task in enumerate(TASKS)
    ]
    model = RecurrentDQN(env=stages[0].env, seed=run.seed, **settings)
    report = learn_in_sequence(model, stages, VARIANTS[run.variant], n_eval_episodes=48)
    return dict(
        scores=report.scores.round(3).tolist(),
        forgetting=round(float(report.forgetting().mean()), 3),
        forward_transfer=round(float(report.forward_transfer().mean()), 3),
        final=round(float(report.scores[-1].mean()), 3),
        seconds=round(time.time() - begin),
    )


def report() -> None:
    """Print the tables, draw the curves."""
    found: dict[str, list[Line]] = {}
    for line in sorted(RESULTS.lines(), key=lambda line: line["seed"]):
        found.setdefault(line["variant"], []).append(line)
    print("| | forgetting, by seed | forward transfer | mean of the three tasks at the end |")
    print("|---|---|---|---|")
    for variant in VARIANTS:
        runs = found.get(variant, [])
        cells = [
            ", ".join(f"{run[name]:.2f}" for run in runs) or "–" for name in ("forgetting", "forward_transfer", "final")
        ]
        print(f"| {variant} | {' | '.join(cells)} |")
    figure, axes = plt.subplots(1, len(VARIANTS), figsize=(11, 3.8), sharey=True, layout="constrained")
    for axis, variant in zip(axes, VARIANTS, strict=True):
        runs = found.get(variant, [])
        axis.set(title=variant, xlabel="stages learned")
        axis.set_xticks(range(len(TASKS) + 1))
        if not runs:
            continue
        scores = np.array([run["scores"] for run in runs])  # (seeds, stages, tasks)
        print(f"\n{variant}, mean of {len(runs)} seeds:\n")
        print(ContinualReport(list(TASKS), scores.mean(axis=0)).table())
        for j, task in enumerate(TASKS):
            stages = np.arange(len(TASKS) + 1)
            axis.plot(stages, scores[:, :, j].mean(axis=0), "o-", color=f"C{j}", label=f"{j + 1}: {task}")
            axis.fill_between(stages, scores[:, :, j].min(0), scores[:, :, j].max(0), color=f"C{j}", alpha=0.12)
    axes[0].set_ylabel("greedy return (mean and range of the seeds)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(TASKS), fontsize=8)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = options(__doc__)
    args = parser.parse_args()
    if not args.table:
        RESULTS.run_missing(train, [Run(variant, seed) for seed in SEEDS for variant in VARIANTS], args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
