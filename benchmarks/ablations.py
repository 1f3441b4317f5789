"""
What each part of R2D2 buys: all parts together, and each switched off in turn, on two tasks. Resumable;
results in ``benchmarks/results/ablations.jsonl``.

    python benchmarks/ablations.py --jobs 2        # run what is missing, then print the table and draw it
    python benchmarks/ablations.py --table
"""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import torch as th
from base_settings import config_of, settings_of
from resumable import Line, ResultsFile, options

from sb3_attnmem import PrioritizedSequenceReplayBuffer

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ResultsFile("ablations")
PLOT = ROOT / "docs" / "pictures" / "ablations.png"
#: task -> the environment steps it is given, too few to solve it easily
TASKS = {"CartPoleNoVel-v1": 60_000, "PassiveTMaze30-v0": 200_000}
#: T-Mazes are solved or not, which two seeds would not tell from luck
SEEDS = {"CartPoleNoVel-v1": (0, 1), "PassiveTMaze30-v0": (0, 1, 2, 3)}
PARTS: dict[str, Any] = dict(
    double_q=True,
    replay_buffer_class=PrioritizedSequenceReplayBuffer,
    burn_in=8,
    state_init="stored",
    n_steps=3,
    value_rescaling=True,
    refresh_states=True,
)
#: what is switched off -> settings in place of PARTS; "dueling" is the policy's
VARIANTS: dict[str, dict[str, Any]] = {
    "nothing (all parts)": {},
    "double Q-learning": dict(double_q=False),
    "dueling head": dict(dueling=False),
    "priorities": dict(replay_buffer_class=None),
    "burn-in (and refresh)": dict(burn_in=0, refresh_states=False),
    "stored states (and refresh)": dict(state_init="zero", refresh_states=False),
    "n-step returns": dict(n_steps=1),
    "value rescaling": dict(value_rescaling=False),
    "state refresh": dict(refresh_states=False),
}


class Run(NamedTuple):
    """
    :param task: an entry of the configuration
    :param variant: what is switched off
    :param seed: of the run
    """

    task: str
    variant: str
    seed: int


def train(run: Run) -> Line:
    sys.path.insert(0, str(ROOT / "examples"))
    from memory_tasks import train_and_score

    th.set_num_threads(1)
    settings = {**PARTS, **VARIANTS[run.variant]}
    dueling = settings.pop("dueling", True)
    overrides = {**settings, "policy_kwargs": {**settings_of(run.task)["policy_kwargs"], "dueling": dueling}}
    begin = time.time()
    score, *_ = train_and_score(
        run.task, run.seed, steps=TASKS[run.task], overrides=overrides, config=config_of(run.task)
    )
    return dict(steps=TASKS[run.task], score=score, seconds=round(time.time() - begin))


def report() -> None:
    """Print the table, draw it as bars."""
    scores: dict[tuple[str, str], list[float]] = {}
    for line in sorted(RESULTS.lines(), key=lambda line: line["seed"]):
        scores.setdefault((line["task"], line["variant"]), []).append(line["score"])
    if not scores:
        print("no results yet")
        return
    print(f"| switched off | {' | '.join(f'`{task}`, {steps // 1000}k steps' for task, steps in TASKS.items())} |")
    print("|---|---|---|")
    for variant in VARIANTS:
        cells = [", ".join(f"{score:.2f}" for score in scores.get((task, variant), [])) or "–" for task in TASKS]
        print(f"| {variant} | {' | '.join(cells)} |")
    figure, axes = plt.subplots(1, len(TASKS), figsize=(11, 4), sharey=True)
    for axis, task in zip(axes, TASKS, strict=True):
        for i, variant in enumerate(VARIANTS):
            runs = scores.get((task, variant), [])
            axis.barh(i, sum(runs) / max(len(runs), 1), color="tab:blue" if i else "tab:green", alpha=0.6)
            axis.plot(runs, [i] * len(runs), "ko", markersize=4)
        axis.set(title=task, xlabel="greedy score of the final model (dots: seeds)", yticks=range(len(VARIANTS)))
        axis.set_yticklabels(VARIANTS)
    axes[0].invert_yaxis()
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    args = parser.parse_args()
    if not args.table:
        runs = [Run(task, variant, seed) for task in TASKS for seed in SEEDS[task] for variant in VARIANTS]
        RESULTS.run_missing(train, [run for run in runs if args.only in run.task], args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
