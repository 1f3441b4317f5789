"""The options of ``tune``, checked, and what all workers of a machine make of them."""

import argparse
import importlib
import importlib.util
import random
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import optuna
from rl_zoo3.utils import StoreDict

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.zoo.registration import register, settings_for
from sb3_attnmem.zoo.tune.storages import SCHEMES, open_storage
from sb3_attnmem.zoo.tune.studies import claim_study, search_is_over, task_of
from sb3_attnmem.zoo.tune.trials import TrialManager

#: number of the command line -> the smallest that makes sense
LEAST = dict(
    n_trials=1, n_jobs=1, n_startup_trials=0, n_seeds=1, eval_episodes=1, n_eval_envs=1, num_threads=1, heartbeat=1
)
#: choice -> the package that it needs, and what installs it
PACKAGES = {
    "auto": ("optunahub", "pip install optunahub cmaes"),
    "wilcoxon": ("scipy", "pip install 'sb3_attnmem[zoo]'"),
}
#: the seeds of workers are so far apart; each trial of a worker has its n_seeds from there
SEED_STEP = 1_000


class Search(Namespace):
    """
    Options of ``tune``, as its parser names them.

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
            seed=(self.seed + worker * SEED_STEP) % 2**32,
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
        :raises ValueError: for a storage that cannot be opened, or a study of another task
        """
        study = optuna.create_study(
            storage=open_storage(self.storage, self.heartbeat),
            study_name=self.study,
            load_if_exists=True,
            direction="maximize",
            sampler=None if manager is None else manager.make_sampler(),
            pruner=None if manager is None else manager.make_pruner(),
        )
        claim_study(study, task_of(self.algo, self.env, self.env_kwargs))
        return study

    def is_over(self, study: optuna.Study) -> bool:
        """
        :param study: of this search
        :return: whether enough trials are done, by all workers together, or the time is over
        """
        return search_is_over(study, self.n_trials, self.deadline)


def read_options(words: list[str] | None = None) -> Search:
    """
    :param words: of the command line; the process's own by default
    :return: the options, with a seed, a storage and a name for the study
    :raises SystemExit: where they make no sense, before anything is built
    """
    parser = _parser()
    search = parser.parse_args(words, namespace=Search())
    try:
        _check(search)
    except ValueError as error:
        parser.error(str(error))
    search.study = search.study or f"{search.algo}-{search.env}"
    ours = settings_for(search.algo, search.env)
    search.conf_file = search.conf_file or (str(ours) if ours else None)
    search.storage = search.storage or f"sqlite:///{search.folder()}/study.db"
    if search.seed is None:  # the same command on many machines should not try the same everywhere
        search.seed = random.randrange(2**31)
    search.deadline = None if search.timeout is None else time.time() + search.timeout
    return search


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Search for better settings, by several processes, on one machine or many; can be stopped and gone "
        "on with."
    )
    parser.add_argument("--algo", required=True, help="RL algorithm")
    parser.add_argument("--env", required=True, help="environment ID")
    parser.add_argument("--n-trials", type=int, default=100, help="trials that shall be done, by all workers together")
    parser.add_argument("--timeout", type=float, help="seconds after which no trial begins")
    parser.add_argument("--storage", help=f"{SCHEMES}; by default an SQLite file in the study's folder")
    parser.add_argument("--study-name", "--study", dest="study", help="by default ALGO-ENV")
    parser.add_argument("--n-jobs", type=int, default=1, help="worker processes on this machine")
    parser.add_argument("--sampler", default="tpe", choices=["tpe", "random", "auto"])
    parser.add_argument("--pruner", default="median", choices=["median", "halving", "wilcoxon", "none"])
    parser.add_argument(
        "--n-startup-trials", type=int, default=10, help="random trials before sampler and pruner judge"
    )
    parser.add_argument("--n-seeds", type=int, default=1, help="agents a trial trains; its value is their mean")
    parser.add_argument("-n", "--n-timesteps", type=int, default=-1, help="environment steps of a trial's agent")
    parser.add_argument("--n-evaluations", type=int, help="of an agent, for the pruner (default: 8 or more)")
    parser.add_argument("--eval-episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--n-eval-envs", type=int, default=4, help="environments of an evaluation")
    parser.add_argument("-conf", "--conf-file", help="settings that the search starts from")
    parser.add_argument("-params", "--hyperparams", nargs="+", action=StoreDict, help="settings to overwrite there")
    parser.add_argument("--env-kwargs", nargs="+", action=Typed, help="arguments of the environment")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages that register environments")
    parser.add_argument("-f", "--log-folder", default="logs", help="the study's files go to ALGO/tune/STUDY in it")
    parser.add_argument("--seed", type=int, help="of the first worker, the others' follow from it (default: random)")
    parser.add_argument("--num-threads", type=int, default=1, help="torch threads of a worker")
    parser.add_argument("--device", default="auto", help="torch device")
    parser.add_argument("--heartbeat", type=int, default=60, help="seconds between two signs of life of a worker")
    parser.add_argument(
        "--storage-patience", type=float, default=300, help="seconds to wait for a storage that is away"
    )
    parser.set_defaults(env_kwargs_typed=[])
    return parser


class Typed(StoreDict):
    """Keeps the words as they were typed, too, for a command that does the same again."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        super().__call__(parser, namespace, values, option_string)
        setattr(namespace, f"{self.dest}_typed", list(values))


def _check(search: Search) -> None:
    for name, least in LEAST.items():
        check_integer(f"--{name.replace('_', '-')}", getattr(search, name), least)
    if search.n_timesteps != -1:  # as many as the settings say
        check_integer("--n-timesteps", search.n_timesteps)
    if search.n_evaluations is not None:
        check_integer("--n-evaluations", search.n_evaluations)
    if search.seed is not None:
        check_integer("--seed", search.seed, least=0, most=2**32 - 1)
    if search.timeout is not None:
        check_number("--timeout", search.timeout, above=0.0)
    check_number("--storage-patience", search.storage_patience, least=0.0)
    if search.pruner == "wilcoxon" and search.n_seeds < 4:
        raise ValueError(f"--pruner wilcoxon compares seed by seed: pass --n-seeds 4 or more, not {search.n_seeds}.")
    for option in ("sampler", "pruner"):
        choice = getattr(search, option)
        package, command = PACKAGES.get(choice, (None, None))
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(f"--{option} {choice} needs the package {package}: {command}")
