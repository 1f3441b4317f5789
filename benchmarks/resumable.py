"""Long tables of runs that can be stopped and started at will: each finished run is one line of a results file."""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Line = dict[str, Any]
AnyRun = TypeVar("AnyRun", bound=NamedTuple)

ROOT = Path(__file__).parents[1]
#: packages whose version may change a figure
PACKAGES = ("torch", "stable_baselines3", "sb3_contrib", "gymnasium", "numpy")
#: what follows a figure that other code than today's gave
OLDER = "†"


def options(description: str | None) -> argparse.ArgumentParser:
    """
    :param description: the script's docstring
    :return: a parser with what all tables share; a script adds its own options
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    return parser


@cache
def origin() -> Line:
    """:return: what a line says of where it comes from: commit, versions, machine"""
    changed = bool(_git("status", "--porcelain", "--", "sb3_attnmem", "zoo_configs"))
    return dict(
        commit=_git("rev-parse", "--short=10", "HEAD") + "+" * changed,  # + where files had changed since
        versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        machine=f"{_processor()}, {os.cpu_count()} cores",
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


@cache
def is_older(commit: str | None) -> bool:
    """
    :param commit: of a line; None: it was written before lines told
    :return: whether the package has changed since
    """
    if not commit or commit.endswith("+"):
        return True
    return subprocess.run(["git", "diff", "--quiet", commit, "--", "sb3_attnmem"], cwd=ROOT).returncode != 0


class ResultsFile:
    """
    ``benchmarks/results/<name>.jsonl``.

    :param name: of the table
    """

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).parent / "results" / f"{name}.jsonl"

    def lines(self) -> list[Line]:
        """:return: a line for each finished run; its ``mark`` is :data:`OLDER` where the package has changed since"""
        if not self.path.exists():
            return []
        lines: list[Line] = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [{**line, "mark": OLDER * is_older(line.get("commit"))} for line in lines]

    def foot(self) -> str:
        """:return: which code the lines come from, to stand below a table"""
        commits = Counter(line.get("commit") or "no commit noted" for line in self.lines() if line["mark"])
        if not commits:
            return ""
        listed = ", ".join(f"{commit} ({n} runs)" for commit, n in commits.items())
        return f"\n{OLDER} measured before the package's last change: {listed}"

    def run_missing(self, train: Callable[[AnyRun], Line], runs: Sequence[AnyRun], jobs: int = 1) -> None:
        """
        Do the runs that the file does not know yet. Each has a process of its own, so that none inherits another's
        random state or memory, and its line is written as soon as it is finished.

        :param train: does one, in a function that can be imported
        :param runs: their fields are part of their lines
        :param jobs: runs at a time, one core each
        """
        os.environ["OMP_NUM_THREADS"] = "1"
        self.path.parent.mkdir(exist_ok=True)
        lines = self.lines()
        missing = [run for run in runs if not any(run._asdict().items() <= line.items() for line in lines)]
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=spawn, max_tasks_per_child=1) as pool:
            futures = {pool.submit(train, run): run for run in missing}
            for future in as_completed(futures):
                line = {**futures[future]._asdict(), **future.result(), **origin()}
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                print(line, flush=True)
