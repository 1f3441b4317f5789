"""``sb3-attnmem tune``: a search by several processes, on one machine or many, that can be stopped and gone on with."""

import argparse
import contextlib
import io
import multiprocessing
import random
import shlex
import sys
import time
from multiprocessing.context import SpawnProcess
from typing import Any

import optuna
from rl_zoo3.utils import StoreDict
from tqdm.auto import tqdm

from sb3_attnmem.zoo.registration import settings_for
from sb3_attnmem.zoo.tune.report import write_report
from sb3_attnmem.zoo.tune.storages import OUTAGES, SCHEMES, masked, why
from sb3_attnmem.zoo.tune.workers import DONE, GAVE_UP, NO_STORAGE, Search, last_error, search_is_over, work

#: a worker that dies is replaced, but not for ever
REPLACEMENTS = 3
#: seconds that a worker is given to end its trial
GRACE = 30.0


def main() -> int:
    """
    Read the command line of the process, search, write the report.

    :return: the exit code: 0 when enough trials are done or the time is over, 1 when the search did not get there,
        2 where the command line does not make sense, 130 after Ctrl-C
    """
    search = _read_options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            manager = search.manager()
        study = search.open_study()
    except OUTAGES as error:
        print(f"sb3-attnmem tune: storage '{masked(search.storage)}' does not answer: {why(error)}", file=sys.stderr)
        return 2
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"sb3-attnmem tune: {error}", file=sys.stderr)
        return 2
    search.folder().mkdir(parents=True, exist_ok=True)
    print(f"Study {search.study} in {masked(search.storage)}; files in {search.folder()}")
    code, messages = _run(search, study)
    with contextlib.redirect_stdout(io.StringIO()):
        _, base = manager.read_hyperparameters()
    base["n_timesteps"] = manager.n_timesteps  # as the trials had it
    try:
        for line in write_report(study, search.folder(), search.env, dict(base)):
            print(line)
    except OUTAGES as error:
        messages.append(f"no report: the storage does not answer ({why(error)})")
        code = code or 1
    for message in messages:
        print(f"sb3-attnmem tune: {message}", file=sys.stderr)
    if code:
        command = shlex.join(["sb3-attnmem", "tune", *(masked(word) for word in sys.argv[1:])])
        print(f"Nothing is lost; go on with: {command}", file=sys.stderr)
    else:
        best = search.folder() / "best.yml"
        print(f"Train the best: sb3-attnmem train --algo {search.algo} --env {search.env} -conf {best}")
    print(f"Look closer: optuna-dashboard {shlex.quote(masked(search.storage))}")
    return code


def _run(search: Search, study: optuna.Study) -> tuple[int, list[str]]:
    """:return: the exit code, and what there is to say"""
    context = multiprocessing.get_context("spawn")
    started = 0

    def start() -> SpawnProcess:
        nonlocal started
        process = context.Process(target=work, args=(search, started), name=f"worker {started}")
        process.start()
        started += 1
        return process

    code, messages = 0, []
    workers = [] if search_is_over(search, study) else [start() for _ in range(search.n_jobs)]
    try:
        with tqdm(total=search.n_trials, unit="trial", disable=None) as bar:
            while workers:
                time.sleep(1.0)
                _show(bar, study)
                for worker in [one for one in workers if not one.is_alive()]:
                    workers.remove(worker)
                    if worker.exitcode == GAVE_UP:
                        messages.append(f"too many trials failed in a row, the last one with: {last_error(study)}")
                        code = 1
                    elif worker.exitcode == NO_STORAGE:
                        messages.append(f"the storage did not answer for {search.storage_patience:g} seconds")
                        code = 1
                    elif worker.exitcode:
                        messages.append(f"{worker.name} died (exit code {worker.exitcode})")
                        if started < search.n_jobs * (1 + REPLACEMENTS):
                            workers.append(start())
                        else:
                            code = 1
            _show(bar, study)
    except KeyboardInterrupt:
        code = 130
        messages.append("interrupted")
    finally:
        _end(workers)
    return code, messages


def _end(workers: list[SpawnProcess]) -> None:
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + GRACE
    for worker in workers:
        worker.join(max(deadline - time.monotonic(), 0.1))
        worker.kill()


def _show(bar: Any, study: optuna.Study) -> None:
    with contextlib.suppress(*OUTAGES):
        trials = study.get_trials(deepcopy=False, states=DONE)
        complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
        values = [trial.value for trial in complete if trial.value is not None]
        bar.n = len(trials)
        if values:
            bar.set_postfix_str(f"best {max(values):g}", refresh=False)
        bar.refresh()


def _read_options() -> Search:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algo", required=True, help="RL algorithm")
    parser.add_argument("--env", required=True, help="environment ID")
    parser.add_argument("--n-trials", type=int, default=100, help="trials that shall be done, by all workers together")
    parser.add_argument("--timeout", type=float, help="seconds after which no trial begins")
    parser.add_argument("--storage", help=f"{SCHEMES}; by default an SQLite file in the study's folder")
    parser.add_argument("--study", help="name of the study; by default ALGO-ENV")
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
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, help="arguments of the environment")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages that register environments")
    parser.add_argument("-f", "--log-folder", default="logs", help="the study's files go to ALGO/tune/STUDY in it")
    parser.add_argument("--seed", type=int, help="of the first worker, the others' follow from it (default: random)")
    parser.add_argument("--num-threads", type=int, default=1, help="torch threads of a worker")
    parser.add_argument("--device", default="auto", help="torch device")
    parser.add_argument("--heartbeat", type=int, default=60, help="seconds between two signs of life of a worker")
    parser.add_argument(
        "--storage-patience", type=float, default=300, help="seconds to wait for a storage that is away"
    )
    search = parser.parse_args(namespace=Search())
    for name in ("n_trials", "n_jobs", "n_seeds", "eval_episodes", "n_eval_envs", "num_threads", "heartbeat"):
        if getattr(search, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(search, name)}: pass at least 1")
    if search.pruner == "wilcoxon" and search.n_seeds < 4:
        parser.error(f"--pruner wilcoxon compares seed by seed: pass --n-seeds 4 or more, not {search.n_seeds}")
    search.study = search.study or f"{search.algo}-{search.env}"
    ours = settings_for(search.algo, search.env)
    search.conf_file = search.conf_file or (str(ours) if ours else None)
    search.storage = search.storage or f"sqlite:///{search.folder()}/study.db"
    if search.seed is None:  # the same command on many machines should not try the same everywhere
        search.seed = random.randrange(2**31)
    search.deadline = None if search.timeout is None else time.time() + search.timeout
    return search
