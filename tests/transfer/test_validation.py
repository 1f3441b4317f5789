"""Validation: which environments and numbers it refuses, and what outlives a kill."""

from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN, ResumableCheckpoint, load_checkpoint
from sb3_attnmem.transfer import ValidationCallback
from tests.transfer.test_going_on import Bandit


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_environment_that_is_trained_in_is_refused(wrapped: bool) -> None:
    game = Bandit()
    env = DummyVecEnv([lambda: game])
    model = RecurrentDQN("MlpPolicy", VecNormalize(env) if wrapped else env, buffer_size=100)
    for same in (env, game):
        with pytest.raises(ValueError, match="eval_env is the environment that is trained in"):
            model.learn(16, ValidationCallback(same, eval_freq=5, verbose=0))
    model.learn(16, ValidationCallback(Bandit(), eval_freq=50, verbose=0))


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            dict(seed=-1),
            dict(patience=0),
            dict(patience=1.5),
            dict(n_eval_episodes=float("nan")),
            dict(eval_freq=True),
        ),
        *(dict(min_evals=-1), dict(restore_best="no"), dict(deterministic=1)),
    ],
    ids=str,
)
def test_numbers_of_validation_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ValidationCallback("CartPole-v1", **wrong)


def test_the_best_weights_outlive_a_kill(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They were found before the checkpoint, and what is trained after it is worse."""
    scores = iter([1.0, 5.0, 2.0, 0.0, 0.0])
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.evaluate_policy", lambda *_, **__: ([next(scores)] * 2, [10, 10])
    )

    def callbacks() -> list[Any]:
        env = VecNormalize(DummyVecEnv([Bandit]), training=False, norm_reward=False)
        return [ResumableCheckpoint(tmp_path, 30), ValidationCallback(env, eval_freq=10, patience=3, verbose=0), Kill()]

    class Kill(BaseCallback):
        at = 35

        def _on_step(self) -> bool:
            if self.num_timesteps == self.at:
                raise KeyboardInterrupt
            return True

    model = RecurrentDQN(
        "MlpPolicy", VecNormalize(DummyVecEnv([Bandit])), buffer_size=100, learning_starts=4, train_freq=1, seed=0
    )
    found = callbacks()
    with pytest.raises(KeyboardInterrupt):
        model.learn(200, callback=found)
    Kill.at = 0
    best = found[1].best_weights
    assert found[1].best_at == 20 and best is not None
    resumed = load_checkpoint(RecurrentDQN, tmp_path, VecNormalize(DummyVecEnv([Bandit])))
    found = callbacks()
    resumed.learn(165, callback=found, reset_num_timesteps=False)
    assert resumed.num_timesteps == 50, "patience was counted on"
    assert found[1].best_at == 20 and found[1].best_mean_reward == 5.0
    for name, weight in resumed.policy.state_dict().items():
        assert th.equal(weight, best["policy"][name]), name
