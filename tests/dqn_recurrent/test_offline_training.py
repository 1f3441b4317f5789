"""``learn_offline`` counts updates of its own; what it does to data is in tests/transfer/test_offline.py."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from sb3_attnmem import RecurrentDQN, ResumableCheckpoint, load_checkpoint, updates_left
from sb3_attnmem.dqn_recurrent import offline

STEPS = 48


@pytest.fixture(name="model")
def _model() -> RecurrentDQN:
    """An agent with data, in two environments."""
    small: dict[str, Any] = dict(policy_kwargs=dict(memory_kwargs=dict(hidden_size=4), encoder_arch=[4]))
    return RecurrentDQN(
        "MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), buffer_size=100, learning_starts=10**6, batch_size=2,
        sequence_length=4, n_steps=3, train_freq=8, seed=0, **small,
    ).learn(STEPS)  # fmt: skip


def test_callbacks_that_look_at_the_end_of_episodes_do_not_fail(model: RecurrentDQN) -> None:
    episodes = StopTrainingOnMaxEpisodes(1)
    assert model.learn_offline(3, episodes)._n_updates == 3
    assert episodes.n_episodes == 0 and episodes.num_timesteps == 3


def test_the_replay_ratio_is_of_environment_steps(model: RecurrentDQN, tmp_path: Path) -> None:
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn_offline(2, log_interval=1)
    head, *rows = (tmp_path / "progress.csv").read_text(encoding="utf-8").splitlines()
    assert "train/loss" in head and "time/offline_updates" in head and len(rows) == 2
    assert "train/replay_ratio" not in head, "there are no environment steps to compare with"


def test_what_a_callback_saves_counts_environment_steps(model: RecurrentDQN, tmp_path: Path) -> None:
    model.learn_offline(2, CheckpointCallback(1, str(tmp_path), "agent"))
    saved = RecurrentDQN.load(tmp_path / "agent_1_steps.zip")
    assert saved.num_timesteps == STEPS and saved._n_updates == 1 and updates_left(saved) == 1
    assert saved._total_timesteps == STEPS and offline.offline_updates(saved) is None


def test_checkpoints_are_taken_and_are_of_the_same_run(model: RecurrentDQN, tmp_path: Path) -> None:
    model.learn_offline(7, ResumableCheckpoint(tmp_path, 2))
    names = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    assert len(names) == 2 and all(name.startswith(f"checkpoint-{STEPS:012d}-") for name in names)
    resumed = load_checkpoint(RecurrentDQN, tmp_path, make_vec_env("CartPole-v1", 2, seed=0))
    assert updates_left(resumed) == 1 and resumed._n_updates == 6
    resumed.learn_offline(1, ResumableCheckpoint(tmp_path, 1), reset_num_updates=False)
    assert updates_left(resumed) == 0 and resumed._n_updates == 7
    # On it goes with an environment, in the same folder
    resumed.learn(20, callback=ResumableCheckpoint(tmp_path, 8))
    assert load_checkpoint(RecurrentDQN, tmp_path, make_vec_env("CartPole-v1", 2)).num_timesteps == 16


def test_an_exception_leaves_the_counters_of_the_environment(model: RecurrentDQN) -> None:
    def broken(told: dict[str, Any], _: dict[str, Any]) -> bool:
        if told["update"] == 2:
            raise RuntimeError("broken off")
        return True

    with pytest.raises(RuntimeError, match="broken off"):
        model.learn_offline(5, broken)
    assert model.num_timesteps == STEPS and updates_left(model) == 3
    model.learn_offline(updates_left(model), reset_num_updates=False)
    assert model._n_updates == 5 and updates_left(model) == 0


@pytest.mark.parametrize("given", [None, [], [StopTrainingOnMaxEpisodes(9)], StopTrainingOnMaxEpisodes(9), "function"])
def test_the_progress_bar_goes_on_by_an_update(
    model: RecurrentDQN, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[int] = []
    end = ProgressBarCallback._on_training_end

    def ended(callback: Any) -> None:
        bars.append(callback.pbar.n)
        assert callback.pbar.total == 3
        end(callback)

    monkeypatch.setattr(ProgressBarCallback, "_on_training_end", ended)
    model.learn_offline(3, (lambda *_: True) if given == "function" else given, progress_bar=True)
    assert bars == [3]


@pytest.mark.parametrize(
    "wrong",
    [dict(updates=0), dict(updates=2.5), dict(updates=True), dict(updates=3, log_interval=0)]
    + [dict(updates=3, conservative_weight=weight) for weight in (-1, float("nan"), float("inf"), "much")]
    + [dict(updates=3, reset_num_updates="no")],
    ids=str,
)
def test_wrong_numbers(model: RecurrentDQN, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        model.learn_offline(**wrong)
    assert model._n_updates == 0


def test_sb3_s_progress_bar_counts_environments() -> None:
    """If it no longer does, ours is not needed."""
    assert "num_envs" in inspect.getsource(ProgressBarCallback._on_step)
    assert issubclass(ProgressBarCallback, BaseCallback)
