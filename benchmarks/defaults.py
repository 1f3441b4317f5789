"""
What a new user gets: ``RecurrentDQN("MlpPolicy", make_vec_env(task, 8), seed=s)`` and no other argument, no
``VecNormalize``; the greedy return of the final model over 100 episodes. Resumable; results, with a learning curve a
run, in ``benchmarks/results/defaults.jsonl``.

    python benchmarks/defaults.py --jobs 2                 # run what is missing, print the table, draw the curves
    python benchmarks/defaults.py --only "T-Maze 10" --seeds 0
    python benchmarks/defaults.py --table
"""

import statistics
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from tasks.memory_tasks import TASKS

from sb3_attnmem import RecurrentDQN

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = ResultsFile("defaults")
PLOT = Path(__file__).parents[1] / "docs" / "pictures" / "defaults.png"
SEEDS = (0, 1, 2, 3, 4)


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param seed: of the agent and its environments
    """

    task: str
    seed: int


def train(run: Run) -> Line:
    task = TASKS[run.task]
    kwargs = dict(policy_kwargs=task.policy_kwargs) if task.policy_kwargs else {}
    model = RecurrentDQN("MlpPolicy", task.make_env(), seed=run.seed, **kwargs)  # type: ignore[arg-type]
    return learn_with_curve(model, task.make_env(seed=10_000 + run.seed), task.steps)


def report() -> None:
    """Print the table, and draw the curves: the median over the seeds, and from the lowest to the highest."""
    print("| task | steps | mean (to reach) | by seed (each) | CPU seconds |\n|---|--:|---|---|--:|")
    figure, axes = plt.subplots(2, 5, figsize=(16, 6), constrained_layout=True)
    for axis, (name, task) in zip(axes.flat, TASKS.items(), strict=True):
        runs = sorted((line for line in RESULTS.lines() if line["task"] == name), key=lambda line: line["seed"])
        axis.set(title=f"{name}, {len(runs)} seeds", xlabel="environment steps")
        axis.axhline(task.mean, color="grey", linestyle="--", linewidth=1)
        if not runs:
            continue
        each = ", ".join(f"{run['score']:g}{run['mark']}" for run in runs)
        mean = statistics.mean(run["score"] for run in runs)
        least = "" if task.each is None else f" ({task.each:g})"
        seconds = statistics.median(run["cpu_seconds"] for run in runs)
        print(f"| {name} | {task.steps:,} | {mean:.4g} ({task.mean:g}) | {each}{least} | {seconds:.0f} |")
        curves = np.array([[score for _, score in run["curve"]] for run in runs])
        steps = [step for step, _ in runs[0]["curve"]]
        axis.plot(steps, np.median(curves, axis=0))
        axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), alpha=0.25)
    figure.savefig(PLOT, dpi=100)
    print(f"\n{PLOT}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="tasks")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    args = parser.parse_args()
    if not args.table:
        # All tasks of a seed before the next seed: an interrupted table still has them all
        RESULTS.run_missing(train, [Run(task, seed) for seed in args.seeds for task in args.only], args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
