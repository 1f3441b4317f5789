"""A run that was killed and resumed ends with the weights of one that went through."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_attnmem import (
    PrioritizedSequenceReplayBuffer,
    RecurrentDQN,
    ResumableCheckpoint,
    load_checkpoint,
    steps_left,
    updates_left,
)
from sb3_attnmem.dqn_recurrent import save_checkpoint, statistics_of

HALF = 400


class Stop(BaseCallback):
    """Break off between two rollouts, as a kill would."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps >= HALF + 40:
            raise KeyboardInterrupt


class BeginAnew(BaseCallback):
    """What resuming does to the environments: seed and reset them."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        model = self.model
        if model.num_timesteps == HALF and not hasattr(self, "done"):
            self.done = True
            assert model.env is not None
            model.env.seed((model.seed or 0) + model.num_timesteps)
            model._last_obs = model.env.reset()  # type: ignore[assignment]
            model._last_episode_starts = np.ones(model.n_envs, dtype=bool)
            if model.get_vec_normalize_env() is not None:
                model._last_original_obs = model.get_vec_normalize_env().get_original_obs()  # type: ignore[union-attr]
            if isinstance(model, RecurrentDQN):
                assert model.replay_buffer is not None
                model.replay_buffer.cut()
                model._memory_state = model.q_net.memory.initial_state(model.n_envs)
                model._statistics = model._new_statistics()
                model._watched().settle()  # as if the model had done it


def make_env(normalize: bool) -> VecEnv:
    env = make_vec_env("CartPole-v1", 2, seed=3)
    return VecNormalize(env) if normalize else env


def make(env: VecEnv, **kwargs: Any) -> RecurrentDQN:
    return RecurrentDQN(
        "MlpPolicy",
        env,
        buffer_size=600,  # the ring turns
        batch_size=4,
        sequence_length=8,
        burn_in=4,
        train_freq=4,
        exploration_fraction=0.9,
        learning_rate=lambda progress: 1e-3 * progress,
        n_steps=3,
        target_update_interval=6,
        seed=5,
        **{"learning_starts": 50, "policy_kwargs": dict(memory_kwargs=dict(hidden_size=8)), **kwargs},
    )


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("prioritized", [False, True])
def test_resumed_is_as_gone_through(tmp_path: Path, normalize: bool, prioritized: bool) -> None:
    kwargs: dict[str, Any] = dict(refresh_states=True)
    if prioritized:
        kwargs["replay_buffer_class"] = PrioritizedSequenceReplayBuffer
    through = make(make_env(normalize), **kwargs).learn(2 * HALF, callback=BeginAnew())
    with pytest.raises(KeyboardInterrupt):
        make(make_env(normalize), **kwargs).learn(2 * HALF, callback=[ResumableCheckpoint(tmp_path, HALF), Stop()])
    th.manual_seed(99)
    np.random.seed(99)
    resumed = load_checkpoint(RecurrentDQN, tmp_path, make_env(normalize))
    assert resumed.num_timesteps == HALF and steps_left(resumed) == HALF
    resumed.learn(steps_left(resumed), reset_num_timesteps=False)
    for (name, ours), theirs in zip(
        resumed.policy.state_dict().items(), through.policy.state_dict().values(), strict=True
    ):
        assert th.equal(ours, theirs), name
    for name in ("num_timesteps", "_n_calls", "_n_updates", "exploration_rate", "_n_trained_steps"):
        assert getattr(resumed, name) == getattr(through, name), name
    assert resumed.policy.optimizer.param_groups[0]["lr"] == through.policy.optimizer.param_groups[0]["lr"]
    if normalize:
        ours, theirs = resumed.get_vec_normalize_env(), through.get_vec_normalize_env()
        assert ours is not None and theirs is not None
        np.testing.assert_array_equal(ours.obs_rms.mean, theirs.obs_rms.mean)  # type: ignore[union-attr]
        np.testing.assert_array_equal(ours.ret_rms.var, theirs.ret_rms.var)


def test_without_its_generators_a_run_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the random generators are not restored."""
    monkeypatch.setattr("sb3_attnmem.dqn_recurrent.checkpoints._restore", lambda *_: None)
    with pytest.raises(AssertionError):
        test_resumed_is_as_gone_through(tmp_path, False, False)


