"""What callbacks have found out, kept with a checkpoint and given back when training goes on from it."""

import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from sb3_attnmem.common.files import replacing
from sb3_attnmem.dqn_recurrent.evaluating import MaskedEvalCallback

FILE = "callbacks.pt"
#: of SB3's callbacks; other callbacks name theirs in an attribute ``checkpointed``
CHECKPOINTED = (
    "n_calls",
    "n_episodes",
    "last_time_trigger",
    "evaluations_timesteps",
    "evaluations_results",
    "evaluations_length",
    "evaluations_successes",
    "best_mean_reward",
    "last_mean_reward",
    "last_best_mean_reward",
    "no_improvement_evals",
)


class WholeFileEvalCallback(MaskedEvalCallback):
    """SB3's ``EvalCallback`` with action masks, but ``evaluations.npz`` is replaced by a file that is whole."""

    def _on_step(self) -> bool:
        path = self.log_path
        if path is None or self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
            return super()._on_step()
        with replacing(f"{path}.npz") as unfinished:
            try:
                self.log_path = str(unfinished.with_suffix(""))
                return super()._on_step()
            finally:
                self.log_path = path


def write_records(root: BaseCallback, folder: Path) -> None:
    """
    :param root: callback of ``learn``, which holds the others
    :param folder: of a checkpoint
    """
    records = []
    for i, callback in enumerate(_callbacks(root)):
        names = (*CHECKPOINTED, *getattr(callback, "checkpointed", ()))
        state = {name: vars(callback)[name] for name in names if name in vars(callback)}
        records.append((type(callback).__name__, state))
        best = _best_model(callback)
        if best is not None and best.is_file():
            shutil.copyfile(best, folder / f"best-{i}.zip")
    th.save(records, folder / FILE)


def read_records(root: BaseCallback, folder: Path, steps: int) -> None:
    """
    Give each callback back what it had found out when a checkpoint was taken, and its files; what was written later
    is dropped.

    :param root: callback of ``learn``, which holds the others
    :param folder: of the checkpoint
    :param steps: environment steps after which it was taken
    """
    callbacks = list(_callbacks(root))
    if not (folder / FILE).is_file():  # of version 0.1
        for callback in callbacks:
            callback.n_calls = steps // max(callback.model.n_envs, 1)
            if isinstance(callback, EvalCallback) and callback.log_path is not None:
                _read_evaluations(callback, Path(f"{callback.log_path}.npz"), steps)
        return
    records = th.load(folder / FILE, map_location=callbacks[0].model.device, weights_only=False)
    kept = {
        key: (i, state)
        for i, (key, (_, state)) in enumerate(zip(_keys(name for name, _ in records), records, strict=True))
    }
    for key, callback in zip(_keys(type(callback).__name__ for callback in callbacks), callbacks, strict=True):
        if key not in kept:
            continue
        i, state = kept[key]
        vars(callback).update(state)
        best = _best_model(callback)
        if best is not None and (folder / f"best-{i}.zip").is_file():
            with replacing(best) as unfinished:
                shutil.copyfile(folder / f"best-{i}.zip", unfinished)
        if isinstance(callback, EvalCallback) and callback.log_path is not None:
            _write_evaluations(callback, Path(f"{callback.log_path}.npz"))


def sizes_of_logs(folder: Path) -> dict[str, int]:
    """
    :param folder: of the files of SB3's ``Monitor``
    :return: name -> bytes
    """
    return {path.name: path.stat().st_size for path in folder.glob("*monitor.csv")}


def cut_logs(folder: Path, sizes: dict[str, int]) -> None:
    """
    Drop the episodes that were logged after a checkpoint.

    :param folder: of the files of SB3's ``Monitor``
    :param sizes: that they had then
    """
    for name, size in sizes.items():
        path = folder / name
        if path.is_file() and path.stat().st_size > size:
            os.truncate(path, size)


def _callbacks(root: BaseCallback) -> Iterator[BaseCallback]:
    """:return: a callback and all that it holds, always in the same order"""
    yield root
    held = [
        *getattr(root, "callbacks", []),
        getattr(root, "callback", None),
        getattr(root, "callback_on_new_best", None),
    ]
    for callback in held:
        if isinstance(callback, BaseCallback):
            yield from _callbacks(callback)


def _keys(names: Iterator[str]) -> list[tuple[str, int]]:
    """:return: of each, its name and how many of the same name came before"""
    seen: Counter[str] = Counter()
    keys = []
    for name in names:
        keys.append((name, seen[name]))
        seen[name] += 1
    return keys


def _best_model(callback: BaseCallback) -> Path | None:
    folder = getattr(callback, "best_model_save_path", None)
    return None if folder is None else Path(folder) / "best_model.zip"


def _write_evaluations(callback: EvalCallback, path: Path) -> None:
    if not callback.evaluations_timesteps:
        path.unlink(missing_ok=True)
        return
    told: dict[str, Any] = {
        "timesteps": callback.evaluations_timesteps,
        "results": callback.evaluations_results,
        "ep_lengths": callback.evaluations_length,
    }
    if callback.evaluations_successes:
        told["successes"] = callback.evaluations_successes
    with replacing(path) as unfinished:
        np.savez(unfinished, **told)


def _read_evaluations(callback: EvalCallback, path: Path, steps: int) -> None:
    """Read what a run of version 0.1 told of its evaluations, up to a checkpoint of its."""
    if not path.exists():
        return
    try:
        with np.load(path) as told:
            rows = told["timesteps"] <= steps
            callback.evaluations_timesteps = told["timesteps"][rows].tolist()
            callback.evaluations_results = told["results"][rows].tolist()
            callback.evaluations_length = told["ep_lengths"][rows].tolist()
    except Exception as error:  # a zip that was cut fails in many ways
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        warnings.warn(f"{path} cannot be read ({error}); it is {aside.name} now, evaluations begin anew.", stacklevel=2)
        return
    if callback.evaluations_results:
        callback.best_mean_reward = max(float(np.mean(results)) for results in callback.evaluations_results)
    _write_evaluations(callback, path)
