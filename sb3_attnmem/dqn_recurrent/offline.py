"""Updates from what a replay buffer holds, without an environment step."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, ProgressBarCallback
from stable_baselines3.common.type_aliases import MaybeCallback, TrainFrequencyUnit
from stable_baselines3.common.utils import configure_logger

from sb3_attnmem.common.checks import check_flag, check_integer, check_number
from sb3_attnmem.dqn_recurrent.training import OnlineCounters, TrainingOnSequences


def run_offline(
    model: TrainingOnSequences,
    updates: int,
    callback: MaybeCallback,
    conservative_weight: float,
    log_interval: int,
    tb_log_name: str,
    progress_bar: bool,
    reset_num_updates: bool,
) -> None:
    """
    What ``RecurrentDQN.learn_offline`` does; its parameters are explained there.

    :raises ValueError: when the buffer is empty, or a number makes no sense
    """
    _check(model, updates, conservative_weight, log_interval, reset_num_updates)
    model._find_masks()
    begin = 0 if reset_num_updates else model._offline_done
    total = begin + updates
    model._offline_done, model._offline_total = begin, total
    model.start_time = time.time_ns()
    if not model._custom_logger:
        model._logger = configure_logger(model.verbose, model.tensorboard_log, tb_log_name, reset_num_updates)
    interval = target_interval(model)
    with _counting_updates(model):
        callbacks = model._init_callback(_with_bar(callback) if progress_bar else callback)
        told = {
            "self": model,
            "callback": callbacks,
            "total_timesteps": total,
            "reset_num_timesteps": reset_num_updates,
            # No environment is stepped, and no episode ends
            "rewards": np.zeros(model.n_envs, dtype=np.float32),
            "dones": np.zeros(model.n_envs, dtype=bool),
            "infos": [{} for _ in range(model.n_envs)],
        }
        callbacks.on_training_start(told, globals())
        for update in range(begin + 1, total + 1):
            model._current_progress_remaining = 1.0 - (update - 1) / total
            model.update(1, model.batch_size, interval, conservative_weight)
            model.num_timesteps = model._offline_done = update
            if update % log_interval == 0 or update == total:
                _log(model, update - begin)
            callbacks.update_locals({**told, "update": update})
            if not callbacks.on_step():
                break
        callbacks.on_training_end()


def updates_left(model: BaseAlgorithm) -> int:
    """
    :return: updates that the ``learn_offline`` in which a checkpoint was taken had still to do; 0 for other models
    """
    if not isinstance(model, TrainingOnSequences):
        return 0
    return max(model._offline_total - model._offline_done, 0)


def offline_updates(model: BaseAlgorithm) -> int | None:
    """:return: updates that the ``learn_offline`` has made in which the model is; None where it is in none"""
    if not isinstance(model, TrainingOnSequences) or model._online_counters is None:
        return None
    return model._offline_done


@contextmanager
def with_online_counters(model: BaseAlgorithm) -> Iterator[None]:
    """
    Let a model count environment steps inside the ``with``, in ``learn_offline`` too: that is what is saved.

    :param model: any
    """
    online = model._online_counters if isinstance(model, TrainingOnSequences) else None
    if online is None:
        yield
        return
    offline = _counters(model)
    _count(model, online)
    try:
        yield
    finally:
        _count(model, offline)


@contextmanager
def _counting_updates(model: TrainingOnSequences) -> Iterator[None]:
    """Inside the ``with``, callbacks, the log and TensorBoard count updates in place of environment steps."""
    model._online_counters = online = _counters(model)
    _count(model, OnlineCounters(model._offline_done, model._offline_total, 1.0))
    try:
        yield
    finally:
        model._online_counters = None
        _count(model, online)


def _counters(model: BaseAlgorithm) -> OnlineCounters:
    return OnlineCounters(model.num_timesteps, model._total_timesteps, model._current_progress_remaining)


def _count(model: BaseAlgorithm, counters: OnlineCounters) -> None:
    model.num_timesteps, model._total_timesteps, model._current_progress_remaining = counters


class _UpdatesBar(ProgressBarCallback):
    """SB3's progress bar, which goes on by a step of every environment."""

    def _on_step(self) -> bool:
        self.pbar.update(1)
        return True


def _with_bar(callback: MaybeCallback) -> BaseCallback:
    if isinstance(callback, list):
        callback = CallbackList(callback)
    elif not isinstance(callback, BaseCallback):
        callback = ConvertCallback(callback)
    return CallbackList([callback, _UpdatesBar()])


def target_interval(model: TrainingOnSequences) -> int:
    """
    :return: updates from one update of the target network to the next that keep the pace it has online; where online
        training updates it several times an update, 1
    """
    if model.target_update_unit == "updates":
        return model.target_update_interval
    model._convert_train_freq()
    frequency = model.train_freq
    if model.gradient_steps < 0:
        return model.target_update_interval
    if frequency.unit != TrainFrequencyUnit.STEP:  # type: ignore[union-attr]
        return 1
    steps_an_update = frequency.frequency * model.n_envs / max(model.gradient_steps, 1)  # type: ignore[union-attr]
    return max(1, round(model.target_update_interval / steps_an_update))


def _check(
    model: TrainingOnSequences, updates: int, conservative_weight: float, log_interval: int, reset_num_updates: bool
) -> None:
    check_integer("updates", updates)
    check_integer("log_interval", log_interval)
    check_number("conservative_weight", conservative_weight, least=0)
    check_flag("reset_num_updates", reset_num_updates)
    # A buffer with old data draws from that while it is empty itself
    if model.replay_buffer is None or model.replay_buffer.is_empty:
        raise ValueError(
            "The replay buffer is empty: load_replay_buffer(path), or fill it with fill_from_minari or "
            "fill_from_buffer of sb3_attnmem.transfer."
        )


def _log(model: TrainingOnSequences, n_updates: int) -> None:
    seconds = max((time.time_ns() - model.start_time) / 1e9, sys.float_info.epsilon)
    model.logger.record("time/offline_updates", model.num_timesteps)
    model.logger.record("time/updates_per_second", n_updates / seconds)
    model.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
    model.logger.dump(model.num_timesteps)
