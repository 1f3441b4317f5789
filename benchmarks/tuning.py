"""
Does tuning pay? The settings that a search found against those it began with, and those of the ``default`` entry,
over seeds that the search did not see. Resumable; results in ``benchmarks/results/tuning.jsonl``.

    sb3-attnmem tune --algo rdqn --env CartPoleNoVel-v1 -n 40000 --timeout 2400 \
        --n-trials 1000 --seed 0
    cp logs/rdqn/tune/rdqn-CartPoleNoVel-v1/best.yml benchmarks/results/tuned-CartPoleNoVel-v1.yml
    sb3-attnmem tune --algo rdqn --env popgym-RepeatPreviousEasy-v0 --gym-packages popgym \
        -conf benchmarks/base_settings.yml -n 30000 --timeout 2400 --n-trials 1000 --seed 0
    cp logs/rdqn/tune/rdqn-popgym-RepeatPreviousEasy-v0/best.yml \
        benchmarks/results/tuned-popgym-RepeatPreviousEasy-v0.yml
    python benchmarks/tuning.py --jobs 2           # run what is missing, then print the table
    python benchmarks/tuning.py --table
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch as th
import yaml
from base_settings import settings_of
from resumable import Line, ResultsFile, options

RESULTS = ResultsFile("tuning")
#: task -> environment steps, in the search as here
TASKS = {"CartPoleNoVel-v1": 40_000, "popgym-RepeatPreviousEasy-v0": 30_000}
SEEDS = (100, 101, 102, 103, 104)
VARIANTS = ("default entry", "the task's entry", "tuned")


class Run(NamedTuple):
    """
    :param task: to learn
    :param settings: which ones
    :param seed: of the run
    """

    task: str
    settings: str
    seed: int


def train(run: Run) -> Line:
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
    from memory_tasks import SETTINGS, train_and_score

    th.set_num_threads(1)
    settings = {
        "default entry": SETTINGS["default"],
        "the task's entry": settings_of(run.task),
        "tuned": yaml.safe_load(tuned_file(run.task).read_text(encoding="utf-8"))[run.task],
    }[run.settings]
    if "env_wrapper" in settings_of(run.task):  # part of the task, not of how it is learned
        settings = {**settings, "env_wrapper": settings_of(run.task)["env_wrapper"]}
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "settings.yml"
        config.write_text(yaml.safe_dump({run.task: settings}), encoding="utf-8")
        score, *_ = train_and_score(run.task, run.seed, steps=TASKS[run.task], config=config)
    return dict(steps=TASKS[run.task], score=score, seconds=round(time.time() - begin))


def tuned_file(task: str) -> Path:
    """:return: the search's ``best.yml``"""
    return RESULTS.path.with_name(f"tuned-{task}.yml")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    args = parser.parse_args()
    if not args.table:
        runs = [Run(task, variant, seed) for seed in SEEDS for task in TASKS for variant in VARIANTS]
        RESULTS.run_missing(train, [run for run in runs if args.only in run.task], args.jobs)
    print("| task, environment steps | settings | mean ± standard deviation | by seed |\n|---|---|---|---|")
    for task, steps in TASKS.items():
        for variant in VARIANTS:
            lines = sorted(RESULTS.lines(), key=lambda line: line["seed"])
            lines = [line for line in lines if (line["task"], line["settings"]) == (task, variant)]
            scores = [line["score"] for line in lines]
            if len(scores) > 1:
                mean = f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}"
                each = ", ".join(f"{line['score']:.2f}{line['mark']}" for line in lines)
                print(f"| `{task}`, {steps:,} | {variant} | {mean} | {each} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
