"""Stand-ins for a search and its workers, without torch, so that their processes start at once."""

import os
import signal
import sys
import time

from optuna import Study
from optuna.trial import TrialState


class LightSearch:
    """
    What a supervisor must know of a search.

    :param n_jobs: workers
    :param n_trials: after which it is over
    """

    storage_patience = 2.0

    def __init__(self, n_jobs: int = 1, n_trials: int = 1) -> None:
        self.n_jobs = n_jobs
        self.n_trials = n_trials

    def folder(self) -> str:
        return "logs/x"

    def is_over(self, study: Study) -> bool:
        return len(study.get_trials(states=(TrialState.COMPLETE,))) >= self.n_trials


def ends(search: LightSearch, number: int) -> None:
    pass


def the_first_is_killed(search: LightSearch, number: int) -> None:
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def the_first_is_told_to_end(search: LightSearch, number: int) -> None:
    if number == 0:
        os.kill(os.getpid(), signal.SIGTERM)


def gives_up(search: LightSearch, number: int) -> None:
    sys.exit(3)


def has_no_storage(search: LightSearch, number: int) -> None:
    sys.exit(4)


def has_no_file(search: LightSearch, number: int) -> None:
    sys.exit(5)


def interrupts(search: LightSearch, number: int) -> None:
    """The first one interrupts the supervisor as Ctrl-C does, which reaches all workers, too; the others go on."""
    if number == 0:
        time.sleep(0.5)  # until the others are there
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)


def tells_to_end(search: LightSearch, number: int) -> None:
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)


def does_not_end(search: LightSearch, number: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tells_to_end(search, number)
