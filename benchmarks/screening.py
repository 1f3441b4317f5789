"""
What each of the defaults is worth: default arguments with one changed, on tasks that tell them apart. Resumable;
results, with a learning curve a run, in ``benchmarks/results/screening.jsonl``.

    python benchmarks/screening.py --jobs 2                # all changes on four tasks, seeds 0 and 1
    python benchmarks/screening.py --changes "n 3" --only CartPole --seeds 0
    python benchmarks/screening.py --table
"""

import math
import statistics
from typing import Any, NamedTuple

from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from stable_baselines3.common.utils import LinearSchedule
from tasks.memory_tasks import TASKS

from sb3_attnmem import RecurrentDQN

RESULTS = ResultsFile("screening")
N_POINTS = 10
WHICH = ["CartPole", "CartPoleNoVel", "RepeatPreviousEasy", "Acrobot"]
CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "observations as they are": dict(normalize_observations=False),
    "rewards as they are": dict(normalize_returns=False),
    "n-step returns never stop": dict(watkins_tolerance=math.inf),
    "n-step returns stop at every other action": dict(watkins_tolerance=0.0),
    "n 1": dict(n_steps=1),
    "n 3": dict(n_steps=3),
    "n 10": dict(n_steps=10),
    "one ε, 0.05": dict(exploration_ladder=0.0, exploration_final_eps=0.05),
    "ladder from 0.05": dict(exploration_final_eps=0.05),
    "learning rate 1e-3": dict(learning_rate=1e-3),
    "learning rate 1e-3 to 0": dict(learning_rate=LinearSchedule(1e-3, 0.0, 1.0)),
    "replay ratio 16": dict(train_freq=(64, "transition")),
    "replay ratio 64": dict(train_freq=(16, "transition")),
    "LSTM with a horizon of 64": dict(policy_kwargs=dict(memory_kwargs=dict(horizon=64))),
    "the head reads the memory alone": dict(policy_kwargs=dict(memory_fusion="none")),
    "no memory": dict(policy_kwargs=dict(memory_class="none")),
}


class Run(NamedTuple):
    """
    :param change: of ``CHANGES``
    :param task: of ``TASKS``
    :param seed: of the agent and its environments
    """

    change: str
    task: str
    seed: int


def train(run: Run) -> Line:
    task, settings = TASKS[run.task], dict(CHANGES[run.change])
    settings["policy_kwargs"] = {**settings.get("policy_kwargs", {}), **task.policy_kwargs}
    model = RecurrentDQN("MlpPolicy", task.make_env(), seed=run.seed, **settings)
    return learn_with_curve(model, task.make_env(seed=10_000 + run.seed), task.steps, N_POINTS)


def report(names: list[str]) -> None:
    """Print the score of the final model by seed, and in brackets the mean of the curves."""
    print(f"| change | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    lines = RESULTS.lines()
    for change in CHANGES:
        cells = []
        for name in names:
            runs = [line for line in lines if (line["change"], line["task"]) == (change, name)]
            each = ", ".join(f"{run['score']:.3g}{run['mark']}" for run in sorted(runs, key=lambda run: run["seed"]))
            along = [score for run in runs for _, score in run["curve"]]
            cells.append(f"{each} ({statistics.mean(along):.3g})" if runs else "–")
        print(f"| {change} | {' | '.join(cells)} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--changes", nargs="+", choices=list(CHANGES), default=list(CHANGES))
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=WHICH, help="tasks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    args = parser.parse_args()
    if not args.table:
        runs = [Run(one, task, seed) for seed in args.seeds for task in args.only for one in args.changes]
        RESULTS.run_missing(train, runs, args.jobs)
    report(args.only)
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
