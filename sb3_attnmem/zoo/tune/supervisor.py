"""The process that a search was started by: it starts workers, replaces those that die, and ends them all."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

import optuna
from tqdm.auto import tqdm

from sb3_attnmem.zoo.tune.options import Search
from sb3_attnmem.zoo.tune.storages import outage
from sb3_attnmem.zoo.tune.studies import DONE, last_error, retry_lost_trials, retry_trials_of
from sb3_attnmem.zoo.tune.workers import FAREWELL, GAVE_UP, NO_FILE, NO_STORAGE, work, worker_name

#: a worker that dies is replaced, but not for ever
REPLACEMENTS = 3
#: what ends a search: Ctrl-C, a batch system, a terminal that closes
ENDINGS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Supervisor:
    """
    The workers of a search on this machine. Inside its ``with`` a first signal ends the search, a second everything.

    :param search: what for
    :param study: of the search
    :param last_words: told when a second signal ends everything at once
    """

    def __init__(self, search: Search, study: optuna.Study, last_words: str) -> None:
        self.search = search
        self.study = study
        self.last_words = last_words
        self.context = multiprocessing.get_context("spawn")
        self.workers: list[SpawnProcess] = []
        self.started = 0
        #: the signal that ended the search
        self.signal: int | None = None
        self.code = 0
        self.messages: list[str] = []
        self.handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Supervisor":
        for signum in ENDINGS:
            handler = signal.getsignal(signum)
            if handler != signal.SIG_IGN:  # nohup has SIGHUP ignored
                self.handlers[signum] = handler
                signal.signal(signum, self._end_on)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self.handlers.items():
            signal.signal(signum, handler)

    def run(self, work: Callable[[Search, int], Any] = work) -> int:
        """
        Start the workers, and wait until enough trials are done or nothing more can be.

        :param work: what a worker does
        :return: the exit code; what there is to say is in ``messages``
        """
        try:
            if not self.search.is_over(self.study):
                retry_lost_trials(self.study)
                for _ in range(self.search.n_jobs):
                    self._start(work)
            with tqdm(total=self.search.n_trials, unit="trial", disable=None) as bar:
                while self.workers and self.signal is None:
                    multiprocessing.connection.wait([worker.sentinel for worker in self.workers], timeout=1.0)
                    self._show(bar)
                    for worker in [one for one in self.workers if not one.is_alive()]:
                        self._bury(worker, work)
                self._show(bar)
        except KeyboardInterrupt:  # raised by our own handler, which noted the signal
            self.signal = self.signal or signal.SIGINT
        finally:
            self._end_all()
        if self.signal is not None:
            self.code = 128 + self.signal
            self.messages.append("interrupted" if self.signal == signal.SIGINT else "told to end")
        elif self.code == 0 and not self._is_over():
            self.code = 1
            self.messages.append("the workers ended before enough trials were done; their files tell more")
        return self.code

    def _start(self, work: Callable[[Search, int], Any]) -> None:
        process = self.context.Process(target=work, args=(self.search, self.started), name=f"worker {self.started}")
        with _without_interrupts():
            process.start()
            self.workers.append(process)
        self.started += 1

    def _bury(self, worker: SpawnProcess, work: Callable[[Search, int], Any]) -> None:
        """Say why a worker ended, have its trial tried again, and replace it if it died."""
        self.workers.remove(worker)
        if worker.exitcode == GAVE_UP:
            self.code = 1
            self.messages.append(f"too many trials failed in a row, the last one with: {last_error(self.study)}")
        elif worker.exitcode == NO_STORAGE:
            self.code = 1
            self.messages.append(f"the storage did not answer for {self.search.storage_patience:g} seconds")
        elif worker.exitcode == NO_FILE:
            self.code = 1
            self.messages.append(f"nothing can be written into {self.search.folder()}")
        elif worker.exitcode:
            self.messages.append(f"{worker.name} died (exit code {worker.exitcode})")
            self._retry_trials_of(worker)
            if self.started < self.search.n_jobs * (1 + REPLACEMENTS):
                self._start(work)
            else:
                self.code = 1

    def _retry_trials_of(self, worker: SpawnProcess, most: int | None = 3) -> None:
        with _unless_away():  # then others take the trial for dead after a while
            retry_trials_of(self.study, worker_name(worker.pid or 0), most)

    def _end_on(self, signum: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signum
            raise KeyboardInterrupt
        for worker in self.workers:
            worker.kill()
        print(f"\n{self.last_words}", file=sys.stderr, flush=True)
        os._exit(128 + signum)

    def _end_all(self) -> None:
        """Ask the workers to end, kill those that do not, and have their trials tried again."""
        for worker in self.workers:
            worker.terminate()
        deadline = time.monotonic() + 2 * FAREWELL
        for worker in self.workers:
            worker.join(max(deadline - time.monotonic(), 0.1))
            worker.kill()
            worker.join()
            self._retry_trials_of(worker, most=None)
        self.workers.clear()

    def _is_over(self) -> bool:
        with _unless_away():
            return self.search.is_over(self.study)
        return False

    def _show(self, bar: Any) -> None:
        with _unless_away():
            trials = self.study.get_trials(deepcopy=False, states=DONE)
            values = [trial.value for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
            bar.n = len(trials)
            if values:
                bar.set_postfix_str(f"best {max(values):g}", refresh=False)
            bar.refresh()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back here, and keep it from what is started meanwhile from its first moment on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start, as part of the first worker's, would let them through
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextlib.contextmanager
def _unless_away() -> Iterator[None]:
    """Go on without what the storage cannot tell for now."""
    try:
        yield
    except Exception as error:
        if outage(error) is None:
            raise
