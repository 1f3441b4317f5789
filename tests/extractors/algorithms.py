"""Every algorithm of Stable-Baselines3 and sb3-contrib that takes a features extractor, as small as it gets."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.ars.policies import ARSPolicy
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem import RecurrentDQN
from tests.extractors.cases import Case, Noise
from tests.toys import PLAIN

OFF_POLICY = dict(learning_starts=4, batch_size=4, buffer_size=32, train_freq=4)
ON_POLICY = dict(n_steps=8, batch_size=8, n_epochs=1)


@dataclass(frozen=True)
class Setting:
    """
    :param model_class: of the algorithm
    :param options: of the model
    :param separate: policy_kwargs for as many extractors as there can be; None where there is one anyway
    :param continuous: whether it wants a Box of actions
    :param policy: its policy; of ``Mlp...`` and ``MultiInput...`` the common rest
    :param policy_kwargs: of the model
    """

    model_class: type[BaseAlgorithm]
    options: dict[str, Any]
    separate: dict[str, Any] | None = None
    continuous: bool = False
    policy: str | type[BasePolicy] = "Policy"
    policy_kwargs: dict[str, Any] = field(default_factory=dict)


class ARSWithExtractor(ARSPolicy):
    """ARS has no argument for an extractor; a policy that builds its own is what its users write."""

    def __init__(
        self, *args: Any, features_extractor_class: Any, features_extractor_kwargs: Any, **kwargs: Any
    ) -> None:
        self.build = partial(features_extractor_class, **features_extractor_kwargs)
        super().__init__(*args, **kwargs)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        return self.build(self.observation_space)


SEPARATE = dict(share_features_extractor=False)
SHARED = dict(share_features_extractor=True)

ALGORITHMS: dict[str, Setting] = {
    "DQN": Setting(DQN, OFF_POLICY),
    "QRDQN": Setting(QRDQN, OFF_POLICY),
    "RecurrentDQN": Setting(
        RecurrentDQN, dict(PLAIN, learning_starts=4, batch_size=2, buffer_size=128, train_freq=4, action_masks="none")
    ),
    "A2C": Setting(A2C, dict(n_steps=8), SEPARATE),
    "PPO": Setting(PPO, ON_POLICY, SEPARATE),
    "MaskablePPO": Setting(MaskablePPO, ON_POLICY, SEPARATE),
    "RecurrentPPO": Setting(
        RecurrentPPO, ON_POLICY, SEPARATE, policy="LstmPolicy", policy_kwargs=dict(lstm_hidden_size=8)
    ),
    "TRPO": Setting(TRPO, dict(n_steps=8, batch_size=8, cg_max_steps=2, n_critic_updates=1), SEPARATE),
    "ARS": Setting(ARS, dict(n_delta=1), policy=ARSWithExtractor),
    "SAC": Setting(SAC, OFF_POLICY, SEPARATE, continuous=True, policy_kwargs=SHARED),
    "TD3": Setting(TD3, dict(OFF_POLICY, policy_delay=1), SEPARATE, continuous=True, policy_kwargs=SHARED),
    "DDPG": Setting(DDPG, OFF_POLICY, SEPARATE, continuous=True, policy_kwargs=SHARED),
    "TQC": Setting(TQC, OFF_POLICY, SEPARATE, continuous=True, policy_kwargs=SHARED),
    "CrossQ": Setting(CrossQ, dict(OFF_POLICY, policy_delay=1), SEPARATE, continuous=True, policy_kwargs=SHARED),
}


class DiscreteNoise(Noise):
    """The same, every action allowed."""

    def action_masks(self) -> list[bool]:
        return [True] * 3


class ContinuousNoise(Noise):
    """The same with a Box of actions."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__(space)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)


def make(algorithm: str, case: Case, separate: bool = False, **options: Any) -> Any:
    """:return: a fresh model"""
    setting = ALGORITHMS[algorithm]
    policy = setting.policy
    if isinstance(policy, str):
        policy = ("MultiInput" if isinstance(case.space, spaces.Dict) else "Mlp") + policy
    policy_kwargs = {**setting.policy_kwargs, **((setting.separate or {}) if separate else {})}
    return setting.model_class(
        policy,
        (ContinuousNoise if setting.continuous else DiscreteNoise)(case.space),
        policy_kwargs=dict(
            features_extractor_class=case.extractor_class,
            features_extractor_kwargs=case.kwargs,
            net_arch=[8],
            **policy_kwargs,
        ),
        seed=0,
        device="cpu",
        **{**setting.options, **options},
    )


def extractors_of(model: Any) -> dict[str, BaseFeaturesExtractor]:
    """:return: by name those that learn; the same one has one name, a target network's none"""
    modules = model.policy.named_modules()
    return {n: m for n, m in modules if isinstance(m, BaseFeaturesExtractor) and "target" not in n and "." in f".{n}"}
