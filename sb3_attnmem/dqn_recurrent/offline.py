"""Updates from what a replay buffer holds, without an environment step."""

import sys
import time

import numpy as np
from stable_baselines3.common.type_aliases import MaybeCallback, TrainFrequencyUnit
from stable_baselines3.common.utils import configure_logger

from sb3_attnmem.dqn_recurrent.training import TrainingOnSequences


def run_offline(
    model: TrainingOnSequences,
    updates: int,
    callback: MaybeCallback,
    conservative_weight: float,
    log_interval: int,
    tb_log_name: str,
    progress_bar: bool,
) -> None:
    """
    What ``RecurrentDQN.learn_offline`` does; its parameters are explained there.

    :raises ValueError: when the buffer is empty, or a number makes no sense
    """
    _check(model, updates, conservative_weight, log_interval)
    steps_before, progress_before = model.num_timesteps, model._current_progress_remaining
    total_before = model._total_timesteps
    model.start_time = time.time_ns()
    model._n_updates_at_start = model._n_updates
    if not model._custom_logger:
        model._logger = configure_logger(model.verbose, model.tensorboard_log, tb_log_name, True)
    # What callbacks, the log and TensorBoard count
    model.num_timesteps, model._total_timesteps = 0, updates
    interval = target_interval(model)
    try:
        callbacks = model._init_callback(callback, progress_bar)
        callbacks.on_training_start({"self": model, "total_timesteps": updates}, {})
        for update in range(1, updates + 1):
            model._current_progress_remaining = 1.0 - (update - 1) / updates
            model.update(1, model.batch_size, interval, conservative_weight)
            model.num_timesteps = update
            if update % log_interval == 0 or update == updates:
                _log(model)
            callbacks.update_locals({"self": model, "update": update})
            if not callbacks.on_step():
                break
        callbacks.on_training_end()
    finally:
        model.num_timesteps, model._total_timesteps = steps_before, total_before
        model._current_progress_remaining = progress_before


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


def _check(model: TrainingOnSequences, updates: int, conservative_weight: float, log_interval: int) -> None:
    for name, value in (("updates", updates), ("log_interval", log_interval)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1.")
    if not 0 <= conservative_weight < float("inf"):
        raise ValueError(f"conservative_weight={conservative_weight!r} must be a number of at least 0.")
    buffer = model.replay_buffer
    # A buffer with old data draws from that while it is empty itself
    if buffer is None or buffer.is_empty:
        raise ValueError(
            "The replay buffer is empty: load_replay_buffer(path), or fill it with fill_from_minari or "
            "fill_from_buffer of sb3_attnmem.transfer."
        )


def _log(model: TrainingOnSequences) -> None:
    seconds = max((time.time_ns() - model.start_time) / 1e9, sys.float_info.epsilon)
    model.logger.record("time/offline_updates", model.num_timesteps)
    model.logger.record("time/updates_per_second", model.num_timesteps / seconds)
    model.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
    model.logger.dump(model.num_timesteps)
