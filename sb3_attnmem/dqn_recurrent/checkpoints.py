"""Checkpoints that training goes on from as if nothing had happened."""

import pickle
import random
import warnings
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch as th
from filelock import FileLock
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.dqn_recurrent.checkpoint_files import (
    Checkpoint,
    find_checkpoint,
    lock_folder,
    new_run,
    write_checkpoint,
)
from sb3_attnmem.dqn_recurrent.offline import offline_updates, with_online_counters
from sb3_attnmem.dqn_recurrent.records import cut_logs, read_records, sizes_of_logs, write_records

AnyModel = TypeVar("AnyModel", bound=OffPolicyAlgorithm)
#: what ``VecNormalize`` learns; without ``norm_obs`` or ``norm_reward`` one is missing
STATISTICS = ("obs_rms", "ret_rms")


class _Run(NamedTuple):
    """
    :param folder: of its checkpoints
    :param name: of the run; "" of one of version 0.1
    :param loaded: the checkpoint that the model was loaded from, until its ``learn`` begins
    """

    folder: Path
    name: str
    loaded: Checkpoint | None


#: model -> the run that its checkpoints belong to; not on the model, which would save it with its weights
_RUNS: "WeakKeyDictionary[OffPolicyAlgorithm, _Run]" = WeakKeyDictionary()


