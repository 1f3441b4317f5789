"""Conformance 14: saving and loading keeps target network, optimiser, schedules, counters and replay buffer."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.logger import configure
from stable_baselines3.common.utils import LinearSchedule

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from tests.dqn_recurrent.conformance.reference import every_window
from tests.ledger import LSTM, Recorder, make_env, make_model


def trained(model_class: type[RecurrentDQN] = RecurrentDQN) -> tuple[RecurrentDQN, Recorder]:
    env = make_env(((5, 3), (17,), (40,)))
    model = make_model(
        env,
        model_class,
        LSTM,
        learning_starts=30,
        train_freq=2,
        learning_rate=LinearSchedule(1e-2, 1e-4, 1.0),
        target_update_interval=60,
        tau=0.5,
        exploration_fraction=0.8,
        burn_in=4,
        n_steps=3,
        buffer_size=120,
        value_rescaling=True,
        double_q=False,
    )
    model.learn(210)
    return model, env


def equal(one: Any, other: Any) -> bool:
    """:return: whether two nests of dicts, lists, tensors and numbers are the same"""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, th.Tensor):
        return th.equal(one, other)
    return bool(np.array_equal(one, other))


COUNTERS = [
    "num_timesteps",
    "_n_updates",
    "_n_calls",
    "_episode_num",
    "exploration_rate",
    "_current_progress_remaining",
]
SETTINGS = [
    "sequence_length",
    "burn_in",
    "n_steps",
    "double_q",
    "value_rescaling",
    "tau",
    "gamma",
    "buffer_size",
    "seed",
]


def check_round_trip(model_class: type[RecurrentDQN], folder: Path) -> None:
    """What was loaded is what was saved, and goes on learning to the same weights."""
    model, env = trained(model_class)
    model.save(folder / "model")
    model.save_replay_buffer(folder / "buffer")
    loaded = model_class.load(folder / "model", env=env)
    loaded.load_replay_buffer(folder / "buffer")

    assert not equal(model.q_net.state_dict(), model.q_net_target.state_dict())
    assert equal(loaded.q_net.state_dict(), model.q_net.state_dict())
    assert equal(loaded.q_net_target.state_dict(), model.q_net_target.state_dict())
    optimizer = model.policy.optimizer.state_dict()
    assert optimizer["state"] and equal(loaded.policy.optimizer.state_dict(), optimizer)
    for name in [*COUNTERS, *SETTINGS]:
        assert getattr(loaded, name) == getattr(model, name), name
    for progress in (1.0, 0.6, 0.3, 0.0):
        assert loaded.lr_schedule(progress) == model.lr_schedule(progress)
        assert loaded.exploration_schedule(progress) == model.exploration_schedule(progress)
    assert model.replay_buffer is not None and loaded.replay_buffer is not None
    assert loaded.replay_buffer.size() == model.replay_buffer.size() > 0
    mine, theirs = every_window(model), every_window(loaded)
    assert equal(list(mine), list(theirs)), "the same windows"

    for either in (model, loaded):
        either.set_logger(configure(None, []))
        either.train(3, 16)
        either._on_step()
    assert equal(loaded.policy.state_dict(), model.policy.state_dict())
    assert equal(loaded.q_net_target.state_dict(), model.q_net_target.state_dict())
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps + 60


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
def test_round_trip(model_class: type[RecurrentDQN], tmp_path: Path) -> None:
    check_round_trip(model_class, tmp_path)


class CopiesTheTarget(RecurrentDQN):
    """Planted: the target network is not saved, but copied from the online network."""

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> "CopiesTheTarget":
        model = super().load(*args, **kwargs)
        model.q_net_target.load_state_dict(model.q_net.state_dict())
        return model


class FreshOptimizer(RecurrentDQN):
    """Planted: the optimiser begins anew."""

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> "FreshOptimizer":
        model = super().load(*args, **kwargs)
        model.policy.optimizer = th.optim.Adam(model.q_net.parameters(), lr=1e-2)
        return model


class FreshCounters(RecurrentDQN):
    """Planted: the count of steps towards the next target update begins anew."""

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_n_calls"]


class FreshExploration(RecurrentDQN):
    """Planted: exploration begins anew."""

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "exploration_rate"]


class ConstantRate(RecurrentDQN):
    """Planted: the learning-rate schedule becomes the rate it had."""

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> "ConstantRate":
        model = super().load(*args, **kwargs)
        rate = model.policy.optimizer.param_groups[0]["lr"]
        model.lr_schedule = lambda _: rate
        return model


class EmptyBuffer(RecurrentDQN):
    """Planted: the replay buffer is not loaded."""

    def load_replay_buffer(self, *args: Any, **kwargs: Any) -> None:
        pass


class FreshWindows(RecurrentDQN):
    """Planted: the generator that draws windows begins anew."""

    def load_replay_buffer(self, *args: Any, **kwargs: Any) -> None:
        super().load_replay_buffer(*args, **kwargs)
        assert self.replay_buffer is not None
        self.replay_buffer.seed(0)


@pytest.mark.parametrize(
    "planted",
    [CopiesTheTarget, FreshOptimizer, FreshCounters, FreshExploration, ConstantRate, EmptyBuffer, FreshWindows],
)
def test_lossy_round_trips_are_caught(planted: type[RecurrentDQN], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_round_trip(planted, tmp_path)


def test_running_state_is_not_saved(tmp_path: Path) -> None:
    """It belongs to environments that will be reset; a file with it would depend on their number."""
    model, _ = trained()
    assert model._memory_state is not None and model._last_obs is not None
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        saved = json.loads(archive.read("data"))
    for name in ("_memory_state", "_last_obs", "_last_original_obs", "_last_episode_starts", "replay_buffer"):
        assert name not in saved, name
    loaded = RecurrentDQN.load(tmp_path / "model.zip")
    assert loaded._memory_state is None and loaded._last_obs is None
