"""Observations and returns of about one size: what the statistics are, where they apply, and what they leave alone."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.nn.utils import parameters_to_vector

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.normalization import CLIP, LARGEST_REWARD, Normalization, RolloutStatistics
from tests.dqn_recurrent.worlds import SMALL, SPACES, make_learner, make_world

ON: dict[str, Any] = dict(normalize_observations=True, normalize_returns=True)


class Scaled(gym.RewardWrapper):
    """Rewards of another size."""

    def __init__(self, env: gym.Env, factor: float) -> None:
        super().__init__(env)
        self.factor = factor

    def reward(self, reward: Any) -> float:
        return float(reward) % 7 * self.factor


def scaled_world(factor: float, n_envs: int = 2) -> DummyVecEnv:
    envs = make_world(n_envs=n_envs).envs  # type: ignore[attr-defined]
    for i, env in enumerate(envs):
        env.reset(seed=i)
    return DummyVecEnv([lambda env=env: Scaled(env, factor) for env in envs])


def test_the_statistics_are_those_of_what_the_agent_acted_on() -> None:
    model = make_learner(**ON)
    model.learn(48)  # six rollouts of 8 transitions
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    taken = np.flatnonzero((tapes.kinds[0] == 1) | (tapes.kinds[0] == 2))
    seen = np.concatenate([tapes.observations[:, taken].reshape(-1, 3)])
    statistics = model.q_net.normalization.observations[0]
    np.testing.assert_allclose(statistics.mean, seen.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(statistics.var, seen.var(axis=0), rtol=1e-4)
    assert statistics.count == len(seen) == 48
    returns = []
    for row in range(2):
        running = 0.0
        for slot in taken:
            running = running * (not tapes.starts[row, slot]) * model.gamma + tapes.rewards[row, slot]
            returns.append(running)
    assert model.q_net.normalization.returns.deviation == pytest.approx(np.std(returns), rel=1e-4)
    assert model.q_net_target.normalization is model.q_net.normalization


def weights_after_learning(factor: float, **kwargs: Any) -> tuple[RecurrentDQN, th.Tensor, th.Tensor]:
    """:return: a model, its weights before and after it learned from rewards of a size; Adam would divide it out"""
    sgd = dict(SMALL, optimizer_class=th.optim.SGD)
    model = make_learner(scaled_world(factor), n_steps=1, learning_rate=0.03, policy_kwargs=sgd, **kwargs)
    before = parameters_to_vector(model.q_net.parameters()).detach().clone()
    model.learn(120)
    return model, before, parameters_to_vector(model.q_net.parameters()).detach()


def test_the_size_of_rewards_does_not_matter() -> None:
    """Rewards a thousand times as large give the same weights, and Q-values a thousand times as large."""
    unclipped = dict(max_grad_norm=float("inf"), **ON)  # gradients of any size would come out alike
    (one, before, after), (other, _, after_other) = (
        weights_after_learning(factor, **unclipped) for factor in (1.0, 1000.0)
    )
    assert th.allclose(after, after_other, atol=1e-4) and (after - before).abs().max() > 0.01
    observations = th.randn(5, 3)
    assert th.allclose(1000 * one.q_net(observations), other.q_net(observations), rtol=1e-2, atol=0.1)


def test_without_it_the_size_of_rewards_matters() -> None:
    off = dict(normalize_observations=False, normalize_returns=False)
    (one, _, after), (_, _, after_other) = (weights_after_learning(factor, **off) for factor in (1.0, 10.0))
    assert not th.allclose(after, after_other, atol=1e-2)
    assert one.q_net.normalization.is_new


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, True), (True, False), (False, True)])
def test_nothing_is_normalised_twice(norm_obs: bool, norm_reward: bool) -> None:
    model = make_learner(VecNormalize(make_world(), norm_obs=norm_obs, norm_reward=norm_reward), **ON)
    model.learn(48)
    normalization = model.q_net.normalization
    assert normalization.observations[0].active is not norm_obs
    assert normalization.returns.active is not norm_reward


def test_value_rescaling_scales_alone() -> None:
    model = make_learner(value_rescaling=True, **ON)
    model.learn(48)
    assert not model.q_net.normalization.returns.active and model.q_net.normalization.observations[0].active


@pytest.mark.parametrize("name", SPACES)
def test_only_vectors_of_floats_are_changed(name: str) -> None:
    normalization = Normalization(SPACES[name])
    expected = {"vector": [None], "doubles": [None], "dict": ["vector"]}.get(name, [])
    assert normalization.keys == expected
    rng = np.random.default_rng(0)
    if name == "dict":
        normalization.see({"vector": rng.normal(5, 2, (100, 3))})
        observations = {key: th.as_tensor(space.sample())[None] for key, space in SPACES[name].spaces.items()}  # type: ignore[attr-defined]
        changed = normalization(observations)
        assert isinstance(changed, dict)
        assert [key for key in changed if changed[key] is not observations[key]] == ["vector"]
    elif expected:
        normalization.see(rng.normal(5, 2, (1000, 3)))
        changed = normalization(th.as_tensor(rng.normal(5, 2, (1000, 3)).astype(SPACES[name].dtype)))
        assert isinstance(changed, th.Tensor) and changed.dtype == th.float32
        assert changed.mean().abs() < 0.1 and (changed.std() - 1).abs() < 0.1
        far = normalization(th.full((1, 3), 1e6))
        assert isinstance(far, th.Tensor) and (far == CLIP).all()
    else:
        observations = th.as_tensor(SPACES[name].sample())[None]
        assert normalization(observations) is observations


def test_doubles_keep_their_precision_next_to_a_mean_far_from_zero() -> None:
    space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    normalization = Normalization(space)
    values = 1e9 + np.array([[-1.0], [0.0], [1.0]])
    normalization.see(values)
    changed = normalization(th.as_tensor(values))
    assert isinstance(changed, th.Tensor)
    np.testing.assert_allclose(changed.flatten(), [-1.224745, 0.0, 1.224745], atol=1e-3)


def test_flags_are_left_as_they_are() -> None:
    normalization = Normalization(spaces.Box(-np.inf, np.inf, (4,), np.float32))
    rng = np.random.default_rng(0)
    seen = np.stack([rng.random(500) < 0.02, rng.integers(-1, 2, 500), rng.normal(5, 2, 500), np.zeros(500)], axis=1)
    normalization.see(seen.astype(np.float32))
    changed = normalization(th.as_tensor(seen, dtype=th.float32))
    assert isinstance(changed, th.Tensor)
    np.testing.assert_array_equal(changed[:, [0, 1, 3]], seen[:, [0, 1, 3]])
    assert abs(changed[:, 2].mean()) < 1e-4
    normalization.see(np.full((1, 4), 0.5, np.float32))  # no flag after all
    changed = normalization(th.as_tensor(seen, dtype=th.float32))
    assert isinstance(changed, th.Tensor) and changed[seen[:, 0] == 1, 0].min() > 3


def test_rare_rewards_do_not_become_huge() -> None:
    statistics, normalization = RolloutStatistics(1, 0.99, False, True), Normalization(SPACES["vector"])
    for t in range(10_000):
        statistics.add(None, np.array([float(t == 9_999)]), np.array([t % 10 == 9]))
    statistics.hand_over(normalization)
    assert normalization.returns.var.sqrt() < 0.02
    assert normalization.returns.deviation == pytest.approx(1 / LARGEST_REWARD)


def test_no_reward_yet_changes_no_scale() -> None:
    statistics, normalization = RolloutStatistics(2, 0.99, False, True), Normalization(SPACES["vector"])
    statistics.add(None, np.zeros(2), np.zeros(2, dtype=bool))
    statistics.hand_over(normalization)
    assert normalization.returns.deviation == 1.0


def test_they_are_saved_with_the_model_and_learn_on(tmp_path: Path) -> None:
    model = make_learner(**ON)
    model.learn(48)
    model.save(tmp_path / "model")
    loaded = RecurrentDQN.load(tmp_path / "model", env=make_world())
    observations = th.randn(4, 3)
    assert th.equal(loaded.q_net(observations), model.q_net(observations))
    assert loaded.q_net_target.normalization is loaded.q_net.normalization
    loaded.learn(16, reset_num_timesteps=False)
    assert loaded.q_net.normalization.returns.count == 64


def test_evaluating_changes_nothing() -> None:
    model = make_learner(**ON)
    model.learn(48)
    before = {name: tensor.clone() for name, tensor in model.q_net.normalization.state_dict().items()}
    model.predict(np.full((3, 3), 100, np.float32), deterministic=False)
    assert all(th.equal(tensor, before[name]) for name, tensor in model.q_net.normalization.state_dict().items())
