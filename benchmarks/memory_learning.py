"""
What each memory learns by reinforcement, under the same replay: the score columns of the README's memory table.

Each task is an entry of ``benchmarks/base_settings.yml`` or ``zoo_configs/rdqn.yml``; OPTIONS says what a memory takes
beside the entry's own. A run stops early once 100 greedy episodes reach SOLVED; its score is that of the final model
over 100 more. Resumable; results in ``benchmarks/results/memory_learning.jsonl``.

    python benchmarks/memory_learning.py --jobs 2             # run what is missing, then print the table
    python benchmarks/memory_learning.py --table              # only print the table
"""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
from base_settings import config_of
from resumable import Line, ResultsFile, options

from sb3_attnmem import MEMORIES

RESULTS = ResultsFile("memory_learning")
#: those that read vectors; ``attentive_lstm`` has its own task, in tests/learning
FAMILY = [name for name, memory in MEMORIES.items() if memory.reads == "vector"]
SOLVED = 0.99


class Task(NamedTuple):
    """
    :param memories: rows of the table
    :param seeds: of each
    """

    memories: list[str]
    seeds: tuple[int, ...]


TASKS = {
    "popgym-RepeatPreviousEasy-v0": Task(FAMILY, (0, 1)),
    "PassiveTMaze30-v0": Task([name for name in FAMILY if name != "dnc"], (0,)),
    "PassiveTMaze100-v0": Task(["min_gru", "window"], (0,)),
    "popgym-CountRecallEasy-v0": Task(["none", "lstm", "min_gru", "lru", "ffm"], (0,)),
}
#: (task, memory) -> options of the memory
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("PassiveTMaze100-v0", "min_gru"): dict(num_layers=3, conv_size=1),
    ("PassiveTMaze100-v0", "window"): dict(window=101, num_layers=1),
}
#: (task, memory) -> other settings than the task's
SETTINGS: dict[tuple[str, str], dict[str, Any]] = {}


class Run(NamedTuple):
    """
    :param task: an entry of the configuration
    :param memory: a registered name
    :param seed: of the run
    """

    task: str
    memory: str
    seed: int


def train(run: Run) -> Line:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from memory_tasks import train_and_score

    th.set_num_threads(1)
    begin = time.time()
    key = run.task, run.memory
    options, settings = OPTIONS.get(key, {}), SETTINGS.get(key, {})
    score, steps, _ = train_and_score(
        run.task,
        run.seed,
        run.memory,
        memory_kwargs=options,
        overrides=settings,
        stop_at=SOLVED,
        config=config_of(run.task),
    )
    seconds = round(time.time() - begin)
    return dict(options=options, settings=settings, score=score, steps=steps, seconds=seconds)


def table() -> str:
    """:return: a row a memory; beside each score the environment steps it took"""
    lines = RESULTS.lines()
    rows = [f"| memory | {' | '.join(f'`{task}`' for task in TASKS)} |", "|---" * (1 + len(TASKS)) + "|"]
    for memory in FAMILY:
        cells = []
        for task in TASKS:
            runs = sorted((x for x in lines if (x["task"], x["memory"]) == (task, memory)), key=lambda x: x["seed"])
            cells.append(", ".join(f"{x['score']:.2f}{x['mark']} ({x['steps'] / 1000:.0f}k)" for x in runs) or "–")
        rows.append(f"| `{memory}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    parser.add_argument("--memories", nargs="+", choices=FAMILY, default=FAMILY)
    args = parser.parse_args()
    if not args.table:
        runs = [
            Run(name, memory, seed) for name, task in TASKS.items() for seed in task.seeds for memory in task.memories
        ]
        wanted = [run for run in runs if args.only in run.task and run.memory in args.memories]
        RESULTS.run_missing(train, wanted, args.jobs)
    print(table())
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
