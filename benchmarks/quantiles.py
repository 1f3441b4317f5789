"""
Quantiles against means at equal steps: ``RecurrentQRDQN`` and ``RecurrentDQN`` with their default arguments, on MinAtar
Breakout with half of its frames blank, on CartPole without velocities and on Acrobot. Resumable; results, with a
learning curve a run, in ``benchmarks/results/quantiles.jsonl``.

    pip install --no-deps minatar
    python benchmarks/quantiles.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/quantiles.py --table
    python benchmarks/quantiles.py --cost            # what an update costs, in turns in this process
"""

import statistics
import time
from typing import Any, NamedTuple

import torch as th
from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from tasks.memory_tasks import TASKS as MEMORY_TASKS
from tasks.memory_tasks import Task
from tasks.minatar_games import breakout_task

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN

RESULTS = ResultsFile("quantiles")
VARIANTS: dict[str, tuple[type[RecurrentDQN], dict[str, Any]]] = {
    "means": (RecurrentDQN, {}),
    "50 quantiles": (RecurrentQRDQN, dict(n_quantiles=50)),
    "means, noisy": (RecurrentDQN, dict(noisy=True)),
    "50 quantiles, noisy": (RecurrentQRDQN, dict(n_quantiles=50, noisy=True)),
}
TASKS = {
    "CartPoleNoVel": MEMORY_TASKS["CartPoleNoVel"],
    "Acrobot": MEMORY_TASKS["Acrobot"],
    "flickering Breakout": breakout_task(200_000, blank=0.5),
}


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


def make_model(task: Task, variant: str, seed: int, **kwargs: Any) -> RecurrentDQN:
    model_class, policy_kwargs = VARIANTS[variant]
    policy_kwargs = {**task.policy_kwargs, **policy_kwargs}
    return model_class("MlpPolicy", task.make_env(), policy_kwargs=policy_kwargs, seed=seed, **kwargs)


def train(run: Run) -> Line:
    task = TASKS[run.task]
    model = make_model(task, run.variant, run.seed)
    return learn_with_curve(model, task.make_env(seed=10_000 + run.seed), run.steps)


def measure_cost(rounds: int = 30) -> None:
    """Print the time of an update of 16 sequences of 64 steps with an LSTM of 128, over that of ``RecurrentDQN``."""
    th.set_num_threads(1)
    task = TASKS["CartPoleNoVel"]
    models = {variant: make_model(task, variant, 0, learning_starts=10**9).learn(4_000) for variant in VARIANTS}
    seconds: dict[str, list[float]] = {variant: [] for variant in models}
    for _ in range(rounds):
        for variant, model in models.items():
            begin = time.process_time()  # not the time that other processes take
            model.update(1, model.batch_size)
            seconds[variant].append(time.process_time() - begin)
    print("| head | update, ms of CPU time | over means |\n|---|---|---|")
    for variant, times in seconds.items():
        ratio = statistics.median(mine / base for mine, base in zip(times, seconds["means"], strict=True))
        print(f"| {variant} | {1e3 * statistics.median(times):.1f} | {ratio:.2f} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="in place of each task's own")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["means", "50 quantiles"])
    parser.add_argument("--cost", action="store_true", help="only measure what an update costs")
    args = parser.parse_args()
    if args.cost:
        measure_cost()
        return
    steps = {name: args.steps or TASKS[name].steps for name in args.tasks}
    if not args.table:
        runs = [Run(t, variant, seed, steps[t]) for seed in args.seeds for t in args.tasks for variant in args.variants]
        RESULTS.run_missing(train, runs, args.jobs)
    print(
        "| task | head | greedy return of the final model, by seed | mean of the learning curves |\n|---|---|---|---|"
    )
    lines = sorted(RESULTS.lines(), key=lambda line: line["seed"])
    for task, n in steps.items():
        for variant in args.variants:
            runs_of = [line for line in lines if (line["task"], line["variant"], line["steps"]) == (task, variant, n)]
            if runs_of:
                scores = ", ".join(f"{line['score']:.4g}{line['mark']}" for line in runs_of)
                along = statistics.mean(score for line in runs_of for _, score in line["curve"])
                print(f"| {task}, {n:,} steps | {variant} | {scores} | {along:.3g} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
