"""The step at which a callback stops is counted, logged and learned from like any other."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN
from tests.dqn_recurrent.worlds import SMALL
from tests.ledger import Ledger
from tests.toys import PLAIN

LENGTH = 5


def learner(env: gym.Env | DummyVecEnv | None = None, **kwargs: Any) -> RecurrentDQN:
    options: dict[str, Any] = dict(
        buffer_size=400,
        learning_starts=0,
        batch_size=4,
        train_freq=8,
        sequence_length=4,
        burn_in=2,
        n_steps=2,
        seed=0,
        exploration_initial_eps=0.3,
        policy_kwargs=SMALL,
        **dict(PLAIN, exploration_final_eps=0.3, normalize_observations=True, normalize_returns=True),
    )
    return RecurrentDQN("MlpPolicy", env or Ledger(0, (LENGTH,)), **{**options, **kwargs})


def one_episode(model: RecurrentDQN, **kwargs: Any) -> None:
    model.learn(10_000, callback=StopTrainingOnMaxEpisodes(1), **{"reset_num_timesteps": False, **kwargs})


def test_one_episode_a_learn_is_one_long_learn(tmp_path: Path) -> None:
    """The same counts, the same log, the same updates on the same batches, and so the same weights."""
    models = [learner(), learner()]
    for i, model in enumerate(models):
        model.set_logger(configure(str(tmp_path / str(i)), ["csv"]))
    for _ in range(17):
        one_episode(models[0])
    models[0].learn(3, reset_num_timesteps=False)
    models[1].learn(88)
    for name in ("num_timesteps", "_episode_num", "_n_updates", "_n_calls"):
        assert getattr(models[0], name) == getattr(models[1], name) > 0, name
    assert len(models[0].ep_info_buffer) == len(models[1].ep_info_buffer) == 17  # type: ignore[arg-type]
    for one, other in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        assert th.equal(one, other)
    lines = [(tmp_path / str(i) / "progress.csv").read_text().count("\n") for i in range(2)]
    assert lines[0] == lines[1] == 1 + 17 // 4


@pytest.mark.parametrize("anew", [False, True])
def test_rollouts_of_whole_episodes(anew: bool) -> None:
    """Each is complete when the callback stops: its updates begin the next ``learn``."""
    model = learner(train_freq=(1, "episode"))
    for i in range(5):
        assert model._n_updates == max(i - 1, 0)
        one_episode(model, reset_num_timesteps=anew)
    assert model._episode_num == (1 if anew else 5)


def test_as_many_gradient_steps_as_steps() -> None:
    model = learner(gradient_steps=-1)
    for _ in range(8):
        one_episode(model)
    assert (model.num_timesteps, model._n_updates) == (40, 32)
    model.learn(1, reset_num_timesteps=False)
    assert model._n_updates == 40 + 8, "those that were due, and those of the rollout that followed"


def test_nothing_is_due_that_was_collected_before_learning_starts() -> None:
    model = learner(learning_starts=20)
    for _ in range(4):
        one_episode(model)
    assert model._n_updates == 0
    one_episode(model)
    assert model._n_updates == 1, "of the rollout that ended at step 24"


def test_several_environments() -> None:
    model = learner(DummyVecEnv([lambda: Ledger(0, (LENGTH,)), lambda: Ledger(1, (3,))]))
    for _ in range(6):
        one_episode(model)
    assert model._episode_num == sum(np.arange(1, model.num_timesteps // 2 + 1) % LENGTH == 0) + sum(
        np.arange(1, model.num_timesteps // 2 + 1) % 3 == 0
    )
    assert model._n_updates == (model.num_timesteps // 2 - 1) // 8


def test_a_loaded_model_begins_a_rollout(tmp_path: Path) -> None:
    model = learner()
    one_episode(model)
    model.save(tmp_path / "model.zip")
    loaded = RecurrentDQN.load(tmp_path / "model.zip", env=Ledger(0, (LENGTH,)))
    loaded.learn(1, reset_num_timesteps=False)
    assert loaded.num_timesteps == LENGTH + 8
