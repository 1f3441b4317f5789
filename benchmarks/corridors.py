"""
How far back: passive T-Mazes of 100, 500 and 1,500 steps, and which part of the Zoo's entry is needed for the first.

An entry of ``zoo_configs/rdqn.yml`` is trained until 100 greedy episodes, tried 20 times on the way, all turn the right
way; its score is that of the final model over 100 more. Resumable; results in ``benchmarks/results/corridors.jsonl``.

    python benchmarks/corridors.py --jobs 2                        # run what is missing, then print the tables
    python benchmarks/corridors.py --lengths 500 --seeds 0
    python benchmarks/corridors.py --lengths 100 --variants "an LSTM" "no memory"
    python benchmarks/corridors.py --table
"""

import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
from resumable import Line, ResultsFile, options

from sb3_attnmem import SequenceReplayBuffer

RESULTS = ResultsFile("corridors")
LENGTHS, SEEDS = (100, 500, 1_500), (0, 1)
SOLVED = 0.99
ENTRY = "the entry"
DELTANET: dict[str, Any] = dict(memory_class="deltanet", memory_kwargs=dict(conv_size=1))
#: settings other than the entry's
VARIANTS: dict[str, dict[str, Any]] = {
    ENTRY: {},
    "windows that begin anywhere": dict(replay_buffer_class=SequenceReplayBuffer),
    "noise drawn at each step": dict(policy_kwargs=dict(**DELTANET, noisy=True)),
    "no noise, ε from 0.4 down": dict(policy_kwargs=DELTANET),
    "an LSTM": dict(policy_kwargs=dict(memory_class="lstm", noisy="episode")),
    "no memory": dict(policy_kwargs=dict(memory_class="none", noisy="episode")),
}


class Run(NamedTuple):
    """
    :param length: of the corridor, in steps
    :param variant: of ``VARIANTS``
    :param seed: of environments, weights and exploration
    """

    length: int
    variant: str
    seed: int


def train(run: Run) -> Line:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from memory_tasks import train_and_score

    th.set_num_threads(1)
    begin = time.process_time()
    task, overrides = f"PassiveTMaze{run.length}-v0", VARIANTS[run.variant]
    result = train_and_score(task, run.seed, overrides=overrides, stop_at=SOLVED)
    return dict(result._asdict(), cpu_seconds=round(time.process_time() - begin))


def report() -> None:
    """Print a row for each length, and one for each variant."""
    lines = RESULTS.lines()
    print(
        "| corridor | variant | score, each seed | steps (k), each seed | CPU minutes, median |\n|--:|---|---|---|--:|"
    )
    for length in LENGTHS:
        for variant in VARIANTS:
            runs = [line for line in lines if (line["length"], line["variant"]) == (length, variant)]
            runs.sort(key=lambda line: line["seed"])
            if runs:
                scores = ", ".join(f"{run['score']:.2f}{run['mark']}" for run in runs)
                steps = ", ".join(f"{run['steps'] / 1_000:.0f}" for run in runs)
                minutes = statistics.median(run["cpu_seconds"] for run in runs) / 60
                print(f"| {length:,} | {variant} | {scores} | {steps} | {minutes:.1f} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, help="of the shortest; the others only have the entry"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    args = parser.parse_args()
    if not args.table:
        runs = [
            Run(length, variant, seed)
            for length in args.lengths
            for variant in (args.variants or VARIANTS)
            for seed in args.seeds
            if length == min(LENGTHS) or variant == ENTRY
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
