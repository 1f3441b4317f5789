"""The supervisor of a search: what becomes of workers that die, and of those that go on when it is ended."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sb3_attnmem.zoo.tune import supervisor as module
from sb3_attnmem.zoo.tune.supervisor import Supervisor
from tests.zoo import light_workers
from tests.zoo.light_workers import LightSearch

optuna.logging.set_verbosity(optuna.logging.WARNING)
Supervise = Callable[..., Supervisor]


@pytest.fixture(name="study")
def _study(monkeypatch: pytest.MonkeyPatch) -> optuna.Study:
    """A study with a trial that a worker is in."""
    monkeypatch.setattr(module, "worker_name", lambda pid: "a worker")
    study = optuna.create_study(direction="maximize")
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    trial.set_user_attr("worker", "a worker")
    return study


@pytest.fixture(name="supervise")
def _supervise(study: optuna.Study) -> Iterator[Supervise]:
    handlers = {signum: signal.getsignal(signum) for signum in module.ENDINGS}

    def run(work: Callable[[Any, int], None], n_jobs: int = 1) -> Supervisor:
        with Supervisor(LightSearch(n_jobs), study, "last words") as supervisor:  # type: ignore[arg-type]
            supervisor.run(work)
        return supervisor

    yield run
    assert {signum: signal.getsignal(signum) for signum in module.ENDINGS} == handlers
    assert not multiprocessing.active_children(), "no worker outlives its search"


@pytest.mark.parametrize(
    ("work", "code"), [(light_workers.the_first_is_killed, -9), (light_workers.the_first_is_told_to_end, -15)]
)
def test_a_worker_that_dies_is_replaced_and_its_trial_tried_again(
    work: Callable[[Any, int], None], code: int, study: optuna.Study, supervise: Supervise
) -> None:
    supervisor = supervise(work)
    assert supervisor.started == 2 and f"worker 0 died (exit code {code})" in supervisor.messages
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[0].params == study.trials[1].params
    assert supervisor.code == 1, "the search is not over"


def test_workers_that_end_too_early_are_no_success(supervise: Supervise, study: optuna.Study) -> None:
    supervisor = supervise(light_workers.ends)
    assert supervisor.code == 1 and "before enough trials were done" in supervisor.messages[0]
    study.tell(0, 1.0)
    supervisor = supervise(light_workers.ends)
    assert supervisor.code == 0 and supervisor.started == 0 and not supervisor.messages


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (light_workers.gives_up, "too many trials failed in a row, the last one with: no memory"),
        (light_workers.has_no_storage, "the storage did not answer for 2 seconds"),
        (light_workers.has_no_file, "nothing can be written into logs/x"),
    ],
)
def test_what_a_worker_gave_up_for_is_told(
    work: Callable[[Any, int], None], said: str, study: optuna.Study, supervise: Supervise
) -> None:
    failed = study.ask()
    failed.set_user_attr("error", "no memory")
    study.tell(failed, state=TrialState.FAIL)
    supervisor = supervise(work)
    assert supervisor.code == 1 and said in supervisor.messages[0] and supervisor.started == 1


@pytest.mark.parametrize(
    ("work", "code", "n_jobs"),
    [
        (light_workers.interrupts, 130, 2),
        (light_workers.tells_to_end, 143, 1),
        (light_workers.does_not_end, 143, 1),
    ],
)
def test_a_signal_ends_all_and_their_trials_are_tried_again(
    work: Callable[[Any, int], None],
    code: int,
    n_jobs: int,
    study: optuna.Study,
    supervise: Supervise,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "FAREWELL", 1.0)
    supervisor = supervise(work, n_jobs)
    assert supervisor.code == code
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]
    assert "Traceback" not in capfd.readouterr().err, "Ctrl-C is not the workers' business"
