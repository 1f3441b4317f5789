"""``learn``, with actors that collect: checks, how actors begin, and what is left behind at the end."""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_attnmem.common.checks import check_choice, check_flag, check_integer, check_number
from sb3_attnmem.distributed.actor import ActorSpec, MakeEnv
from sb3_attnmem.distributed.arrivals import Arrivals
from sb3_attnmem.distributed.executors import Executor, SerialExecutor
from sb3_attnmem.distributed.learner import Learner
from sb3_attnmem.distributed.messages import Beginning
from sb3_attnmem.distributed.on_ray import RayExecutor, import_ray
from sb3_attnmem.distributed.rate import RateLimiter
from sb3_attnmem.distributed.roster import Roster
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.collecting import episodes_begun

AnyModel = TypeVar("AnyModel", bound=RecurrentDQN)

#: seconds that the first answer of an actor may take, at least: its process has to be started
LEAST_START = 180.0
#: steps of each environment in a chunk, at least, where the user does not say
CHUNK_STEPS = 32


def learn_with_actors(
    model: AnyModel,
    make_env: MakeEnv,
    n_actors: int,
    total_timesteps: int,
    envs_per_actor: int | None = None,
    callback: MaybeCallback = None,
    log_interval: int | None = 4,
    tb_log_name: str | None = None,
    reset_num_timesteps: bool = True,
    progress_bar: bool = False,
    executor: str = "ray",
    ray_address: str | None = None,
    num_cpus: float = 1.0,
    actor_options: Mapping[str, Any] | None = None,
    chunk_steps: int | None = None,
    chunks_in_flight: int = 2,
    weights_interval: int = 10,
    samples_per_insert: float | None = None,
    lockstep: bool = False,
    timeout: float = 300.0,
    max_failures: int = 3,
) -> AnyModel:
    """
    Do what ``model.learn`` does, with many actors that step environments of their own, each with a copy of the model:
    the other half of R2D2 (Kapturowski et al., 2019; Horgan et al., 2018). All that the model is told of how to learn
    holds: its replay ratio, schedules, callbacks and log. ``ResumableCheckpoint`` saves between chunks, and
    ``load_checkpoint`` with ``reset_num_timesteps=False`` goes on.

    :param model: that learns, in this process. Its own environments are reset once and say what the actors' look like;
        ``VecNormalize`` around them learns from what the actors see
    :param make_env: makes an environment, or a whole ``VecEnv``, wrapped like the model's; it is called in the actors'
        processes, and must find there what it needs
    :param n_actors: N, number of actors
    :param total_timesteps: environment steps, of all actors together
    :param envs_per_actor: E, environments of each actor; by default as many as the model has. A multiple of that:
        callbacks see a step of as many environments at a time as the model has
    :param callback: as for ``learn``
    :param log_interval: as for ``learn``
    :param tb_log_name: as for ``learn``; by default the name of the model's class
    :param reset_num_timesteps: as for ``learn``
    :param progress_bar: as for ``learn``
    :param executor: "ray", or "serial": the same actors in turn in this process, for tests, debugging and Windows
    :param ray_address: of a Ray cluster, "auto" for the one that this machine is part of; None uses the one that this
        process is connected to, or starts Ray on this machine and ends it at the end
    :param num_cpus: CPUs of an actor, for Ray's bookkeeping; fractions are allowed
    :param actor_options: more of Ray's options of an actor, for example ``dict(resources={"simulator": 1})``
    :param chunk_steps: of each environment, that an actor makes before it sends them. None: 32, or more where updates
        are so rare that actors would wait for one with fewer
    :param chunks_in_flight: that an actor may be asked for before the learner has taken one in: 2 keep it busy while
        the learner learns; with 1 it waits, and acts by the newest weights
    :param weights_interval: updates from one publication of the weights to the next
    :param samples_per_insert: learning steps that updates are computed from, per transition collected; by default as
        many as ``learn`` makes with the model's ``train_freq`` and ``gradient_steps``
    :param lockstep: take chunks in a fixed order, so that a run is reproducible: it waits for the slowest actor
    :param timeout: seconds without an answer after which an actor is taken to hang
    :param max_failures: in a row, after which an actor's failure ends the training; before that it begins anew
    :return: the model
    :raises ValueError: for arguments that make no sense, before anything is started
    :raises ImportError: where Ray is not installed
    :raises ActorError: when an actor failed too often in a row; its own traceback is in the message
    """
    if not isinstance(model, RecurrentDQN):
        raise ValueError(f"learn_with_actors trains a RecurrentDQN, got {type(model).__name__}.")
    if not callable(make_env):
        raise ValueError(f"make_env={make_env!r} must be a function that makes an environment, or a VecEnv.")
    n_actors = check_integer("n_actors", n_actors)
    check_number("total_timesteps", total_timesteps, least=0)
    n_envs = model.n_envs if envs_per_actor is None else check_integer("envs_per_actor", envs_per_actor)
    if model.n_envs < 1 or n_envs % model.n_envs:
        raise ValueError(
            f"envs_per_actor={n_envs} must be a multiple of the model's environments, {model.n_envs}: callbacks see "
            "steps of so many at a time. Make the model with one environment, or with as many as an actor has."
        )
    tb_log_name = type(model).__name__ if tb_log_name is None else tb_log_name
    if log_interval is not None:
        check_integer("log_interval", log_interval)
    check_choice("executor", executor, ("ray", "serial"))
    check_number("num_cpus", num_cpus, least=0)
    chunks_in_flight = check_integer("chunks_in_flight", chunks_in_flight)
    weights_interval = check_integer("weights_interval", weights_interval)
    if samples_per_insert is not None:
        check_number("samples_per_insert", samples_per_insert, above=0)
    check_flag("lockstep", lockstep)
    check_number("timeout", timeout, above=0)
    max_failures = check_integer("max_failures", max_failures, least=0)
    if model.replay_buffer is None:
        raise ValueError("The replay buffer was deleted: call load_replay_buffer(path) before learning.")
    limiter = RateLimiter(
        model.pace(),
        max(0 if reset_num_timesteps else model.num_timesteps, int(model.learning_starts)),
        samples_per_insert,
        model.batch_size * model.sequence_length,
    )
    if chunk_steps is None:
        chunk_steps = max(CHUNK_STEPS, math.ceil(limiter.interval / (chunks_in_flight * n_actors * n_envs)))
    chunk_steps = check_integer("chunk_steps", chunk_steps)
    per_tape = model.buffer_size // (n_actors * n_envs)
    if chunk_steps > per_tape:
        raise ValueError(
            f"chunk_steps={chunk_steps}, but a replay buffer of {model.buffer_size:,} transitions holds {per_tape} of "
            f"each of {n_actors * n_envs} environments: raise buffer_size, or lower chunk_steps or n_actors."
        )
    if executor == "ray":
        import_ray()

    spec = ActorSpec(make_env, n_envs, n_actors, type(model), _saved(model))
    actors: Executor = (
        SerialExecutor(spec)
        if executor == "serial"
        else RayExecutor(spec, ray_address, num_cpus, actor_options, model.verbose)
    )
    try:
        model.n_tapes = n_actors * n_envs
        total_timesteps, callbacks = model._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callbacks.on_training_start(
            dict(
                self=model,
                callback=callbacks,
                total_timesteps=total_timesteps,
                log_interval=log_interval,
                tb_log_name=tb_log_name,
                reset_num_timesteps=reset_num_timesteps,
                progress_bar=progress_bar,
            ),
            globals(),
        )
        roster = Roster(
            actors,
            n_actors,
            n_envs,
            chunk_steps,
            chunks_in_flight,
            max_failures,
            timeout,
            max(timeout, LEAST_START),
            _beginnings(model, n_actors, n_envs),
        )
        roster.n_granted = model.num_timesteps
        arrivals = Arrivals(model, n_actors, n_envs)
        learner = Learner(model, actors, roster, limiter, arrivals, weights_interval, lockstep, total_timesteps)
        learner.run(callbacks, log_interval)
        callbacks.on_training_end()
    except KeyboardInterrupt:
        print(
            f"Interrupted at {model.num_timesteps:,} steps; the actors end. To go on: load_checkpoint, where a "
            "ResumableCheckpoint was taken, then learn_with_actors(…, steps_left(model), reset_num_timesteps=False)."
        )
        raise
    finally:
        actors.close()
        # What the next `learn` goes on with does not follow what is stored
        model.replay_buffer.cut()
        model.interrupt()
    return model


def _saved(model: RecurrentDQN) -> bytes:
    file = io.BytesIO()
    model.save(file)
    return file.getvalue()


def _beginnings(model: RecurrentDQN, n_actors: int, n_envs: int) -> Callable[[int, int], Beginning]:
    """:return: how an actor begins, by its number and incarnation; a run that goes on draws other numbers"""
    seed = int(np.random.default_rng().integers(2**31)) if model.seed is None else int(model.seed)
    entropy, first_episode = (seed, model.num_timesteps), episodes_begun(model)

    def begin(actor: int, incarnation: int) -> Beginning:
        buffer = model.replay_buffer
        assert buffer is not None and buffer.tapes is not None
        # Open chains are cut when the first chunk comes, which takes a slot
        ends = buffer.tapes.ends[actor * n_envs : (actor + 1) * n_envs]
        drawn = np.random.SeedSequence((*entropy, actor, incarnation)).generate_state(1)[0]
        # Each incarnation begins where no other has been: the number of the newest episode, rounded up to its own
        begun = max(episodes_begun(model), first_episode)
        number = begun + (actor - begun + first_episode) % n_actors if incarnation else first_episode + actor
        return Beginning(int(drawn) >> 1, number, ends % buffer.state_interval)

    return begin
