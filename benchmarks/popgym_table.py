"""
RecurrentDQN on POPGym (Morad et al., 2023, https://arxiv.org/abs/2303.01859): one setting for all tasks, the defaults
of the constructor, 8 environments, nothing but the memory changed; and beside it what ``zoo_configs/rdqn.yml`` has for
the task (``entry``). The score is the mean of 100 greedy episodes of the *final* model. Published figures are of PPO
after 15M steps and are the maximum over training of the mean return (MMER): another and a milder measure.

With the defaults, Easy tasks are given 100,000 steps, a 150th of PPO's; a run ends sooner once evaluations are at
the most that its task gives. Resumable, one core a run; each line has a learning curve of 20 points. Results in
``benchmarks/results/popgym_table.jsonl``.

    pip install rliable "pandas<3"                            # for the intervals of complete columns
    python benchmarks/popgym_table.py --jobs 2                # run what is missing, then print the table
    python benchmarks/popgym_table.py --only Autoencode --memories deltanet entry --seeds 0
    python benchmarks/popgym_table.py --table                 # only print the table

``--steps 20000`` tries whether all is in order; its lines say so, and stay out of the table.
"""

import math
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import popgym  # noqa: F401  registers its tasks
import torch as th
import yaml
from aggregates import together
from curves import Curve
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from tasks.published import PUBLISHED

from sb3_attnmem import MEMORIES, RecurrentDQN
from sb3_attnmem.envs import PopgymWrapper

RESULTS = ResultsFile("popgym_table")
N_ENVS, N_POINTS = 8, 20
SEEDS = (0, 1, 2)
#: the best of the memories with a matrix
BEST = "deltanet"
#: instead of a memory: the settings that ``zoo_configs/rdqn.yml`` has for the task
ENTRY = "entry"
COLUMNS = ("none", "lstm", "lru", BEST, ENTRY)
ENTRIES = yaml.safe_load(Path(__file__).parents[1].joinpath("zoo_configs", "rdqn.yml").read_text(encoding="utf-8"))


class Task(NamedTuple):
    """
    :param steps: environment steps to learn for, at most
    :param memories: that it is run with
    :param enough: mean return that nothing can better by much; None: the best one is not known
    """

    steps: int
    memories: tuple[str, ...]
    enough: float | None = None


