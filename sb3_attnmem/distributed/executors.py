"""Where actors run: the interface, and the simplest answer, in turn in the learner's own process."""

import traceback
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, NamedTuple

from sb3_attnmem.distributed.actor import Actor, ActorSpec
from sb3_attnmem.distributed.failures import ActorSetupError
from sb3_attnmem.distributed.messages import Chunk, Request, Weights


class Outcome(NamedTuple):
    """
    What came of a request.

    :param actor: number of the actor
    :param chunk: the experience; None: it failed
    :param failure: its traceback, or why its process is gone
    :param is_hopeless: whether a new actor would fail in the same way
    """

    actor: int
    chunk: Chunk | None
    failure: str = ""
    is_hopeless: bool = False


class Executor(ABC):
    """Runs actors. Each answers its requests in the order in which it was asked."""

    #: whether actors work while the learner waits for none of them
    is_parallel: bool

    @abstractmethod
    def publish(self, weights: Weights) -> Any:
        """
        :param weights: to be sent to any number of actors; nobody changes them later
        :return: what stands for them in :meth:`submit`
        """

    @abstractmethod
    def submit(self, request: Request, published: Any) -> None:
        """
        Ask an actor, without waiting for it.

        :param request: what for
        :param published: the weights to act by
        """

    @abstractmethod
    def wait(self, actor: int | None, seconds: float) -> Outcome | None:
        """
        Wait for an answer.

        :param actor: whose; None: anybody's
        :param seconds: at most
        :return: the first answer of the actor that nobody has taken; None: there is none yet
        """

    @abstractmethod
    def has_answer(self, actor: int) -> bool:
        """
        :param actor: its number
        :return: whether :meth:`wait` for it would return at once
        """

    @abstractmethod
    def replace(self, actor: int) -> None:
        """
        Put a new actor in the place of one, whose requests are forgotten.

        :param actor: its number
        """

    @abstractmethod
    def close(self) -> None:
        """End all actors, whatever they are at."""


class SerialExecutor(Executor):
    """
    Runs actors in the learner's process, one after the other, when it waits for them: to test and to debug, and where
    there is no Ray. An environment that hangs hangs the learner.

    :param spec: what actors are made from
    """

    is_parallel = False

    def __init__(self, spec: ActorSpec) -> None:
        self.spec = spec
        self.actors = [Actor(spec) for _ in range(spec.n_actors)]
        self._queue: deque[tuple[Request, Weights]] = deque()

    def publish(self, weights: Weights) -> Weights:
        return weights

    def submit(self, request: Request, published: Any) -> None:
        self._queue.append((request, published))

    def wait(self, actor: int | None, seconds: float) -> Outcome | None:
        for place, (request, weights) in enumerate(self._queue):
            if actor is None or request.actor == actor:
                del self._queue[place]
                return self._run(request, weights)
        return None

    def has_answer(self, actor: int) -> bool:
        return any(request.actor == actor for request, _ in self._queue)

    def _run(self, request: Request, weights: Weights) -> Outcome:
        try:
            return Outcome(request.actor, self.actors[request.actor].collect(request, weights))
        except ActorSetupError as error:
            return Outcome(request.actor, None, str(error), is_hopeless=True)
        except Exception:  # as it would come from another process
            return Outcome(request.actor, None, traceback.format_exc())

    def replace(self, actor: int) -> None:
        self._queue = deque(entry for entry in self._queue if entry[0].actor != actor)
        self.actors[actor].close()
        self.actors[actor] = Actor(self.spec)

    def close(self) -> None:
        self._queue.clear()
        for actor in self.actors:
            actor.close()
