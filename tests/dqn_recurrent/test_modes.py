"""
Dropout drops and batch norm counts while the network learns, and only then. (In the manner of sb3-contrib's own test
of training and evaluation mode.)
"""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_attnmem import RecurrentDQN
from tests.dqn_recurrent.worlds import SMALL, make_learner


class Noisy(BaseFeaturesExtractor):
    """Dropout and batch norm."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, features_dim=16)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.Dropout(0.5))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(observations)


def noisy_learner(**kwargs: Any) -> RecurrentDQN:
    options = dict(policy_kwargs={**SMALL, "features_extractor_class": Noisy}, learning_starts=0)
    return make_learner(**{**options, **kwargs})


def counted(model: RecurrentDQN) -> list[float]:
    """:return: what the batch norms of both networks have counted"""
    return [float(value.double().sum()) for name, value in model.policy.state_dict().items() if "running" in name]


@pytest.mark.parametrize("who", ["model", "policy", "q_net"])
def test_predicting(who: str) -> None:
    """Also right after an update, which leaves the network in training mode."""
    model = noisy_learner()
    model.learn(16)
    model.policy.set_training_mode(True)
    before = counted(model)
    predictor = {"model": model, "policy": model.policy, "q_net": model.q_net}[who]
    observation, starts = np.random.default_rng(0).uniform(-1, 1, (2, 3)).astype(np.float32), np.ones(2, bool)
    states = [predictor.predict(observation, None, starts, deterministic=True)[1] for _ in range(3)]  # type: ignore[attr-defined]
    for state in states[1:]:
        for one, other in zip(state, states[0], strict=True):
            np.testing.assert_array_equal(one, other)
    assert counted(model) == before


def test_the_layers_would_show_it() -> None:
    model = noisy_learner()
    observation = th.rand(4, 3)
    model.policy.set_training_mode(True)
    before = counted(model)
    assert not th.equal(model.q_net.encode(observation), model.q_net.encode(observation))
    assert counted(model) != before


def test_acting_and_learning() -> None:
    model = noisy_learner(train_freq=2)
    modes: dict[str, set[tuple[bool, bool]]] = {"acting": set(), "learning": set()}
    step, unroll = model.q_net.step, model.q_net.unroll

    def watched_step(*args: Any) -> Any:
        modes["acting"].add((model.q_net.training, model.q_net_target.training))
        return step(*args)

    def watched_unroll(*args: Any) -> Any:
        modes["learning"].add((model.q_net.training, model.q_net_target.training))
        return unroll(*args)

    model.q_net.step, model.q_net.unroll = watched_step, watched_unroll  # type: ignore[method-assign]
    model.learn(40)
    assert modes == {"acting": {(False, False)}, "learning": {(True, False)}}


def test_batch_norm_counts_while_learning_and_reaches_the_target_network() -> None:
    model = noisy_learner(train_freq=2, target_update_interval=1, target_update_unit="updates")
    start = counted(model)
    model.learn(40)
    assert counted(model) != start
    for one, other in zip(model.batch_norm_stats, model.batch_norm_stats_target, strict=True):
        assert th.equal(one, other)
