"""Long tables of runs that can be stopped and started at will: each finished run is one line of a results file."""

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Line = dict[str, Any]
AnyRun = TypeVar("AnyRun", bound=NamedTuple)


class ResultsFile:
    """
    ``benchmarks/results/<name>.jsonl``.

    :param name: of the table
    """

    def __init__(self, name: str) -> None:
        self.path = Path(__file__).parent / "results" / f"{name}.jsonl"

    def lines(self) -> list[Line]:
        """:return: a line for each finished run"""
        return (
            [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
            if self.path.exists()
            else []
        )

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
                line = {**futures[future]._asdict(), **future.result()}
                with self.path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                print(line, flush=True)
