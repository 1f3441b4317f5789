"""What a worker does, in this process: trials, waiting for a storage that is away, giving up."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from sb3_attnmem.zoo.tune import workers
from sb3_attnmem.zoo.tune.options import Search, read_options
from sb3_attnmem.zoo.tune.storages import StorageAway, open_storage
from sb3_attnmem.zoo.tune.studies import retry_lost_trials, retry_trials_of

optuna.logging.set_verbosity(optuna.logging.ERROR)
Objective = Callable[[optuna.Trial], float]


def away() -> OperationalError:
    return OperationalError("SELECT 1", {}, Exception("the connection is refused"))


class Manager:
    """Does trials with any objective."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def make_sampler(self) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=0)

    def make_pruner(self) -> optuna.pruners.BasePruner:
        return optuna.pruners.NopPruner()


@pytest.fixture(name="search", params=["sqlite", "journal"])
def _search(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    if request.param == "postgresql":
        storage = request.getfixturevalue("postgres").new_database(f"workers{tmp_path.name}".lower())
    elif request.param == "grpc":
        storage = request.getfixturevalue("proxy").url
    else:
        storage = {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}[request.param]
    words = ["--algo", "rdqn", "--env", "PassiveTMaze10-v0", "--n-trials", "3", "--storage", storage]
    monkeypatch.setattr(workers, "PAUSE", 0.01)
    monkeypatch.setattr("sb3_attnmem.zoo.tune.storages.MAKING_TABLES", 0.1)
    monkeypatch.setattr(workers, "MAX_FAILURES", 3)
    monkeypatch.setattr("gc.collect", lambda: 0)  # after each trial, in a process that holds much
    return read_options(words)


def do_trials(search: Search, monkeypatch: pytest.MonkeyPatch, objective: Objective) -> tuple[int, optuna.Study]:
    """:return: the worker's exit code, and the study"""
    monkeypatch.setattr(Search, "manager", lambda search, number: Manager(objective))
    code = workers._do_trials(search, 0)
    return code, search.open_study()


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


@pytest.mark.parametrize("search", ["sqlite", "journal", "postgresql", "grpc"], indirect=True)
def test_trials_are_done_until_there_are_enough(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    code, study = do_trials(search, monkeypatch, lambda trial: trial.suggest_float("x", 0.0, 1.0))
    assert code == 0 and states(study) == ["COMPLETE"] * 3
    assert {trial.user_attrs["worker"] for trial in study.trials} == {workers.worker_name(os.getpid())}


def test_a_worker_gives_up_where_every_trial_fails(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(trial: optuna.Trial) -> float:
        raise FileNotFoundError("no such wrapper")  # an OSError, but not of the storage

    code, study = do_trials(search, monkeypatch, fails)
    assert code == workers.GAVE_UP and states(study) == ["FAIL"] * workers.MAX_FAILURES


def test_a_storage_that_comes_back_is_waited_for(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    open_study, n_calls = Search.open_study, 0

    def open_or_fail(search: Search, manager: Any = None) -> optuna.Study:
        nonlocal n_calls
        n_calls += 1
        if n_calls <= 2:
            raise (StorageAway("cannot be opened") if n_calls == 1 else away())
        return open_study(search, manager)

    monkeypatch.setattr(Search, "open_study", open_or_fail)
    code, study = do_trials(search, monkeypatch, lambda trial: 1.0)
    assert code == 0 and states(study) == ["COMPLETE"] * 3 and n_calls >= 3


def test_a_storage_that_stays_away_ends_the_worker(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "manager", lambda search, number: Manager(lambda trial: 1.0))

    def fail(search: Search, manager: Any = None) -> optuna.Study:
        raise away()

    monkeypatch.setattr(Search, "open_study", fail)
    search.storage_patience = 0.05
    assert workers._do_trials(search, 0) == workers.NO_STORAGE


def test_a_mistake_is_not_waited_on(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(search: Search, manager: Any = None) -> optuna.Study:
        raise ValueError("n_startup_trials=-1")

    monkeypatch.setattr(Search, "manager", lambda search, number: None)
    monkeypatch.setattr(Search, "open_study", wrong)
    with pytest.raises(ValueError, match="n_startup_trials"):
        workers._do_trials(search, 0)


@pytest.mark.parametrize("search", ["sqlite"], indirect=True)
@pytest.mark.parametrize("of", [optuna.exceptions.StorageInternalError, away])
def test_a_trial_that_cannot_be_told_is_done_again(
    of: Callable[[], Exception], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna loses its way where it cannot say how a trial ended: an UnboundLocalError."""
    tell, get, broken = RDBStorage.set_trial_state_values, RDBStorage.get_trial, 2

    def fail_twice() -> None:
        nonlocal broken
        if broken:
            broken -= 1
            raise of() from away()

    def tell_or_fail(storage: RDBStorage, trial_id: int, state: TrialState, values: Any = None) -> bool:
        if state == TrialState.COMPLETE:
            fail_twice()
        return tell(storage, trial_id, state, values)

    def get_or_fail(storage: RDBStorage, trial_id: int) -> Any:
        if broken == 1:
            fail_twice()
        return get(storage, trial_id)

    monkeypatch.setattr(RDBStorage, "set_trial_state_values", tell_or_fail)
    monkeypatch.setattr(RDBStorage, "get_trial", get_or_fail)
    code, study = do_trials(search, monkeypatch, lambda trial: trial.suggest_float("x", 0.0, 1.0))
    assert code == 0 and not broken
    assert sorted(states(study)) == ["COMPLETE"] * 3 + ["FAIL"]
    assert study.trials[0].params == study.trials[1].params, "the same again"


def test_a_trial_that_an_outage_cut_off_is_tried_again(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise away()
        return trial.suggest_float("x", 0.0, 1.0)

    code, study = do_trials(search, monkeypatch, report)
    assert code == 0 and states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert study.trials[1].system_attrs["failed_trial"] == 0


@pytest.mark.parametrize(("search", "server"), [("postgresql", "postgres"), ("grpc", "proxy")], indirect=["search"])
def test_a_server_that_goes_away_in_a_trial_is_waited_for(
    server: str, search: Search, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_of_search = request.getfixturevalue(server)
    comes_back = threading.Timer(1.0, server_of_search.start)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        if trial.number == 0:
            server_of_search.stop()
            comes_back.start()
        trial.report(x, 0)
        return x

    code, study = do_trials(search, monkeypatch, objective)
    comes_back.join()
    assert code == 0 and sorted(states(study)) == ["COMPLETE"] * 3 + ["FAIL"]
    assert study.trials[0].params == study.trials[1].params, "no trial is lost"


def test_a_sign_of_life_that_cannot_be_given_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's thread would end at the first error, and the trial be taken for dead after it."""
    storage = open_storage(f"sqlite:///{tmp_path}/study.db", heartbeat=1)
    assert isinstance(storage, RDBStorage)
    record, n_calls = RDBStorage.record_heartbeat, 0

    def fail(self: RDBStorage, trial_id: int) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 1:
            raise away()
        record(self, trial_id)

    monkeypatch.setattr(RDBStorage, "record_heartbeat", fail)
    study = optuna.create_study(storage=storage)

    def objective(trial: optuna.Trial) -> float:
        deadline = time.monotonic() + 30
        while n_calls < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return 1.0

    study.optimize(objective, n_trials=1)
    assert n_calls >= 2


def test_who_dies_while_it_gives_a_trial_back_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=open_storage(f"{tmp_path}/study.log"))
    study.ask().set_user_attr("worker", "dead")

    def killed(*args: Any, **kwargs: Any) -> None:
        raise SystemExit

    for seam in ("sb3_attnmem.zoo.tune.studies.retry_trial", "optuna.study.Study.tell"):
        with monkeypatch.context() as patch, pytest.raises(SystemExit):
            patch.setattr(seam, killed)
            retry_trials_of(study, "dead")
    assert states(study) == ["RUNNING", "WAITING"]
    assert retry_trials_of(study, "dead") == 1
    assert states(study) == ["FAIL", "WAITING"]


def test_a_search_that_goes_on_finds_what_was_lost() -> None:
    study = optuna.create_study()
    for worker, error in (("killed", None), ("alive", "no memory left"), (None, None)):
        trial = study.ask()
        if worker is not None:
            trial.set_user_attr("worker", worker)
        if error is not None:
            trial.set_user_attr("error", error)
        study.tell(trial, state=TrialState.FAIL)
    assert retry_lost_trials(study) == 1 and retry_lost_trials(study) == 0
    for _ in range(5):  # killed again and again
        study.tell(study.ask(), state=TrialState.FAIL)
        retry_lost_trials(study)
    assert sum("retry_history" in trial.system_attrs for trial in study.trials) == 3, "and gives it up at last"


def test_trials_of_a_dead_worker_are_tried_again_and_no_others(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage(f"{tmp_path}/study.log"))
    for worker in ("dead", "alive", "dead", None):
        trial = study.ask()
        trial.suggest_float("x", 0.0, 1.0)
        if worker is not None:
            trial.set_user_attr("worker", worker)
    study.tell(2, 1.0)
    assert retry_trials_of(study, "dead") == 1 and retry_trials_of(study, "dead") == 0
    assert states(study) == ["FAIL", "RUNNING", "COMPLETE", "RUNNING", "WAITING"]
    assert study.trials[4].params == study.trials[0].params
