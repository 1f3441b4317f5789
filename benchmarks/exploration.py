"""
ε-greedy exploration against random actions that are held, and noisy heads: default arguments but for that, on T-Maze 30
(one wrong step costs the reward), MinAtar Breakout, and MountainCar without velocities (single random actions never
reach its goal). Resumable; results, with a learning curve a run, in ``benchmarks/results/exploration.jsonl``.

    pip install --no-deps minatar
    python benchmarks/exploration.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/exploration.py --tasks MountainCarNoVel --variants held
    python benchmarks/exploration.py --table
"""

import statistics
from typing import Any, NamedTuple

from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from tasks.memory_tasks import TASKS as MEMORY_TASKS
from tasks.memory_tasks import Task
from tasks.minatar_games import breakout_task

from sb3_attnmem import RecurrentDQN

RESULTS = ResultsFile("exploration")
TASKS = {
    "T-Maze 30": MEMORY_TASKS["T-Maze 30"],
    "MinAtar Breakout": breakout_task(150_000),
    "MountainCarNoVel": Task("MountainCarNoVel-v0", 300_000, mean=-130, each=-130),
}
#: of each: arguments of the model, and of its policy
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epsilon": ({}, {}),
    "held": (dict(exploration_duration=64), {}),
    "noisy": ({}, dict(noisy=True)),
}
NAMES = {"epsilon": "ε-greedy", "held": "random actions held for up to 64 steps", "noisy": "noisy head"}


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param variant: of ``VARIANTS``
    :param seed: of the run
    :param steps: environment steps
    """

    task: str
    variant: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    task, (settings, policy_kwargs) = TASKS[run.task], VARIANTS[run.variant]
    policy_kwargs = {**task.policy_kwargs, **policy_kwargs}
    model = RecurrentDQN("MlpPolicy", task.make_env(), policy_kwargs=policy_kwargs, seed=run.seed, **settings)
    return learn_with_curve(model, task.make_env(seed=10_000 + run.seed), run.steps)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, help="in place of each task's own")
    args = parser.parse_args()
    steps = {name: args.steps or TASKS[name].steps for name in args.tasks}
    if not args.table:
        runs = [Run(t, variant, seed, steps[t]) for seed in args.seeds for t in args.tasks for variant in args.variants]
        RESULTS.run_missing(train, runs, args.jobs)
    print("Greedy return of the final model by seed, and in brackets the mean of the learning curves.\n")
    print("| exploration | " + " | ".join(f"{task}, {n:,} steps" for task, n in steps.items()) + " |")
    print("|---" * (len(steps) + 1) + "|")
    lines = sorted(RESULTS.lines(), key=lambda line: line["seed"])
    for variant in args.variants:
        cells = []
        for task, n in steps.items():
            runs_of = [line for line in lines if (line["task"], line["variant"], line["steps"]) == (task, variant, n)]
            scores = ", ".join(f"{line['score']:.4g}{line['mark']}" for line in runs_of)
            along = [score for line in runs_of for _, score in line["curve"]]
            cells.append(f"{scores} ({statistics.mean(along):.3g})" if along else "–")
        print(f"| {NAMES[variant]} | " + " | ".join(cells) + " |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
