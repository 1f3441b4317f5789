"""A worker of a search: a process that does trials of a shared study until enough are done."""

import contextlib
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import optuna
import torch as th
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.zoo.registration import register
from sb3_attnmem.zoo.tune.storages import OUTAGES, open_storage, why
from sb3_attnmem.zoo.tune.trials import TrialManager

#: trials that are done, whatever they reached
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
#: trials in a row that fail before a worker takes the search itself to be wrong
MAX_FAILURES = 10
#: exit codes of a worker
GAVE_UP, NO_STORAGE = 3, 4
#: what a trial raises that others took for dead meanwhile
LOST = (optuna.exceptions.UpdateFinishedTrialError, KeyError)


class Search(Namespace):
    """
    Options of ``tune``, as its parser names them; what all workers of this machine share.

    :ivar storage: URL
    :ivar study: name
    :ivar deadline: seconds since the epoch after which no trial begins; None for none
    :ivar log_folder: of logs; the study's own folder lies in it
    """

    def folder(self) -> Path:
        """:return: where the study's files are"""
        return Path(self.log_folder) / self.algo / "tune" / self.study.replace("/", "-")

    def manager(self, worker: int = 0) -> TrialManager:
        """
        :param worker: its number, from which its seed follows
        :return: what does trials
        :raises Exception: when the settings make no sense
        """
        register()
        for package in self.gym_packages:
            importlib.import_module(package)
        manager = TrialManager(
            Namespace(**vars(self)),
            self.algo,
            self.env,
            self.log_folder,
            n_timesteps=self.n_timesteps,
            n_eval_episodes=self.eval_episodes,
            hyperparams=self.hyperparams,
            env_kwargs=self.env_kwargs,
            optimize_hyperparameters=True,
            sampler=self.sampler,
            pruner=self.pruner,
            n_startup_trials=self.n_startup_trials,
            n_evaluations=self.n_evaluations,
            n_eval_envs=self.n_eval_envs,
            n_seeds=self.n_seeds,
            seed=self.seed + worker * 1_000,
            verbose=0,
            device=self.device,
            config=self.conf_file,
        )
        manager.setup_experiment()
        return manager

    def open_study(self, manager: TrialManager | None = None) -> optuna.Study:
        """
        :param manager: whose sampler and pruner the study shall ask; None where no trial is done
        :return: the study, which is made where there is none
        :raises ValueError: for a storage that cannot be opened
        """
        return optuna.create_study(
            storage=open_storage(self.storage, self.heartbeat),
            study_name=self.study,
            load_if_exists=True,
            direction="maximize",
            sampler=None if manager is None else manager._create_sampler(self.sampler),
            pruner=None if manager is None else manager._create_pruner(self.pruner),
        )


def work(search: Search, number: int) -> NoReturn:
    """
    The whole life of a worker; its output goes to a file of the study's folder.

    :param search: what for
    :param number: of this worker
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes: the parent ends its workers
    signal.signal(signal.SIGTERM, _interrupt)
    with _output_to(search.folder() / f"worker-{_name()}.log"):
        th.set_num_threads(search.num_threads)
        try:
            code = _do_trials(search, number)
        except KeyboardInterrupt:
            code = 0
    sys.exit(code)


def _name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _do_trials(search: Search, number: int) -> int:
    """:return: the exit code"""
    manager = search.manager(number)
    failures = 0

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("worker", _name())  # whose file tells more
        return manager.objective(trial)

    def watch(study: optuna.Study, trial: FrozenTrial) -> None:
        nonlocal failures
        failures = failures + 1 if trial.state == TrialState.FAIL else 0
        parent = multiprocessing.parent_process()
        if failures >= MAX_FAILURES or (parent is not None and not parent.is_alive()) or search_is_over(search, study):
            study.stop()

    silent_since = None
    while True:
        try:
            study = search.open_study(manager)
            silent_since = None
            if not search_is_over(search, study):
                left = None if search.deadline is None else max(search.deadline - time.time(), 0.0)
                study.optimize(objective, timeout=left, callbacks=[watch], catch=(Exception,), gc_after_trial=True)
            return GAVE_UP if failures >= MAX_FAILURES else 0
        except LOST as error:
            print(f"others took this trial for dead: {error}", flush=True)
        except (*OUTAGES, ValueError) as error:
            silent_since = silent_since or time.monotonic()
            print(f"the storage does not answer: {why(error)}", flush=True)
            if time.monotonic() - silent_since > search.storage_patience:
                return NO_STORAGE
            time.sleep(1.0)


def search_is_over(search: Search, study: optuna.Study) -> bool:
    """
    :param search: what for
    :param study: its study
    :return: whether enough trials are done, by all workers together, or the time is over
    """
    done = len(study.get_trials(deepcopy=False, states=DONE))
    return done >= search.n_trials or (search.deadline is not None and time.time() >= search.deadline)


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


def last_error(study: optuna.Study) -> str | None:
    """
    :param study: with trials
    :return: what the last trial that failed said
    """
    told: list[Any] = [
        trial.user_attrs["error"]
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        if "error" in trial.user_attrs
    ]
    return told[-1] if told else None
