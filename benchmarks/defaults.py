"""
What a new user gets: ``RecurrentDQN("MlpPolicy", make_vec_env(task, 8), seed=s)`` and no other argument, no
``VecNormalize``; the greedy return of the final model over 100 episodes. The control is the same with
``memory_class="none"``. Resumable; results, with a learning curve a run, in ``benchmarks/results/defaults.jsonl``.

    python benchmarks/defaults.py --jobs 2                 # run what is missing, print the table, draw the curves
    python benchmarks/defaults.py --jobs 2 --control       # the same for the control
    python benchmarks/defaults.py --only "T-Maze 10" --seeds 0
    python benchmarks/defaults.py --only CountRecallEasy   # what the entry of zoo_configs/rdqn.yml is compared with
    python benchmarks/defaults.py --table
"""

import statistics
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from tasks.memory_tasks import TASKS, WITH_SETTINGS

from sb3_attnmem import RecurrentDQN

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

RESULTS = ResultsFile("defaults")
PLOT = Path(__file__).parents[1] / "docs" / "pictures" / "defaults.png"
SEEDS = (0, 1, 2, 3, 4)
ALL_TASKS = {**TASKS, **WITH_SETTINGS}


class Run(NamedTuple):
    """
    :param task: of ``TASKS`` or ``WITH_SETTINGS``
    :param seed: of the agent and its environments
    :param memory: None: the default
    """

    task: str
    seed: int
    memory: str | None = None


def train(run: Run) -> Line:
    task = ALL_TASKS[run.task]
    policy_kwargs = dict(task.policy_kwargs)
    if run.memory is not None:
        policy_kwargs["memory_class"] = run.memory
    kwargs = dict(policy_kwargs=policy_kwargs) if policy_kwargs else {}
    model = RecurrentDQN("MlpPolicy", task.make_env(), seed=run.seed, **kwargs)  # type: ignore[arg-type]
    return learn_with_curve(model, task.make_env(seed=10_000 + run.seed), task.steps)


def report() -> None:
    """Print the table, and draw the curves: the median over the seeds, and from the lowest to the highest."""
    print(
        "| task | steps | mean (to reach) | by seed (each) | CPU seconds | without memory |\n|---|--:|---|---|--:|---|"
    )
    figure, axes = plt.subplots(2, 5, figsize=(16, 6), constrained_layout=True)
    axis_of = dict(zip(TASKS, axes.flat, strict=True))
    for name, task in ALL_TASKS.items():
        runs, control = (runs_of(name, memory) for memory in (None, "none"))
        if name in axis_of:
            plot(axis_of[name], name, runs, control)
        if not runs:
            continue
        mean = statistics.mean(run["score"] for run in runs)
        least = "" if task.each is None else f" ({task.each:g})"
        seconds = statistics.median(run["cpu_seconds"] for run in runs)
        print(
            f"| {name} | {task.steps:,} | {mean:.4g} ({task.mean:g}) | {scores(runs)}{least} | {seconds:.0f} "
            f"| {scores(control)} |"
        )
    axes.flat[-1].legend(loc="lower right")
    figure.savefig(PLOT, dpi=100)
    print(f"\n{PLOT}")


def runs_of(task: str, memory: str | None) -> list[Line]:
    """:return: in the order of seeds"""
    lines = [line for line in RESULTS.lines() if (line["task"], line["memory"]) == (task, memory)]
    return sorted(lines, key=lambda line: line["seed"])


def scores(runs: list[Line]) -> str:
    return ", ".join(f"{run['score']:.3g}{run['mark']}" for run in runs) or "–"


def plot(axis: Axes, name: str, runs: list[Line], control: list[Line]) -> None:
    axis.set(title=f"{name}, {len(runs)} seeds", xlabel="environment steps")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.axhline(TASKS[name].mean, color="grey", linestyle="--", linewidth=1)
    draw(axis, control, "C7", "without memory")
    draw(axis, runs, "C0", "defaults")


def draw(axis: Axes, runs: list[Line], color: str, label: str) -> None:
    if not runs:
        return
    curves = np.array([[score for _, score in run["curve"]] for run in runs])
    steps = [step for step, _ in runs[0]["curve"]]
    axis.plot(steps, np.median(curves, axis=0), color=color, label=label)
    axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), alpha=0.25, color=color)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(ALL_TASKS), default=list(TASKS), help="tasks")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--control", action="store_true", help="run agents without memory")
    args = parser.parse_args()
    if not args.table:
        # All tasks of a seed before the next seed: an interrupted table still has them all
        memory = "none" if args.control else None
        RESULTS.run_missing(train, [Run(task, seed, memory) for seed in args.seeds for task in args.only], args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
