"""Stopping in time, and one task after another."""

import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.replay import MixedSequenceReplayBuffer
from sb3_attnmem.transfer import ContinualReport, Stage, ValidationCallback, learn_in_sequence


class Bandit(gym.Env):
    """Ten steps; the reward is 1 for action ``right``. The first observation tells how the episode was seeded."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, right: int = 0) -> None:
        self.right = right
        self.firsts: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.noise = 0, float(self.np_random.random())
        self.firsts.append(self.noise)
        return np.array([self.noise, self.right], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        observation = np.array([self.noise, self.right], np.float32)
        return observation, float(action == self.right), self.t == 10, False, {}


gym.register("BanditOfTwo-v0", "tests.transfer.test_going_on:Bandit")


def make(env: Any = None, **options: Any) -> RecurrentDQN:
    policy_kwargs = dict(net_arch=[8], encoder_arch=[8], memory_class="gru", memory_kwargs=dict(hidden_size=8))
    settings: dict[str, Any] = dict(sequence_length=4, burn_in=0, n_steps=1, batch_size=8, learning_starts=16)
    settings |= dict(buffer_size=400, train_freq=4, target_update_interval=4, seed=0, learning_rate=1e-2, gamma=0.0)
    env = Bandit() if env is None else env
    return RecurrentDQN("MlpPolicy", env, policy_kwargs=policy_kwargs, **{**settings, **options})


# Validation


def test_every_validation_is_over_the_same_episodes() -> None:
    env = Bandit()
    make().learn(60, ValidationCallback(env, seed=7, eval_freq=20, n_eval_episodes=3, verbose=0))
    per_evaluation = 4  # three that are scored, and the reset behind the last
    evaluations = np.array(env.firsts).reshape(3, per_evaluation)
    assert (evaluations == evaluations[0]).all() and len(set(evaluations[0])) > 1


class Sabotage(BaseCallback):
    """From a step on, give the model other weights each time, as if training went wrong."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.weights: dict[int, th.Tensor] = {}

    def _on_step(self) -> bool:
        weight = next(self.model.q_net.parameters())  # type: ignore[attr-defined]
        if self.n_calls > self.after:
            with th.no_grad():
                weight.add_(100.0)
        self.weights[self.n_calls] = weight.detach().clone()
        return True


@pytest.mark.parametrize("algorithm", [RecurrentDQN, DQN])
def test_the_best_weights_come_back(algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([1.0, 3.0, 2.0, 2.5, 2.9])
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.evaluate_policy", lambda *_, **__: ([next(scores)] * 2, [10, 10])
    )
    env: Any = VecNormalize(DummyVecEnv([Bandit]))
    model = make(env) if algorithm is RecurrentDQN else DQN("MlpPolicy", env, learning_starts=8, buffer_size=100)
    sabotage = Sabotage(20)
    validation = ValidationCallback(VecNormalize(DummyVecEnv([Bandit])), eval_freq=10, patience=3, verbose=0)
    means: dict[int, float] = {}

    class Means(BaseCallback):
        def _on_step(self) -> bool:
            means[self.n_calls] = float(env.obs_rms.mean[0])
            return True

    model.learn(1_000, [sabotage, Means(), validation])
    assert model.num_timesteps == 50, "the second was the best; three without a better one are enough"
    assert validation.best_at == 20
    weight = next(model.q_net.parameters())
    assert th.equal(weight, sabotage.weights[20]) and not th.equal(weight, sabotage.weights[50])
    assert float(env.obs_rms.mean[0]) == means[20] != means[50]


def test_without_restoring_the_last_weights_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([3.0, 1.0, 1.0])
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.evaluate_policy", lambda *_, **__: ([next(scores)] * 2, [10, 10])
    )
    model, sabotage = make(learning_starts=1_000), Sabotage(10)
    model.learn(32, [sabotage, ValidationCallback(Bandit(), eval_freq=10, restore_best=False, verbose=0)])
    assert th.equal(next(model.q_net.parameters()), sabotage.weights[32])


def test_it_stops_offline_training_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([3.0, 1.0, 1.0])
    model = make()
    model.learn(40)
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.evaluate_policy", lambda *_, **__: ([next(scores)] * 2, [10, 10])
    )
    before = model._n_updates
    model.learn_offline(100, ValidationCallback(Bandit(), eval_freq=5, patience=2, verbose=0))
    assert model._n_updates - before == 15


def test_an_environment_by_its_id_and_what_makes_no_sense() -> None:
    callback = ValidationCallback("BanditOfTwo-v0", wrapper="gymnasium.wrappers.NormalizeObservation", verbose=0)
    assert callback.eval_env.env_is_wrapped(gym.wrappers.NormalizeObservation) == [True]
    for options, complaint in (
        (dict(patience=0), "patience=0"),
        (dict(eval_freq=0), "eval_freq=0"),
        (dict(wrapper="gymnasium.wrappers.Nothing"), "is no class"),
    ):
        with pytest.raises(ValueError, match=complaint):
            ValidationCallback("BanditOfTwo-v0", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="wrap the one"):
        ValidationCallback(Bandit(), wrapper=gym.Wrapper)


# One task after another

REPORT = ContinualReport(
    ["a", "b", "c"],
    np.array([[0.0, 0.1, 0.2], [1.0, 0.4, 0.2], [0.5, 0.9, 0.1], [0.7, 0.3, 0.8]]),
)


