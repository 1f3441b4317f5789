"""
What stale recurrent states do, and what mends it: ΔQ (R2D2, section 3) of stored and zero states, with and without
burn-in and state refresh, while an agent learns CartPole without velocities. Resumable; results in
``benchmarks/results/staleness.jsonl``.

    python benchmarks/staleness.py [--jobs 2]            # run what is missing, then print the table and draw the plot
    python benchmarks/staleness.py --table
"""

import csv
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch as th
from resumable import Line, ResultsFile, options

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ResultsFile("staleness")
PLOT = ROOT / "docs" / "pictures" / "staleness.png"
TASK = "CartPoleNoVel-v1"
VARIANTS: dict[str, dict[str, Any]] = {
    "zero state": dict(state_init="zero", burn_in=0),
    "zero state, burn-in 8": dict(state_init="zero", burn_in=8),
    "stored state": dict(state_init="stored", burn_in=0),
    "stored state, burn-in 8": dict(state_init="stored", burn_in=8),
    "stored state, burn-in 8, refresh": dict(state_init="stored", burn_in=8, refresh_states=True),
}


class Run(NamedTuple):
    """
    :param variant: how sequences begin
    :param seed: of the run
    :param steps: environment steps
    """

    variant: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    sys.path.insert(0, str(ROOT / "examples"))
    from memory_tasks import train_and_score

    th.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        overrides = dict(VARIANTS[run.variant], delta_q_interval=25)
        score, *_ = train_and_score(TASK, run.seed, steps=run.steps, overrides=overrides, csv_folder=folder)
        with (Path(folder) / "progress.csv").open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("train/delta_q_last")]
    names = ("time/total_timesteps", "train/delta_q_first", "train/delta_q_last")
    curve = [[float(row[column]) for column in names] for row in rows]
    return dict(score=score, curve=curve)


def report() -> None:
    """Print the table (second half of training) and draw the curves."""
    print("| states | ΔQ, first learning step | ΔQ, last learning step | final score |\n|---|---|---|---|")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for name in VARIANTS:
        lines = [line for line in RESULTS.lines() if line["variant"] == name]
        if not lines:
            continue
        late = [point for line in lines for point in line["curve"] if point[0] > line["steps"] / 2]
        first, last = (statistics.mean(point[i] for point in late) for i in (1, 2))
        scores = ", ".join(f"{line['score']:.0f}" for line in lines)
        print(f"| {name} | {first:.4f} | {last:.4f} | {scores} |")
        for axis, i, title in zip(axes, (1, 2), ("first learning step", "last learning step"), strict=True):
            curve = lines[0]["curve"]
            window = max(len(curve) // 40, 1)
            smooth = [statistics.mean(p[i] for p in curve[max(k - window, 0) : k + 1]) for k in range(len(curve))]
            axis.plot([point[0] for point in curve], smooth, label=name)
            axis.set(title=title, xlabel="environment steps", ylabel="ΔQ", yscale="log")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)
    print(PLOT)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    if not args.table:
        runs = [Run(variant, seed, args.steps) for seed in args.seeds for variant in VARIANTS]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
