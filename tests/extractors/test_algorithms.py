"""In the algorithms themselves: learn, save, load, and the same values come out; what they looked at goes by names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN

from sb3_attnmem.attention import record_attention
from sb3_attnmem.common.observations import map_observation, n_rows
from sb3_attnmem.extractors import EntityAttention, SpatialAttentionCNN
from tests.extractors.algorithms import make
from tests.extractors.cases import CASES, ENTITIES, MINIGRID, Case, Noise, preprocess, sample


def dqn_values(model: Any, observations: Any) -> th.Tensor:
    """:return: Q-values (B, A)"""
    return model.q_net(observations)


def qrdqn_values(model: Any, observations: Any) -> th.Tensor:
    """:return: quantiles (B, N, A)"""
    return model.quantile_net(observations)


def ppo_values(model: Any, observations: Any) -> th.Tensor:
    """:return: logits and values (B, A + 1)"""
    policy = model.policy
    return th.cat(
        [policy.get_distribution(observations).distribution.logits, policy.predict_values(observations)], dim=1
    )


def rdqn_values(model: Any, observations: Any) -> th.Tensor:
    """:return: Q-values of the first step of an episode (B, A)"""
    n = n_rows(observations)
    return model.q_net.step(observations, model.q_net.memory.initial_state(n), th.ones(n, dtype=th.bool))[0]


#: algorithm -> what it values observations at
VALUES: dict[str, Callable[[Any, Any], th.Tensor]] = {
    "DQN": dqn_values,
    "QRDQN": qrdqn_values,
    "PPO": ppo_values,
    "RecurrentDQN": rdqn_values,
}


@pytest.mark.parametrize("algorithm", VALUES)
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kwargs.get("output") != "map"])
def test_save_and_load_keep_the_values(algorithm: str, name: str, tmp_path: Path) -> None:
    case = CASES[name]
    values = VALUES[algorithm]
    model = make(algorithm, case)
    raw = sample(case.space, 3)
    observations = map_observation(th.as_tensor, raw)
    fresh = values(model, observations)
    model.learn(16)
    model.policy.set_training_mode(False)
    learned = values(model, observations)
    model.save(tmp_path / "model")
    loaded = values(type(model).load(tmp_path / "model", device="cpu"), observations)
    assert not th.equal(fresh, learned)
    assert th.equal(learned, loaded)
    actions = model.predict(raw, deterministic=True)[0]
    assert np.array_equal(actions, type(model).load(tmp_path / "model").predict(raw, deterministic=True)[0])


@pytest.mark.parametrize("algorithm", ["DQN", "QRDQN", "PPO"])
def test_a_map_in_place_of_a_vector_fails_at_once(algorithm: str) -> None:
    model = make(algorithm, CASES["relational-map"])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model.predict(sample(MINIGRID, 2), deterministic=True)


def test_online_and_target_network_are_told_apart() -> None:
    model = make("DQN", Case(SpatialAttentionCNN, MINIGRID))
    raw = sample(MINIGRID, 2)
    with record_attention(model) as record:
        model.predict(raw, deterministic=True)
    assert set(record) == {"q_net.features_extractor.attention"}
    with record_attention(model, keep=None) as record:
        model.q_net_target(th.as_tensor(raw))
        model.learn(16)
    assert set(record) == {"q_net.features_extractor.attention", "q_net_target.features_extractor.attention"}
    n_updates = model._n_updates
    assert n_updates > 0
    assert len(record.calls("q_net_target.features_extractor.attention")) == n_updates + 1


def test_recorded_from_images_with_channels_last() -> None:
    """As a user has them: the environment's own observation, one, channels last."""
    env = Noise(spaces.Box(0, 255, (7, 7, 3), np.uint8))
    model = DQN("CnnPolicy", env, buffer_size=8, policy_kwargs=dict(features_extractor_class=SpatialAttentionCNN))
    observation, _ = env.reset()
    with record_attention(model) as record:
        model.predict(observation, deterministic=True)
    model.q_net.set_training_mode(False)
    image = preprocess(np.moveaxis(observation, -1, 0)[None], model.observation_space)
    with record_attention(model.q_net.features_extractor) as alone:
        model.q_net.features_extractor(image)
    th.testing.assert_close(record["q_net.features_extractor.attention"], alone["attention"])


def test_ppo_keeps_the_learned_queries() -> None:
    """PPO initialises every Linear and Conv2d anew; what must start otherwise is a plain parameter."""
    queries = make("PPO", Case(SpatialAttentionCNN, MINIGRID)).policy.features_extractor.attention.queries
    assert 2.0 < float(queries.detach().std()) < 4.0
    query = make("PPO", Case(EntityAttention, ENTITIES)).policy.features_extractor.pool.query
    assert 4.0 < float(query.detach().std()) < 8.0
