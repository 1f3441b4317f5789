"""
Entries of ``zoo_configs/rdqn.yml`` that ``defaults.py`` does not cover, with their own memory and with none, over
fixed seeds. Resumable; results in ``benchmarks/results/learning.jsonl``.

    python benchmarks/learning.py --jobs 2      # run what is missing, then print the table
    python benchmarks/learning.py --table       # only print the table
"""

import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch as th
from resumable import Line, ResultsFile, options

RESULTS = ResultsFile("learning")
TASKS = (
    "MiniGrid-MemoryS9-v0",
    "popgym-AutoencodeEasy-v0",
)
SEEDS = (0, 1, 2)


class Run(NamedTuple):
    """
    :param task: an entry of the configuration
    :param seed: of the run
    :param memory: None for the entry's own
    """

    task: str
    seed: int
    memory: str | None


def train(run: Run) -> Line:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from memory_tasks import train_and_score

    th.set_num_threads(1)
    begin = time.time()
    score = train_and_score(run.task, run.seed, run.memory).score
    return dict(score=score, seconds=round(time.time() - begin))


def table() -> str:
    """:return: a row a task"""
    scores: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for line in sorted(RESULTS.lines(), key=lambda line: line["seed"]):
        scores[line["task"], line["memory"]].append(f"{line['score']:.2f}{line['mark']}")
    rows = ["| task | with memory, by seed | control (`none`), by seed |", "|---|---|---|"]
    for task in TASKS:
        cells = [", ".join(scores[task, memory]) for memory in (None, "none")]
        rows.append(f"| `{task}` | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    args = parser.parse_args()
    if not args.table:
        runs = [Run(task, seed, memory) for memory in (None, "none") for task in TASKS for seed in SEEDS]
        RESULTS.run_missing(train, [run for run in runs if args.only in run.task], args.jobs)
    print(table())
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