class ResumableCheckpoint(BaseCallback):
    """
    Every so many steps, save all that training depends on: weights, target network, optimiser, counters and schedules,
    the replay buffer with its priorities, the statistics of ``VecNormalize``, every random generator, and what the
    callbacks beside this one have found out (evaluations, best weights, patience). See :func:`load_checkpoint`.

    It saves between rollouts, when the replay buffer holds every step taken, and in ``learn_offline`` between updates;
    under a name of its own, renamed when all is on the disk. The last two checkpoints of a run are kept, so that a
    process that is killed at any moment, and a file that is damaged later, leave one to go on from. Other runs'
    checkpoints in the folder are left alone. One process at a time trains with a folder.

    :param folder: where
    :param save_freq: environment steps, of all environments together, from one checkpoint to the next; in
        ``learn_offline`` updates
    :param verbose: 1 tells of each
    :param monitor_dir: folder of the files of SB3's ``Monitor``: training that goes on drops the episodes in them that
        came after the checkpoint
    :raises ValueError: when ``save_freq`` is no integer of at least 1
    """

    model: OffPolicyAlgorithm

    def __init__(
        self, folder: str | Path, save_freq: int, verbose: int = 0, monitor_dir: str | Path | None = None
    ) -> None:
        super().__init__(verbose)
        self.folder = Path(folder)
        self.save_freq = check_integer("save_freq", save_freq)
        self.monitor_dir = None if monitor_dir is None else Path(monitor_dir)
        self._lock: FileLock | None = None

    def _on_training_start(self) -> None:
        self._lock = lock_folder(self.folder)
        run = _RUNS.get(self.model)
        if run is not None and run.loaded is not None:
            self._go_on(run.loaded)
        _run_in(self.model, self.folder)
        self._saved_at = self._progress()

    def _go_on(self, checkpoint: Checkpoint) -> None:
        """Let callbacks and logs be as they were, if this ``learn`` goes on with the checkpoint's."""
        manifest = checkpoint.manifest()
        goes_on = self.locals.get("reset_num_timesteps") is False
        if not goes_on or (manifest["updates"] is None) != (offline_updates(self.model) is None):
            return
        read_records(self._root(), checkpoint.path, checkpoint.steps)
        # Of another folder's run the logs are others
        if self.monitor_dir is not None and checkpoint.path.parent.resolve() == self.folder.resolve():
            cut_logs(self.monitor_dir, manifest["logs"])

    def _on_rollout_start(self) -> None:
        self._save_if_due()

    def _on_step(self) -> bool:
        if offline_updates(self.model) is not None:  # the update is done, and there is no step under way
            self._save_if_due()
        return True

    def _on_training_end(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _save_if_due(self) -> None:
        if self._progress() - self._saved_at < self.save_freq:
            return
        self._saved_at = self._progress()
        try:
            save_checkpoint(self.model, self.folder, self._root(), self.monitor_dir)
        except OSError as error:
            warnings.warn(f"No checkpoint at {self._saved_at:,} steps ({error}); the last one stays.", stacklevel=2)
        else:
            if self.verbose >= 1:
                print(f"Checkpoint at {self._saved_at:,} steps: {self.folder}")

    def _progress(self) -> int:
        """:return: environment steps; in ``learn_offline``, updates"""
        return self.model.num_timesteps

    def _root(self) -> BaseCallback:
        """:return: the callback of ``learn`` that holds this one, and those beside it"""
        root = self.locals.get("callback")
        return root if isinstance(root, BaseCallback) else self


def save_checkpoint(
    model: OffPolicyAlgorithm,
    folder: str | Path,
    callback: BaseCallback | None = None,
    monitor_dir: str | Path | None = None,
) -> Path:
    """
    :param model: between two rollouts, or two updates of ``learn_offline``
    :param folder: where; of the older checkpoints of the same run there one is kept
    :param callback: what it and the callbacks that it holds have found out is saved as well
    :param monitor_dir: folder of the files of SB3's ``Monitor``, whose present lengths are noted
    :return: the checkpoint
    """
    folder = Path(folder)
    run = _run_in(model, folder)

    def fill(unfinished: Path) -> None:
        model.save(unfinished / "model.zip")
        model.save_replay_buffer(unfinished / "replay_buffer.pkl")
        normalize = model.get_vec_normalize_env()
        if normalize is not None:
            normalize.save(str(unfinished / "vecnormalize.pkl"))
        with (unfinished / "generators.pkl").open("wb") as file:
            pickle.dump(_generators(model), file)
        if callback is not None:
            write_records(callback, unfinished)

    logs = {} if monitor_dir is None else sizes_of_logs(Path(monitor_dir))
    updates = offline_updates(model)
    with with_online_counters(model):
        return write_checkpoint(folder, run.name, model.num_timesteps, fill, updates=updates, logs=logs).path


def load_checkpoint(model_class: type[AnyModel], folder: str | Path, env: VecEnv, **kwargs: Any) -> AnyModel:
    """
    The model of the newest checkpoint. Its environments are seeded anew and begin with episodes, all else is as it
    was::

        model = load_checkpoint(RecurrentDQN, folder, env)
        model.learn(steps_left(model), callback=[evaluations, ResumableCheckpoint(folder, 50_000)],
                    reset_num_timesteps=False)

    ``ResumableCheckpoint`` gives the callbacks beside it their records back. Where the checkpoint was taken in
    ``learn_offline``, which :func:`updates_left` tells, ``model.learn_offline(updates_left(model), …,
    reset_num_updates=False)`` goes on.

    :param model_class: ``RecurrentDQN``, or another off-policy algorithm
    :param folder: of :class:`ResumableCheckpoint`, where the newest checkpoint of the run that began last there is
        taken, and the one before it, with a warning, where that is damaged; or the folder of one checkpoint
    :param env: as many environments as before; with ``VecNormalize`` or without, its statistics are restored
    :param kwargs: of ``model_class.load``
    :return: the model
    :raises FileNotFoundError: when there is no whole checkpoint
    :raises ValueError: when ``env`` is normalised and the checkpoint's was not, or in another way
    """
    checkpoint = find_checkpoint(folder)
    newest = checkpoint.path
    env = _restore_statistics(newest / "vecnormalize.pkl", env)
    model = model_class.load(newest / "model.zip", env=env, **kwargs)
    model.load_replay_buffer(newest / "replay_buffer.pkl")
    with (newest / "generators.pkl").open("rb") as file:
        _restore(model, pickle.load(file))
    assert model.env is not None
    if checkpoint.manifest()["updates"] is None:  # else the environments have not been stepped yet
        model.env.seed((model.seed or 0) + model.num_timesteps)
    _RUNS[model] = _Run(newest.parent.resolve(), checkpoint.run, checkpoint)
    return model


def steps_left(model: OffPolicyAlgorithm) -> int:
    """:return: environment steps that the ``learn`` in which the checkpoint was taken had still to do"""
    return max(model._total_timesteps - model.num_timesteps, 0)


def statistics_of(normalize: VecNormalize) -> dict[str, Any]:
    """
    :param normalize: of an environment
    :return: what it has learned: ``obs_rms``, ``ret_rms`` or both, to be put into the ``vars`` of another
    """
    return {name: vars(normalize)[name] for name in STATISTICS if name in vars(normalize)}


def _run_in(model: OffPolicyAlgorithm, folder: Path) -> _Run:
    """:return: the run that a model's checkpoints in a folder belong to; a new one where it has none there"""
    folder.mkdir(parents=True, exist_ok=True)
    run = _RUNS.get(model)
    if run is None or run.folder != folder.resolve() or not run.name:
        run = _Run(folder.resolve(), new_run(folder), None)
    _RUNS[model] = run = run._replace(loaded=None)
    return run


def _restore_statistics(path: Path, env: VecEnv) -> VecEnv:
    """
    :param path: of what ``VecNormalize`` saved; it is not there if the environments were not normalised
    :return: ``env``, normalised as it was
    """
    normalize = unwrap_vec_normalize(env)
    if not path.exists():
        if normalize is not None:
            raise ValueError(
                f"The environments are normalised, but {path} is missing: training would go on with fresh statistics. "
                "Pass them as they were when the checkpoint was taken."
            )
        return env
    if normalize is None:
        return VecNormalize.load(str(path), env)
    saved = VecNormalize.load(str(path), normalize.venv)
    for name in ("norm_obs", "norm_reward"):
        if getattr(saved, name) != getattr(normalize, name):
            raise ValueError(
                f"VecNormalize({name}={getattr(normalize, name)}) does not fit {path.parent}, which was taken with "
                f"{name}={getattr(saved, name)}."
            )
    vars(normalize).update(statistics_of(saved))
    return env


def _generators(model: OffPolicyAlgorithm) -> dict[str, Any]:
    own = {name: getattr(model, name) for name in ("_exploration_rng", "_prediction_rng") if hasattr(model, name)}
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "action_space": model.action_space.np_random,
        "model": own,
    }


def _restore(model: OffPolicyAlgorithm, generators: dict[str, Any]) -> None:
    random.setstate(generators["python"])
    np.random.set_state(generators["numpy"])
    th.set_rng_state(generators["torch"])
    if generators["cuda"] and th.cuda.is_available():
        th.cuda.set_rng_state_all(generators["cuda"])
    model.action_space._np_random = generators["action_space"]
    for name, generator in generators["model"].items():
        setattr(model, name, generator)
