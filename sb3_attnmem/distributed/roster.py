"""What the learner knows of its actors: what they were asked for, where they stand, how often they failed."""

import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sb3_attnmem.distributed.executors import Executor, Outcome
from sb3_attnmem.distributed.failures import ActorError, ActorSetupError
from sb3_attnmem.distributed.messages import Beginning, Request
from sb3_attnmem.replay import Standing

#: seconds from one look for actors that hang to the next
LOOK_EVERY = 1.0


@dataclass
class Member:
    """
    An actor, as the learner knows it.

    :param rows: (E,) the tapes of its environments
    :param in_flight: steps of all its environments in each request that is not answered
    :param incarnation: how often it was begun before
    :param n_asked: requests of this incarnation
    :param failures: in a row
    :param last_sign: when it was last heard of, or begun to be waited for
    :param standing: where its environments stand, after its last chunk
    """

    rows: np.ndarray
    in_flight: deque[int] = field(default_factory=deque)
    incarnation: int = 0
    n_asked: int = 0
    n_answered: int = 0
    failures: int = 0
    last_sign: float = 0.0
    standing: Standing | None = None


class Roster:
    """
    Keeps every actor busy with as many requests as it may have, and begins it anew when it failed.

    :param executor: where they run
    :param n_actors: N
    :param n_envs: E, of each
    :param chunk_steps: of each environment, in a request
    :param max_in_flight: requests that an actor may have before it has answered one
    :param max_failures: in a row, after which an actor is given up
    :param timeout: seconds without an answer after which an actor is taken to hang
    :param start_timeout: the same, for an actor that has to be started first
    :param begin: (actor, incarnation) -> how it begins
    """

    def __init__(
        self,
        executor: Executor,
        n_actors: int,
        n_envs: int,
        chunk_steps: int,
        max_in_flight: int,
        max_failures: int,
        timeout: float,
        start_timeout: float,
        begin: Callable[[int, int], Beginning],
    ) -> None:
        self.executor, self.n_envs, self.chunk_steps = executor, n_envs, chunk_steps
        self.max_in_flight, self.max_failures = max_in_flight, max_failures
        self.timeout, self.start_timeout, self.begin = timeout, start_timeout, begin
        self.members = [Member(np.arange(i * n_envs, (i + 1) * n_envs)) for i in range(n_actors)]
        #: environment steps that were asked for, of all actors together, less those that were lost
        self.n_granted = 0
        self.n_restarts = 0
        self._looked_at = time.monotonic()

    @property
    def n_in_flight(self) -> int:
        """:return: requests that are not answered"""
        return sum(len(member.in_flight) for member in self.members)

    def ask(self, total_timesteps: int, publish: Callable[[], Any]) -> None:
        """
        Send requests to all actors that may have more, round by round, until there are enough for the total.

        :param total_timesteps: environment steps that there shall be
        :param publish: what stands for the newest weights; called where a request is sent
        """
        for depth in range(self.max_in_flight):
            for i, member in enumerate(self.members):
                missing = -(-(total_timesteps - self.n_granted) // self.n_envs)
                if missing <= 0:
                    return
                if len(member.in_flight) <= depth:
                    self._send(i, member, min(missing, self.chunk_steps), total_timesteps, publish())

    def _send(self, i: int, member: Member, n_steps: int, total_timesteps: int, published: Any) -> None:
        beginning = self.begin(i, member.incarnation) if member.n_asked == 0 else None
        request = Request(i, member.incarnation, member.n_asked, n_steps, self.n_granted, total_timesteps, beginning)
        if not member.in_flight:
            member.last_sign = time.monotonic()
        self.executor.submit(request, published)
        member.n_asked += 1
        member.in_flight.append(n_steps * self.n_envs)
        self.n_granted += n_steps * self.n_envs

    def take(self, outcome: Outcome) -> bool:
        """
        Note an answer. Of one that failed, the actor is begun anew at the next :meth:`ask`.

        :param outcome: of a request
        :return: whether it brought experience
        :raises ActorError: when the actor failed too often in a row
        :raises ActorSetupError: when it could only fail again
        """
        member = self.members[outcome.actor]
        if outcome.is_hopeless:
            raise ActorSetupError(outcome.failure)
        chunk = outcome.chunk
        if chunk is not None and (chunk.incarnation, chunk.number) != (member.incarnation, member.n_answered):
            outcome = outcome._replace(chunk=None, failure=f"chunk {member.n_answered} did not come")
        if outcome.chunk is None:
            self.fail(outcome.actor, outcome.failure)
            return False
        member.in_flight.popleft()
        member.n_answered += 1
        member.failures = 0
        member.last_sign = time.monotonic()
        return True

    def fail(self, i: int, reason: str) -> None:
        """
        Begin an actor anew.

        :param i: its number
        :param reason: what it failed by
        :raises ActorError: when it failed too often in a row
        """
        member = self.members[i]
        member.failures += 1
        self.n_restarts += 1
        if member.failures > self.max_failures:
            raise ActorError(f"Actor {i} failed {member.failures} times in a row, the last time so:\n{reason.rstrip()}")
        last_line = (reason.strip().splitlines() or ["no reason known"])[-1]
        warnings.warn(
            f"Actor {i} failed and begins anew ({member.failures} of {self.max_failures} times in a row): {last_line}",
            stacklevel=2,
        )
        self.n_granted -= sum(member.in_flight)
        self.executor.replace(i)
        self.members[i] = Member(member.rows, incarnation=member.incarnation + 1, failures=member.failures)

    def fail_those_that_hang(self) -> None:
        """
        Begin actors anew that have not answered for too long. To be called now and then.

        :raises ActorError: when one hung too often in a row
        """
        now = time.monotonic()
        if not self.executor.is_parallel or now - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = now
        for i, member in enumerate(self.members):
            limit = self.timeout if member.n_answered else self.start_timeout
            # An answer that nobody has taken says that the learner is slow
            if member.in_flight and now - member.last_sign > limit and not self.executor.has_answer(i):
                self.fail(
                    i,
                    f"no answer for {limit:g} seconds: one of its environments hangs, or is slower than that for "
                    f"{self.chunk_steps} steps (pass a longer timeout, or fewer chunk_steps)"
                    + ("" if member.n_answered else "; or Ray has no free CPU to start it on"),
                )
