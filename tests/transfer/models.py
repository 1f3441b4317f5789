"""Small models of every algorithm, on an environment without meaning."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.transfer.parts import networks_of
from tests.toys import PLAIN


class Drift(gym.Env):
    """Three numbers that wander; the reward is the first of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.n_steps, self.place = 0, np.zeros(3, np.float32)
        return self.place.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.n_steps += 1
        self.place += self.np_random.normal(size=3).astype(np.float32) * (0.5 + action)
        return self.place.copy(), float(self.place[0]), False, self.n_steps == 20, {}


class Body(BaseFeaturesExtractor):
    """Three layers, one with statistics, and dropout."""

    def __init__(self, observation_space: spaces.Box, width: int = 8) -> None:
        super().__init__(observation_space, width)
        self.norm = nn.BatchNorm1d(3)
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(0.1), nn.Linear(width, width), nn.Tanh())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.layers(self.norm(observations))


OFF_POLICY: dict[str, Any] = dict(learning_starts=16, buffer_size=200, batch_size=4, train_freq=4, tau=0.5,
                                  target_update_interval=4)  # fmt: skip
ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], dict[str, Any], dict[str, Any]]] = {
    "RecurrentDQN": (
        RecurrentDQN,
        dict(PLAIN, **OFF_POLICY, sequence_length=8, burn_in=2, n_steps=3),
        dict(
            net_arch=[8],
            encoder_arch=[8],
            memory_class="min_gru",
            memory_kwargs=dict(hidden_size=8),
            memory_fusion="none",
        ),
    ),
    "DQN": (DQN, OFF_POLICY, dict(net_arch=[8])),
    "QRDQN": (QRDQN, OFF_POLICY, dict(net_arch=[8], n_quantiles=5)),
    "PPO": (PPO, dict(n_steps=32, batch_size=16, n_epochs=2), dict(net_arch=[8])),
    "A2C": (A2C, dict(n_steps=16), dict(net_arch=[8])),
}


def make(algorithm: str, seed: int = 0, policy_kwargs: dict[str, Any] | None = None, **options: Any) -> Any:
    """:return: a fresh model"""
    model_class, settings, kwargs = ALGORITHMS[algorithm]
    kwargs = {**kwargs, "features_extractor_class": Body, **(policy_kwargs or {})}
    return model_class("MlpPolicy", Drift(), policy_kwargs=kwargs, seed=seed, **{**settings, **options})  # type: ignore[call-arg]


def online_of(model: Any) -> nn.Module:
    return networks_of(model.policy).online


def copy_of(module: nn.Module) -> dict[str, th.Tensor]:
    """:return: its parameters and buffers as they are now"""
    return {name: tensor.clone() for name, tensor in _tensors(module).items()}


def _tensors(module: nn.Module) -> dict[str, th.Tensor]:
    """:return: what there is, statistics of observations and returns excluded: they are off here"""
    return {name: tensor for name, tensor in module.state_dict().items() if "normalization." not in name}


def moved(before: dict[str, th.Tensor], module: nn.Module) -> set[str]:
    """:return: names of the tensors that are not bit for bit what they were"""
    now = _tensors(module)
    assert now.keys() == before.keys()
    return {name for name, tensor in before.items() if not th.equal(tensor, now[name])}


def in_optimizer(model: Any) -> set[nn.Parameter]:
    return {weight for group in model.policy.optimizer.param_groups for weight in group["params"]}


def values(model: Any) -> th.Tensor:
    """:return: what the model makes of the same observations, in eval mode"""
    model.policy.set_training_mode(False)
    observations = th.linspace(-1, 1, 12).view(4, 3)
    with th.no_grad():
        if isinstance(model, (A2C, PPO)):
            logits = model.policy.get_distribution(observations).distribution.logits
            return th.cat([logits, model.policy.predict_values(observations)], dim=1)
        return online_of(model)(observations)
