"""Checkpoints that training goes on from as if nothing had happened."""

import pickle
import random
import shutil
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

AnyModel = TypeVar("AnyModel", bound=OffPolicyAlgorithm)
PREFIX = "checkpoint-"


class ResumableCheckpoint(BaseCallback):
    """
    Every so many steps, save all that training depends on: weights, target network, optimiser, counters and schedules,
    the replay buffer with its priorities, the statistics of ``VecNormalize`` and every random generator. See
    :func:`load_checkpoint`.

    It saves between rollouts, when the replay buffer holds every step taken; under a name of its own, renamed when all
    is written, so that a process that is killed at any moment leaves the last checkpoint whole.

    :param folder: where; the newest checkpoint replaces the one before
    :param save_freq: environment steps, of all environments together, from one checkpoint to the next
    :param verbose: 1 tells of each
    :raises ValueError: when ``save_freq`` is below 1
    """

    model: OffPolicyAlgorithm

    def __init__(self, folder: str | Path, save_freq: int, verbose: int = 0) -> None:
        super().__init__(verbose)
        if save_freq < 1:
            raise ValueError(f"save_freq={save_freq} must be at least 1 environment step.")
        self.folder = Path(folder)
        self.save_freq = save_freq

    def _init_callback(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._saved_at = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self._saved_at >= self.save_freq:
            save_checkpoint(self.model, self.folder)
            self._saved_at = self.model.num_timesteps
            if self.verbose >= 1:
                print(f"Checkpoint at {self._saved_at:,} steps: {self.folder}")

    def _on_step(self) -> bool:
        return True


def save_checkpoint(model: OffPolicyAlgorithm, folder: str | Path) -> Path:
    """
    :param model: between two rollouts
    :param folder: where; older checkpoints there are removed once this one is whole
    :return: the checkpoint
    """
    folder = Path(folder)
    target = folder / f"{PREFIX}{model.num_timesteps:012d}"
    unfinished = folder / f"unfinished-{target.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    model.save(unfinished / "model.zip")
    model.save_replay_buffer(unfinished / "replay_buffer.pkl")
    normalize = model.get_vec_normalize_env()
    if normalize is not None:
        normalize.save(str(unfinished / "vecnormalize.pkl"))
    with (unfinished / "generators.pkl").open("wb") as file:
        pickle.dump(_generators(model), file)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    for other in folder.glob(f"{PREFIX}*"):
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return target


def load_checkpoint(model_class: type[AnyModel], folder: str | Path, env: VecEnv, **kwargs: Any) -> AnyModel:
    """
    The model of the newest checkpoint. Its environments are seeded anew and begin with episodes, all else is as it
    was::

        model = load_checkpoint(RecurrentDQN, folder, env)
        model.learn(steps_left(model), reset_num_timesteps=False)

    :param model_class: ``RecurrentDQN``, or another off-policy algorithm
    :param folder: of :class:`ResumableCheckpoint`
    :param env: as many environments as before; with or without ``VecNormalize``, whose statistics are restored
    :param kwargs: of ``model_class.load``
    :return: the model
    :raises FileNotFoundError: when there is no whole checkpoint
    """
    newest = max(Path(folder).glob(f"{PREFIX}*"), default=None)
    if newest is None:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint; train with ResumableCheckpoint({str(folder)!r}, …) first."
        )
    statistics = newest / "vecnormalize.pkl"
    if statistics.exists():
        normalize = unwrap_vec_normalize(env)
        if normalize is None:
            env = VecNormalize.load(str(statistics), env)
        else:
            saved = VecNormalize.load(str(statistics), normalize.venv)
            normalize.obs_rms, normalize.ret_rms = saved.obs_rms, saved.ret_rms
    model = model_class.load(newest / "model.zip", env=env, **kwargs)
    model.load_replay_buffer(newest / "replay_buffer.pkl")
    with (newest / "generators.pkl").open("rb") as file:
        _restore(model, pickle.load(file))
    assert model.env is not None
    model.env.seed((model.seed or 0) + model.num_timesteps)
    return model


def steps_left(model: OffPolicyAlgorithm) -> int:
    """:return: environment steps that the ``learn`` in which the checkpoint was taken had still to do"""
    return max(model._total_timesteps - model.num_timesteps, 0)


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
