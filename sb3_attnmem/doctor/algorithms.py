"""The algorithms whose runs are looked into, and what tells them apart."""

import inspect
from collections.abc import Mapping
from typing import Any

from sb3_contrib import QRDQN, TRPO, RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_attnmem.dqn_recurrent import RecurrentDQN, RecurrentDQNPolicy, RecurrentQRDQN, RecurrentQRDQNPolicy

#: by the RL Zoo's names
FAMILIES: dict[str, type] = {
    "rdqn": RecurrentDQN, "rqrdqn": RecurrentQRDQN, "dqn": DQN, "qrdqn": QRDQN, "ppo": PPO, "ppo_lstm": RecurrentPPO,
    "a2c": A2C, "trpo": TRPO,
}  # fmt: skip
#: of these: RecurrentDQN and its kin; those with a policy and a critic
RECURRENT = ("rdqn", "rqrdqn")
ACTOR_CRITICS = ("ppo", "ppo_lstm", "a2c", "trpo")
#: what tells an algorithm: its policy, the first that fits, or else an argument, the first that was given
POLICIES: dict[type, str] = {
    RecurrentQRDQNPolicy: "rqrdqn", RecurrentDQNPolicy: "rdqn", QRDQNPolicy: "qrdqn", DQNPolicy: "dqn",
    RecurrentActorCriticPolicy: "ppo_lstm",
}  # fmt: skip
ARGUMENTS = {"sequence_length": "rdqn", "n_epochs": "ppo", "cg_max_steps": "trpo", "normalize_advantage": "a2c"}


def algorithm_of(policy: Any, given: Mapping[str, Any]) -> str:
    """
    :param policy: class of a saved model's policy; None: not known
    :param given: its arguments and attributes
    :return: name of the algorithm; empty where it is none of :data:`FAMILIES`
    """
    if isinstance(policy, type):
        for kind, name in POLICIES.items():
            if issubclass(policy, kind):
                return name
    return next((algo for name, algo in ARGUMENTS.items() if name in given), "")


def default_arguments(algo: str) -> dict[str, Any]:
    """:return: the defaults of an algorithm; none where it is not known"""
    parameters = inspect.signature(FAMILIES[algo]).parameters if algo in FAMILIES else {}
    return {name: one.default for name, one in parameters.items() if one.default is not inspect.Parameter.empty}
