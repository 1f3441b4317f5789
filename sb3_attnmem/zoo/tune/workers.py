"""A worker of a search: a process that does trials of a shared study until enough are done."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import IO, NoReturn

import optuna
import torch as th
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.common.processes import end_when_told
from sb3_attnmem.zoo.tune.options import Search
from sb3_attnmem.zoo.tune.storages import outage, retry_trial, why
from sb3_attnmem.zoo.tune.studies import WORKER_ATTR, retry_trials_of

#: trials in a row that fail before a worker takes the search itself to be wrong
MAX_FAILURES = 10
#: exit codes of a worker: too many trials failed; the storage stayed away; nothing can be written
GAVE_UP, NO_STORAGE, NO_FILE = 3, 4, 5
#: seconds that the storage is given to hear that a trial is not done
FAREWELL = 5.0
#: seconds between two questions to a storage that is away
PAUSE = 1.0
#: what a trial raises that others took for dead meanwhile
LOST = (optuna.exceptions.UpdateFinishedTrialError, KeyError)


def work(search: Search, number: int) -> NoReturn:
    """
    The whole life of a worker; its output goes to a file of the study's folder.

    :param search: what for
    :param number: of this worker
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends its workers
    try:
        file = (search.folder() / f"worker-{worker_name(os.getpid())}.log").open("a", encoding="utf-8")
    except OSError as error:
        print(f"sb3-attnmem tune: {error}", file=sys.stderr)
        sys.exit(NO_FILE)
    with _output_to(file):
        end_when_told(lambda: _give_back(search), FAREWELL)
        th.set_num_threads(search.num_threads)
        code = _do_trials(search, number)
    sys.exit(code)


def worker_name(pid: int) -> str:
    """
    :param pid: of a worker on this machine
    :return: what its trials name it
    """
    return f"{socket.gethostname()}-{pid}"


def _give_back(search: Search) -> None:
    """Let others do the trial that this process is in."""
    retry_trials_of(search.open_study(), worker_name(os.getpid()), most=None)


def _do_trials(search: Search, number: int) -> int:
    """:return: the exit code"""
    manager = search.manager(number)
    name, failures = worker_name(os.getpid()), 0
    silent_since: float | None = None
    cut_off: set[int] = set()  # trials that failed because the storage was away

    def objective(trial: optuna.Trial) -> float:
        nonlocal silent_since
        trial.set_user_attr(WORKER_ATTR, name)  # whose file tells more
        silent_since = None  # it could be written
        try:
            return manager.objective(trial)
        except Exception as error:
            if outage(error, of_files=False) is not None:
                cut_off.add(trial.number)
            raise

    def watch(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal failures
        if trial.number in cut_off:
            retry_trial(study, trial)
        else:
            failures = failures + 1 if trial.state == TrialState.FAIL else 0
        if failures >= MAX_FAILURES or search.is_over(study):
            study.stop()

    while True:
        try:
            study = search.open_study(manager)
            retry_trials_of(study, name)  # one that could not be told that it failed
            if not search.is_over(study):
                left = None if search.deadline is None else max(search.deadline - time.time(), 0.0)
                study.optimize(objective, timeout=left, callbacks=[watch], catch=(Exception,), gc_after_trial=True)
            return GAVE_UP if failures >= MAX_FAILURES else 0
        except Exception as error:
            if outage(error) is not None:
                silent_since = silent_since or time.monotonic()
                _note(f"the storage does not answer: {why(error)}")
                if time.monotonic() - silent_since > search.storage_patience:
                    return NO_STORAGE
                time.sleep(PAUSE)
            elif isinstance(error, LOST):
                _note(f"others took this trial for dead: {error}")
            else:
                raise


def _note(text: str) -> None:
    """Print, if the disk is not full."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


@contextlib.contextmanager
def _output_to(file: IO[str]) -> Iterator[None]:
    """All that the process prints, libraries in C included, goes to a file."""
    with file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        yield
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
