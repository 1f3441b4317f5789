"""Who is asked for how much, and who is taken to hang, by a clock of the test's own."""

from typing import Any

import numpy as np
import pytest

from sb3_attnmem.distributed import ActorError, roster
from sb3_attnmem.distributed.executors import Executor, Outcome
from sb3_attnmem.distributed.messages import Beginning, Request
from sb3_attnmem.distributed.roster import Roster


class Silent(Executor):
    """Writes down what it is told, and answers nothing."""

    is_parallel = True

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replaced: list[int] = []
        self.answered: set[int] = set()

    def publish(self, weights: Any) -> Any:
        return weights

    def submit(self, request: Request, published: Any) -> None:
        self.requests.append(request)

    def wait(self, actor: int | None, seconds: float) -> Outcome | None:
        return None

    def has_answer(self, actor: int) -> bool:
        return actor in self.answered

    def replace(self, actor: int) -> None:
        self.replaced.append(actor)

    def close(self) -> None:
        pass


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.0]
    monkeypatch.setattr(roster.time, "monotonic", lambda: clock[0])
    return clock


def make_roster(executor: Executor, **kwargs: Any) -> Roster:
    def begin(actor: int, incarnation: int) -> Beginning:
        return Beginning(100 * actor + incarnation, 0, np.zeros(2, np.int64))

    options = dict(n_actors=3, n_envs=2, chunk_steps=10, max_in_flight=2, max_failures=1, timeout=5, start_timeout=50)
    return Roster(executor, begin=begin, **{**options, **kwargs})


def test_requests_go_round_and_end_with_the_total(clock: list[float]) -> None:
    executor = Silent()
    rounds = make_roster(executor)
    rounds.ask(90, lambda: None)
    assert [(one.actor, one.n_steps) for one in executor.requests] == [(0, 10), (1, 10), (2, 10), (0, 10), (1, 5)]
    assert [one.num_timesteps for one in executor.requests] == [0, 20, 40, 60, 80] and rounds.n_granted == 90
    assert [one.beginning is not None for one in executor.requests] == [True, True, True, False, False]
    rounds.ask(90, lambda: None)
    assert len(executor.requests) == 5


def test_what_was_lost_is_asked_for_again(clock: list[float]) -> None:
    executor = Silent()
    rounds = make_roster(executor)
    rounds.ask(90, lambda: None)
    with pytest.warns(UserWarning, match="Actor 1 failed and begins anew"):
        rounds.take(Outcome(1, None, "Traceback\nOSError: gone"))
    assert executor.replaced == [1] and rounds.n_granted == 60
    rounds.ask(90, lambda: None)
    again = executor.requests[5:]
    assert [(one.actor, one.incarnation, one.number, one.n_steps) for one in again] == [(1, 1, 0, 10), (1, 1, 1, 5)]
    assert again[0].beginning is not None and again[0].beginning.seed == 101


def test_an_actor_that_hangs_is_named_but_not_one_whose_answers_wait(clock: list[float]) -> None:
    executor = Silent()
    rounds = make_roster(executor)
    rounds.ask(10_000, lambda: None)
    executor.answered = {0, 1}
    clock[0] = 49.0
    rounds.fail_those_that_hang()
    assert executor.replaced == [], "it has to be started first"
    clock[0] = 51.0
    with pytest.warns(UserWarning, match="Actor 2 failed .*no answer for 50 seconds.*Ray has no free CPU"):
        rounds.fail_those_that_hang()
    rounds.ask(10_000, lambda: None)
    clock[0] = 120.0
    with pytest.raises(ActorError, match="Actor 2 failed 2 times in a row"):
        rounds.fail_those_that_hang()
