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
)
from sb3_attnmem.dqn_recurrent.checkpoints import save_checkpoint

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


def make_env(normalize: bool) -> VecEnv:
    env = make_vec_env("CartPole-v1", 2, seed=3)
    return VecNormalize(env) if normalize else env


def make(env: VecEnv, **kwargs: Any) -> RecurrentDQN:
    return RecurrentDQN(
        "MlpPolicy",
        env,
        buffer_size=600,  # the ring turns
        learning_starts=50,
        batch_size=4,
        sequence_length=8,
        burn_in=4,
        train_freq=4,
        exploration_fraction=0.9,
        learning_rate=lambda progress: 1e-3 * progress,
        target_update_interval=6,
        seed=5,
        **{"policy_kwargs": dict(memory_kwargs=dict(hidden_size=8)), **kwargs},
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


def test_only_the_newest_whole_checkpoint_counts(tmp_path: Path) -> None:
    model = make(make_env(False))
    model.learn(300, callback=ResumableCheckpoint(tmp_path, 80))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000000240"]
    # A process killed while it wrote the next one
    (tmp_path / "unfinished-checkpoint-000000000320").mkdir()
    (tmp_path / "unfinished-checkpoint-000000000320" / "model.zip").write_bytes(b"half of it")
    assert load_checkpoint(RecurrentDQN, tmp_path, make_env(False)).num_timesteps == 240


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


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_freq=0"):
        ResumableCheckpoint(tmp_path, 0)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        load_checkpoint(RecurrentDQN, tmp_path, make_env(False))
