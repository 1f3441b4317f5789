"""Actors on Ray."""

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.utils import set_random_seed

from sb3_attnmem.distributed.actor import Actor, ActorSpec
from sb3_attnmem.distributed.executors import Executor, Outcome
from sb3_attnmem.distributed.failures import ActorSetupError
from sb3_attnmem.distributed.messages import Chunk, Request, Weights

#: seconds that actors have to close their environments before they are killed
FAREWELL = 5.0


def import_ray() -> Any:
    """
    :return: the package
    :raises ImportError: where it is not installed; it says how to go on
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'Actors run on Ray, which is not installed: pip install "sb3_attnmem[ray]", or pass executor="serial" to '
            "run them in turn in this process."
        ) from error
    return ray


def start_ray(**options: Any) -> None:
    """
    Start Ray on this machine, for this process alone.

    :param options: of ``ray.init``, beside what is set here
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray lets workers step back behind everything else on the machine (nice 15): here they are the work
    os.environ.setdefault("RAY_worker_niceness", "0")
    import_ray().init(address="local", include_dashboard=False, logging_level=logging.WARNING, **options)


class RayActor:
    """
    An actor in a process of its own, somewhere.

    :param spec: what it is made from
    :param n_threads: of torch
    """

    def __init__(self, spec: ActorSpec, n_threads: int) -> None:
        th.set_num_threads(n_threads)
        self.actor = Actor(spec)

    def collect(self, request: Request, weights: Weights) -> Chunk:
        """
        :param request: what is asked for
        :param weights: to act by
        :return: the experience
        """
        if request.beginning is not None:
            # The process is this actor's own: environments that draw from global generators differ between actors
            set_random_seed(request.beginning.seed)
        return self.actor.collect(request, weights)

    def close(self) -> None:
        """Close the environments."""
        self.actor.close()


class RayExecutor(Executor):
    """
    Runs each actor in a process of its own, on whatever machine of a Ray cluster has room for it.

    An actor that failed is replaced by a new one. Ray could restart its process (``max_restarts=-1``), but a request
    that waits meanwhile fails, or reaches a process that has no environments yet; and all that the new one needs must
    be sent to it anyway. Tasks are not retried: that would step environments twice.

    :param spec: what actors are made from
    :param address: of the cluster, as ``ray.init`` takes it; None starts Ray on this machine, unless this process is
        connected already, and ends it at the end
    :param num_cpus: CPUs of an actor, for Ray's bookkeeping; fractions are allowed
    :param options: more of Ray's options of an actor, for example ``dict(resources={"simulator": 1})``
    :param verbose: 2: show what actors print
    :raises ImportError: where Ray is not installed
    :raises ConnectionError: when there is no cluster at the address
    """

    is_parallel = True

    def __init__(
        self,
        spec: ActorSpec,
        address: str | None = None,
        num_cpus: float = 1.0,
        options: Mapping[str, Any] | None = None,
        verbose: int = 0,
    ) -> None:
        self._ray = ray = import_ray()
        self._owns_ray = not ray.is_initialized()
        if self._owns_ray:
            shown = verbose >= 2
            if address is None:
                n_cpus = max(math.ceil(spec.n_actors * num_cpus), os.cpu_count() or 1)
                start_ray(num_cpus=n_cpus, log_to_driver=shown)
            else:
                ray.init(address=address, logging_level=logging.WARNING, log_to_driver=shown)
        #: answer to come -> actor, in the order in which they were asked
        self._pending: dict[Any, int] = {}
        self._handles: list[Any] = []
        try:
            self._spec = ray.put(spec)
            self._n_threads = max(int(num_cpus), 1)
            kind = ray.remote(RayActor)
            self._kind = kind.options(num_cpus=num_cpus, max_restarts=0, max_task_retries=0, **(options or {}))
            self._handles = [self._new() for _ in range(spec.n_actors)]
        except BaseException:
            self.close()
            raise

    def _new(self) -> Any:
        return self._kind.remote(self._spec, self._n_threads)

    def publish(self, weights: Weights) -> Any:
        return self._ray.put(weights)

    def submit(self, request: Request, published: Any) -> None:
        self._pending[self._handles[request.actor].collect.remote(request, published)] = request.actor

    def _oldest(self) -> dict[int, Any]:
        """:return: actor -> the answer that comes first, in the order in which they were asked"""
        oldest: dict[int, Any] = {}
        for reference, actor in self._pending.items():
            oldest.setdefault(actor, reference)
        return oldest

    def wait(self, actor: int | None, seconds: float) -> Outcome | None:
        oldest = self._oldest()
        wanted = list(oldest.values()) if actor is None else [oldest[actor]] if actor in oldest else []
        if not wanted:
            return None
        ready, _ = self._ray.wait(wanted, num_returns=1, timeout=seconds)
        return self._take(ready[0]) if ready else None

    def has_answer(self, actor: int) -> bool:
        reference = self._oldest().get(actor)
        return reference is not None and bool(self._ray.wait([reference], num_returns=1, timeout=0)[0])

    def _take(self, reference: Any) -> Outcome:
        actor = self._pending.pop(reference)
        exceptions = self._ray.exceptions
        try:
            return Outcome(actor, self._ray.get(reference))
        except exceptions.RayTaskError as error:
            return Outcome(actor, None, str(error), isinstance(error.cause, ActorSetupError))
        except exceptions.RayError as error:  # its process or its machine is gone, or the answer with it
            return Outcome(actor, None, f"{error}\n{type(error).__name__}: its process, or its machine, is gone")

    def replace(self, actor: int) -> None:
        self._pending = {reference: other for reference, other in self._pending.items() if other != actor}
        self._ray.kill(self._handles[actor])
        self._handles[actor] = self._new()

    def close(self) -> None:
        ray = self._ray
        if not ray.is_initialized():
            return
        try:
            self._pending.clear()
            farewells = [handle.close.remote() for handle in self._handles]
            if farewells:
                ray.wait(farewells, num_returns=len(farewells), timeout=FAREWELL)
        finally:
            for handle in self._handles:
                ray.kill(handle)
            self._handles = []
            if self._owns_ray:
                ray.shutdown()
