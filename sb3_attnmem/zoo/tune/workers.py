"""A worker of a search: a process that does trials of a shared study until enough are done."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import optuna
import torch as th
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.zoo.tune.options import Search
from sb3_attnmem.zoo.tune.storages import outage, retry_trial, why
from sb3_attnmem.zoo.tune.studies import WORKER_ATTR, retry_trials_of

#: trials in a row that fail before a worker takes the search itself to be wrong
MAX_FAILURES = 10
#: exit codes of a worker: too many trials failed; the storage stayed away; it was told to end
GAVE_UP, NO_STORAGE, ENDED = 3, 4, 128 + signal.SIGTERM
#: seconds that the storage is given to hear that a trial is not done
FAREWELL = 5.0
#: what a trial raises that others took for dead meanwhile
LOST = (optuna.exceptions.UpdateFinishedTrialError, KeyError)


def work(search: Search, number: int) -> NoReturn:
    """
    The whole life of a worker; its output goes to a file of the study's folder.

    :param search: what for
    :param number: of this worker
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends its workers
    with _output_to(search.folder() / f"worker-{worker_name(os.getpid())}.log"):
        end_with_the_parent(lambda: _give_back(search))
        th.set_num_threads(search.num_threads)
        code = _do_trials(search, number)
    sys.exit(code)


def worker_name(pid: int) -> str:
    """
    :param pid: of a worker on this machine
    :return: what its trials name it
    """
    return f"{socket.gethostname()}-{pid}"


def end_with_the_parent(farewell: Callable[[], None]) -> None:
    """
    End this process when it is told to (SIGTERM), or when its parent is gone, whatever it does at that moment.

    A thread waits for both: an exception in the main thread could come where it is swallowed, or leave the thread that
    gives signs of life running for ever.

    :param farewell: is called first, and given :data:`FAREWELL` seconds
    """
    told, signals = os.pipe()
    os.set_blocking(signals, False)
    signal.set_wakeup_fd(signals)  # written to at once, even while the main thread is inside of a long call
    signal.signal(signal.SIGTERM, _noted)
    parent = multiprocessing.parent_process()
    reasons = [told] if parent is None else [told, parent.sentinel]

    def wait() -> NoReturn:
        while told in (ready := multiprocessing.connection.wait(reasons)) and os.read(told, 1)[0] != signal.SIGTERM:
            pass
        print("told to end" if told in ready else "the parent is gone", flush=True)
        last = threading.Thread(target=farewell, daemon=True)
        last.start()
        last.join(FAREWELL)
        os._exit(ENDED)

    threading.Thread(target=wait, name="end with the parent", daemon=True).start()


def _noted(signum: int, frame: FrameType | None) -> None:
    pass


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
                print(f"the storage does not answer: {why(error)}", flush=True)
                if time.monotonic() - silent_since > search.storage_patience:
                    return NO_STORAGE
                time.sleep(1.0)
            elif isinstance(error, LOST):
                print(f"others took this trial for dead: {error}", flush=True)
            else:
                raise


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """All that the process prints, libraries in C included, goes to the end of a file."""
    with path.open("a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
        yield
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