#: Medium tasks are run with their entries only, each with the memory that is best for it
EASY, MEDIUM = Task(100_000, COLUMNS), Task(1_500_000, (ENTRY,))
#: of tasks whose every step or episode can be right
SOLVED = 0.99
TASKS = {
    "RepeatFirstEasy": EASY._replace(enough=SOLVED),
    "RepeatPreviousEasy": EASY._replace(enough=SOLVED),
    "AutoencodeEasy": EASY._replace(enough=SOLVED),
    "CountRecallEasy": EASY._replace(enough=SOLVED),
    "HigherLowerEasy": EASY,
    "BattleshipEasy": EASY,
    "MineSweeperEasy": EASY,
    "MultiarmedBanditEasy": EASY,
    "PositionOnlyCartPoleEasy": EASY._replace(enough=SOLVED),
    "VelocityOnlyCartpoleEasy": EASY._replace(enough=SOLVED),
    "NoisyPositionOnlyCartPoleEasy": EASY._replace(enough=SOLVED),
    "LabyrinthEscapeEasy": EASY,
    "LabyrinthExploreEasy": EASY,
    "RepeatFirstMedium": MEDIUM._replace(enough=SOLVED),
    "RepeatPreviousMedium": MEDIUM._replace(enough=SOLVED),
    "CountRecallMedium": MEDIUM._replace(enough=SOLVED),
    "MultiarmedBanditMedium": MEDIUM,
}


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param memory: a registered name, or :data:`ENTRY`
    :param steps: environment steps
    :param seed: of the agent and its environments
    """

    task: str
    memory: str
    steps: int
    seed: int


def runs_of(name: str, memory: str, seeds: Iterable[int], steps: int | None = None) -> list[Run]:
    """
    :param name: of ``TASKS``
    :param memory: a registered name, or :data:`ENTRY`
    :param seeds: of the runs
    :param steps: instead of the task's or the entry's
    :return: one for each seed; none where the task has no entry
    """
    if memory == ENTRY:
        entry = ENTRIES.get(f"popgym-{name}-v0")
        if entry is None:
            return []
        steps = steps or int(float(entry["n_timesteps"]))
    return [Run(name, memory, steps or TASKS[name].steps, seed) for seed in seeds]


def make_env(task: str, n_envs: int, seed: int | None = None) -> Any:
    return make_vec_env(f"popgym-{task}-v0", n_envs, seed=seed, wrapper_class=PopgymWrapper)  # type: ignore[arg-type]


def train(run: Run) -> Line:
    th.set_num_threads(1)
    return train_entry(run) if run.memory == ENTRY else train_defaults(run)


def train_entry(run: Run) -> Line:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from memory_tasks import train_and_score

    begin, wall = time.process_time(), time.time()
    enough = TASKS[run.task].enough or math.inf
    result = train_and_score(f"popgym-{run.task}-v0", run.seed, steps=run.steps, stop_at=enough)
    seconds = dict(cpu_seconds=round(time.process_time() - begin), seconds=round(time.time() - wall))
    return dict(score=round(result.score, 3), steps_made=result.steps, **seconds, curve=result.curve)  # type: ignore[arg-type]


def train_defaults(run: Run) -> Line:
    evaluated = make_env(run.task, N_ENVS, 10_000 + run.seed)
    curve = Curve(evaluated, max(run.steps // N_POINTS, 1), TASKS[run.task].enough)
    policy_kwargs = dict(memory_class=run.memory)
    model = RecurrentDQN("MlpPolicy", make_env(run.task, N_ENVS), seed=run.seed, policy_kwargs=policy_kwargs)
    begin, wall = time.process_time(), time.time()
    model.learn(run.steps, callback=curve)
    seconds = dict(cpu_seconds=round(time.process_time() - begin - curve.seconds), seconds=round(time.time() - wall))
    score, spread = evaluate_policy(model, evaluated, n_eval_episodes=100)
    return dict(
        score=round(float(score), 3),
        steps_made=model.num_timesteps,
        spread=round(float(spread), 3),
        **seconds,
        curve=curve.points,
    )  # type: ignore[arg-type]


def report() -> None:
    """Print the mean over the seeds and each seed, beside the best published figure; and the mean of all Easy tasks."""
    lines = RESULTS.lines()
    shown = [*dict.fromkeys([*COLUMNS, *(line["memory"] for line in lines)])]
    names = " | ".join(f"`{memory}`" for memory in shown)
    print(f"| task | steps, the entry's | {names} | published best, PPO, 15M steps, MMER |")
    print("|---" * (len(shown) + 3) + "|")
    easy: dict[str, dict[str, list[float]]] = {memory: {} for memory in shown}  # scores of the seeds of each task
    for name, task in TASKS.items():
        cells = []
        for memory in shown:
            steps = {run.steps for run in runs_of(name, memory, [0])}
            runs = [x for x in lines if (x["task"], x["memory"]) == (name, memory) and x["steps"] in steps]
            each = ", ".join(f"{run['score']:.2f}{run['mark']}" for run in sorted(runs, key=lambda run: run["seed"]))
            cells.append(f"{statistics.mean(run['score'] for run in runs):.3f}: {each}" if runs else "–")
            if runs and name.endswith("Easy"):
                easy[memory][name] = [run["score"] for run in runs]
        papers = [x for x in PUBLISHED if x.task == f"popgym-{name}-v0"]
        best = ", ".join(f"{x.score:g} ({x.memory}, {x.source})" for x in papers) or "–"
        steps_each = dict.fromkeys(run.steps for memory in task.memories for run in runs_of(name, memory, [0]))
        print(f"| {name} | {', '.join(f'{steps / 1e6:g}M' for steps in steps_each)} | {' | '.join(cells)} | {best} |")
    every = [name for name in TASKS if name.endswith("Easy")]
    common = [name for name in every if all(name in easy[memory] for memory in shown)]
    _print_together(f"all {len(every)} Easy tasks", every, easy)
    if common and common != every:
        _print_together(f"the {len(common)} that every column has", common, easy)


def _print_together(title: str, names: list[str], scores: dict[str, dict[str, list[float]]]) -> None:
    """Print a row of means and one of interquartile means; a dash for a column that lacks one of the tasks."""
    means, spans = [], []
    for of_task in scores.values():
        complete = all(name in of_task for name in names)
        means.append(f"{statistics.mean(statistics.mean(of_task[name]) for name in names):.3f}" if complete else "–")
        spans.append(together([of_task[name] for name in names]) if complete else "–")
    print(f"| {title}, mean | | {' | '.join(means)} | |")
    print(f"| {title}, interquartile mean, interval of 95 % | | {' | '.join(spans)} | |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    vectors = [name for name, memory in MEMORIES.items() if memory.reads == "vector"]
    parser.add_argument("--memories", nargs="+", choices=[*vectors, ENTRY], help="instead of each task's own")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, help="environment steps instead of each task's own, to try it")
    args = parser.parse_args()
    if not args.table:
        runs = [
            run
            for seed in args.seeds
            for name, task in TASKS.items()
            for memory in args.memories or task.memories
            if args.only in name
            for run in runs_of(name, memory, [seed], args.steps)
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