def test_forgetting_and_forward_transfer_by_hand() -> None:
    np.testing.assert_allclose(REPORT.forgetting(), [1.0 - 0.7, 0.9 - 0.3])
    np.testing.assert_allclose(REPORT.forward_transfer(), [0.4 - 0.1, 0.1 - 0.2])


def test_the_table_and_the_plot(tmp_path: Path) -> None:
    lines = REPORT.table().splitlines()
    assert lines[0] == "| after | a | b | c |" and lines[3] == "| a | 1.00 | 0.40 | 0.20 |"
    assert lines[-2:] == ["| forward transfer | – | +0.30 | -0.10 |", "| forgetting | 0.30 | 0.60 | – |"]
    REPORT.plot(tmp_path / "report.png")
    assert [path.name for path in tmp_path.iterdir()] == ["report.png"]


def stages(steps: int = 60) -> list[Stage]:
    return [Stage(name, Bandit(right), Bandit(right), steps) for name, right in (("zero", 0), ("one", 1), ("two", 0))]


@pytest.mark.parametrize("old_share", [0.5, 0.0, None])
def test_what_becomes_of_the_replay(old_share: float | None) -> None:
    model = make()
    report = learn_in_sequence(model, stages(), old_share, n_eval_episodes=2)
    assert report.scores.shape == (4, 3)
    buffer: Any = model.replay_buffer
    held = [part.tapes.n_transitions() for part in buffer.parts]
    assert held == {0.5: [60, 60, 60], 0.0: [60], None: [180]}[old_share]
    assert isinstance(buffer, MixedSequenceReplayBuffer) == (old_share == 0.5)


def test_tasks_are_learned_and_kept() -> None:
    report = learn_in_sequence(make(exploration_fraction=0.3), stages(300), 0.5, n_eval_episodes=2)
    assert (report.scores[-1] >= 9).all() and (report.scores[0] < 9).any()


def pole() -> gym.Env:
    return gym.make("CartPole-v1")


SHARED = Bandit()
WRONG: list[tuple[str, Any]] = [
    ("at least two", stages()[:1]),
    ("must be a list of Stage", None),
    ("must be a list of Stage", [("zero", Bandit(), Bandit(), 10)] * 2),
    ("name of its own", [stages()[0], stages()[0]]),
    ("name of its own, a string", [stages()[0], stages()[1]._replace(name=3)]),
    ("name of its own, a string", [stages()[0], stages()[1]._replace(name=" ")]),
    ("steps of stage 'zero'=0 must be an integer of at least 1", stages(0)),
    ("steps of stage 'zero'=-5 must be", stages(-5)),
    ("steps of stage 'zero'=nan must be", stages(float("nan"))),  # type: ignore[arg-type]
    ("env of stage 'pole' has actions|env of stage 'pole' has obs", [stages()[0], Stage("pole", pole(), pole(), 10)]),
    ("eval_env of stage 'one' has observations", [stages()[0], stages()[1]._replace(eval_env=pole())]),
    ("env of stage 'one' is 'BanditOfTwo-v0'", [stages()[0], stages()[1]._replace(env="BanditOfTwo-v0")]),
    ("has 2 environments, the model 1", [stages()[0], stages()[1]._replace(env=DummyVecEnv([Bandit] * 2))]),
    ("eval_env of stage 'one' is an environment that is learned in",
     [Stage("zero", SHARED, Bandit(), 10), Stage("one", Bandit(), SHARED, 10)]),
]  # fmt: skip


@pytest.mark.parametrize("complaint, wrong", WRONG, ids=lambda value: str(value)[:40])
def test_sequences_that_do_not_fit_are_told_before_anything_is_learned(complaint: str, wrong: Any) -> None:
    model = make()
    env = model.get_env()
    with pytest.raises(ValueError, match=complaint):
        learn_in_sequence(model, wrong)
    assert model.num_timesteps == 0 and model.get_env() is env


@pytest.mark.parametrize(
    "options, complaint",
    [
        (dict(old_share=1.0), "old_share=1.0 must be a finite number at least 0 and below 1"),
        (dict(old_share=float("nan")), "old_share=nan"),
        (dict(old_share=True), "old_share=True"),
        (dict(n_eval_episodes=0), "n_eval_episodes=0 must be an integer of at least 1"),
        (dict(n_eval_episodes=-1), "n_eval_episodes=-1"),
        (dict(n_eval_episodes=2.5), "n_eval_episodes=2.5"),
        (dict(model=None), "model=None must be a RecurrentDQN"),
    ],
)
def test_numbers_that_make_no_sense_are_told_before_anything_is_learned(options: Any, complaint: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=re.escape(complaint)):
        learn_in_sequence(**{"model": model, "stages": stages(), **options})
    assert model.num_timesteps == 0


def test_names_of_stages_end_neither_the_table_nor_the_plot(tmp_path: Path) -> None:
    report = ContinualReport([r"a|b", "$\\frac{$", "_c\nd"], REPORT.scores)
    lines = report.table().splitlines()
    assert len(lines) == 8 and lines[0] == "| after | a\\|b | $\\frac{$ | _c d |"
    report.plot(tmp_path / "new" / "report.svg")
    assert "_c" in (tmp_path / "new" / "report.svg").read_text() and len(list((tmp_path / "new").iterdir())) == 1


def test_a_plot_that_fails_leaves_the_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "report.xyz").write_text("old")
    with pytest.raises(ValueError, match="xyz"):
        REPORT.plot(tmp_path / "report.xyz")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install .sb3_attnmem\[plots\]"):
        REPORT.plot(tmp_path / "report.png")
