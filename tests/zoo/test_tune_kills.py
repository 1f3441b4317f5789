"""Searches that are killed at random: no trial is lost, no worker is left, and the same command goes on."""

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.zoo.searches import PASSWORD, WORDS, Running, trials, wait_for_the_end_of

pytestmark = pytest.mark.slow
N_TRIALS = 6


def worker_pids(found: list[FrozenTrial]) -> set[int]:
    return {int(trial.user_attrs["worker"].rsplit("-", 1)[1]) for trial in found if "worker" in trial.user_attrs}


def descendants(found: list[FrozenTrial]) -> dict[int, list[int]]:
    """:return: which trials were tries of which first one"""
    tries: dict[int, list[int]] = {}
    for trial in found:
        tries.setdefault(trial.system_attrs.get("failed_trial", trial.number), []).append(trial.number)
    return tries


@pytest.fixture(name="url", params=["sqlite", "journal", "postgresql"])
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    if request.param == "journal":
        return f"{tmp_path}/journal.log"
    url: str = request.getfixturevalue("postgres").new_database(f"kills{tmp_path.name}".lower())
    return url


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_lose_nothing(url: str, seed: int, tmp_path: Path) -> None:
    """Workers and the command are killed or told to end, three times in each of three runs; a fourth is left alone."""
    chance = random.Random(seed)
    words = [*WORDS, "--n-jobs", "2", "--n-trials", str(N_TRIALS), "--storage", url, "--pruner", "none", "-n", "4000"]
    seen: set[int] = set()
    for n_kills in (3, 3, 3, 0):
        process = Running(tmp_path, *words)
        for _ in range(n_kills):
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and process.poll() is None:
                if worker_pids(trials(url, TrialState.RUNNING)):
                    break
                time.sleep(0.1)
            time.sleep(chance.uniform(0.0, 2.0))
            alive = [pid for pid in worker_pids(trials(url, TrialState.RUNNING)) if psutil.pid_exists(pid)]
            seen |= set(alive)
            victims = [*alive, process.pid]
            victim = chance.choice(victims)
            if process.poll() is None and psutil.pid_exists(victim):
                os.kill(victim, chance.choice([signal.SIGKILL, signal.SIGTERM]))
        told = process.told()
        assert "Traceback" not in told and PASSWORD not in told, told
        for pid in seen:
            wait_for_the_end_of(pid)
    assert process.returncode == 0, told
    found = trials(url)
    done = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert N_TRIALS <= len(done) <= N_TRIALS + 1
    by_number = {trial.number: trial for trial in found}
    for first, tries in descendants(found).items():
        # A worker may have been killed while it drew: what was drawn stays, the rest is drawn by who tries again
        for number in tries:
            drawn = by_number[number].params.items()
            assert all(by_number[first].params.get(name, value) == value for name, value in drawn)
        cut_off = by_number[tries[-1]].state == TrialState.FAIL and "error" not in by_number[tries[-1]].user_attrs
        assert not cut_off or len(tries) > 3, f"trial {first} was given up after {len(tries)} tries"
    assert not any("error" in trial.user_attrs for trial in found), "kills are no failures of a trial"