def test_stock_dqn_too(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", make_env(False), buffer_size=500, learning_starts=50, seed=0).learn(200)
    save_checkpoint(model, tmp_path)
    resumed = load_checkpoint(DQN, tmp_path, make_env(False))
    assert resumed.num_timesteps == 200 and resumed.replay_buffer is not None and resumed.replay_buffer.size() == 100
    resumed.learn(100, reset_num_timesteps=False)


def test_a_process_killed_at_any_moment_leaves_a_checkpoint(tmp_path: Path) -> None:
    code = f"""
import torch; torch.set_num_threads(1)
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.dqn_recurrent.test_checkpoints import *
make(make_env(True)).learn(10**9, callback=ResumableCheckpoint({str(tmp_path)!r}, 8))
"""
    for delay in (0.0, 0.17, 0.31):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while not list(tmp_path.glob("checkpoint-*")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        model = load_checkpoint(RecurrentDQN, tmp_path, make_env(True))
        assert model.num_timesteps >= 8
        model.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize("norm_obs, norm_reward", [(True, False), (False, True), (False, False)])
def test_every_kind_of_vec_normalize_is_resumed(tmp_path: Path, norm_obs: bool, norm_reward: bool) -> None:
    def make_normalized() -> VecEnv:
        return VecNormalize(make_vec_env("CartPole-v1", 2, seed=3), norm_obs=norm_obs, norm_reward=norm_reward)

    model = make(make_normalized()).learn(100)
    save_checkpoint(model, tmp_path)
    before = statistics_of(model.get_vec_normalize_env())  # type: ignore[arg-type]
    assert ("obs_rms" in before) == norm_obs and "ret_rms" in before
    for env in (make_normalized(), make_env(False)):
        resumed = load_checkpoint(RecurrentDQN, tmp_path, env)
        after = statistics_of(resumed.get_vec_normalize_env())  # type: ignore[arg-type]
        assert after.keys() == before.keys()
        np.testing.assert_array_equal(after["ret_rms"].var, before["ret_rms"].var)
        if norm_obs:
            np.testing.assert_array_equal(after["obs_rms"].mean, before["obs_rms"].mean)
        resumed.learn(20, reset_num_timesteps=False)


def test_other_normalization_is_refused(tmp_path: Path) -> None:
    plain, normalized = tmp_path / "plain", tmp_path / "normalized"
    save_checkpoint(make(make_env(False)).learn(60), plain)
    with pytest.raises(ValueError, match=r"vecnormalize.pkl is missing: training would go on with fresh statistics"):
        load_checkpoint(RecurrentDQN, plain, make_env(True))
    save_checkpoint(make(make_env(True)).learn(60), normalized)
    with pytest.raises(ValueError, match=r"VecNormalize\(norm_obs=False\) does not fit"):
        load_checkpoint(RecurrentDQN, normalized, VecNormalize(make_env(False), norm_obs=False))


class StopOffline(BaseCallback):
    """Break off after some updates, as a kill would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def _on_step(self) -> bool:
        if self.num_timesteps == self.after:
            raise KeyboardInterrupt
        return True


def test_offline_training_is_resumed_as_gone_through(tmp_path: Path) -> None:
    def begin() -> RecurrentDQN:
        return make(make_env(False), learning_starts=10**6).learn(120)

    through = begin().learn_offline(40)
    with pytest.raises(KeyboardInterrupt):
        begin().learn_offline(40, [ResumableCheckpoint(tmp_path, 12), StopOffline(30)])
    th.manual_seed(99)
    resumed = load_checkpoint(RecurrentDQN, tmp_path, make_env(False))
    assert updates_left(resumed) == 40 - 24 and resumed.num_timesteps == 120 and resumed._n_updates == 24
    resumed.learn_offline(updates_left(resumed), reset_num_updates=False)
    assert updates_left(resumed) == 0 and resumed.num_timesteps == 120
    for (name, ours), theirs in zip(
        resumed.policy.state_dict().items(), through.policy.state_dict().values(), strict=True
    ):
        assert th.equal(ours, theirs), name
    assert resumed.policy.optimizer.param_groups[0]["lr"] == through.policy.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("save_freq", [0, -1, float("nan"), 1e3, True, "often", None])
def test_bad_input(tmp_path: Path, save_freq: Any) -> None:
    with pytest.raises(ValueError, match="save_freq="):
        ResumableCheckpoint(tmp_path, save_freq)
