"""Searches in processes of their own, and what is in their studies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.zoo.storages import open_storage

PASSWORD = "correct-horse"
ENV = "PassiveTMaze10-v0"
TASK = ["--algo", "rdqn", "--env", ENV]
WORDS = ["tune", *TASK, "--n-startup-trials", "2", "--heartbeat", "1", "--eval-episodes", "2", "--n-eval-envs", "1"]


class Running(subprocess.Popen[str]):
    """``sb3-attnmem`` with some words, in a folder."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__(
            [sys.executable, "-m", "sb3_attnmem", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            # Tests that run in the background of a shell inherit that Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def told(self) -> str:
        """:return: all that it printed, until its end"""
        try:
            return self.communicate(timeout=240)[0]
        finally:
            if self.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)


def trials(url: str, *states: TrialState) -> list[FrozenTrial]:
    """:return: of the only study; none where there is no study yet"""
    storage = open_storage(url)
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).get_trials(states=states or None) if names else []


def a_running_trial(url: str, process: Running) -> FrozenTrial:
    """:return: the first trial that a worker of ``process`` is in"""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        running = [trial for trial in trials(url, TrialState.RUNNING) if "settings" in trial.user_attrs]
        if running:
            return running[0]
        time.sleep(0.2)
    raise AssertionError(process.told())


def wait_for_the_end_of(pid: int) -> None:
    """Of a process that was killed; one that nobody waits for stays in the table as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process, deadline = psutil.Process(pid), time.monotonic() + 30
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"process {pid} outlives its search"
            time.sleep(0.05)
