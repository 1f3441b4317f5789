"""An actor: its environments, and a copy of the model that steps them."""

import io
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.distributed.failures import ActorSetupError
from sb3_attnmem.distributed.messages import Beginning, Chunk, Request, Weights
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.collecting import Collector

#: the copy of the model writes nothing, and holds no room
QUIET: dict[str, Any] = dict(custom_objects={"verbose": 0}, tensorboard_log=None)
MakeEnv = Callable[[], gym.Env | VecEnv]


class ActorSpec(NamedTuple):
    """
    What actors are made from.

    :param make_env: makes an environment, or a whole ``VecEnv``
    :param n_envs: environments of each actor
    :param n_actors: number of actors
    :param model_class: class of the model
    :param saved: the model as it was at the beginning, as ``save`` writes it
    """

    make_env: MakeEnv
    n_envs: int
    n_actors: int
    model_class: type[RecurrentDQN]
    saved: bytes


class Actor:
    """
    Answers requests. An exception leaves it useless: a new one has to begin in its place.

    :param spec: what it is made from; environments are made at the first request
    """

    def __init__(self, spec: ActorSpec) -> None:
        self.spec = spec
        self.version = -1
        self._env: VecEnv | None = None
        self._collector: Collector | None = None

    def collect(self, request: Request, weights: Weights) -> Chunk:
        """
        :param request: what is asked for
        :param weights: to act by
        :return: the experience
        :raises ActorSetupError: when its environments do not fit the model
        :raises Exception: what the environments raise
        """
        begun = time.perf_counter()
        if request.beginning is not None:
            with kept_generators():
                self._begin(request.beginning)
        assert self._collector is not None, "the first request of an actor says how it begins"
        if weights.version != self.version:
            self._collector.take_weights(weights.network, weights.statistics)
            self.version = weights.version
        steps = self._collector.collect(request.n_steps, request.num_timesteps, request.total_timesteps)
        return Chunk(
            request.actor,
            request.incarnation,
            request.number,
            self.version,
            steps,
            self._collector.n_episodes,
            time.perf_counter() - begun,
            os.getpid(),
        )

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _begin(self, beginning: Beginning) -> None:
        spec = self.spec
        self._env = make_envs(spec.make_env, spec.n_envs)
        try:
            model = spec.model_class.load(io.BytesIO(spec.saved), env=self._env, device="cpu", **QUIET)
        except ValueError as error:
            raise ActorSetupError(f"make_env() gives environments that do not fit the model: {error}") from error
        self._collector = Collector(
            model, beginning.seed, beginning.first_episode, spec.n_actors, beginning.slots_of_block
        )


def make_envs(make_env: MakeEnv, n_envs: int) -> VecEnv:
    """
    Make the environments of an actor.

    :param make_env: makes one, or all of them as a ``VecEnv``
    :param n_envs: that there shall be
    :return: the environments
    :raises ActorSetupError: when a ``VecEnv`` holds another number
    """
    made: Any = make_env()
    if not isinstance(made, VecEnv):
        first: list[Any] = [made]  # what was made to look at is the first of them

        def make_one() -> Any:
            return first.pop() if first else make_env()

        return make_vec_env(make_one, n_envs=n_envs)
    if made.num_envs != n_envs:
        n_made = made.num_envs
        made.close()
        raise ActorSetupError(
            f"make_env() gives a VecEnv of {n_made} environments, and envs_per_actor is {n_envs}: pass "
            f"envs_per_actor={n_made}, or let it make {n_envs}."
        )
    return made


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the global generators as they are: in the learner's process, training may draw from them."""
    python, numpy, torch = random.getstate(), np.random.get_state(), th.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        th.set_rng_state(torch)
