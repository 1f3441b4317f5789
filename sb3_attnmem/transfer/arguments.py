"""Checks of the models that a user passes, before anything of them is changed."""

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import SequenceReplayBuffer
from sb3_attnmem.transfer.parts import networks_of

#: what a model may be where its policy is all that matters
ALGORITHMS = "RecurrentDQN, DQN, QRDQN, PPO or A2C"


def policy_of(model: Any) -> BasePolicy:
    """
    Check a model, and take its policy.

    :param model: that a user passed
    :return: its policy, one whose networks are known
    :raises ValueError: when it is no model of the algorithms whose networks are known
    """
    if not isinstance(model, BaseAlgorithm):
        raise ValueError(f"model={_what(model)} must be a model of {ALGORITHMS}.")
    policy = getattr(model, "policy", None)
    if not isinstance(policy, BasePolicy):
        raise ValueError(f"The {type(model).__name__} has no policy yet: build it without _init_setup_model=False.")
    networks_of(policy)
    return policy


def buffer_of(model: Any) -> SequenceReplayBuffer:
    """
    Check a RecurrentDQN, and take its replay buffer.

    :param model: that a user passed
    :return: its replay buffer
    :raises ValueError: when it is no RecurrentDQN, or has no replay buffer
    """
    if not isinstance(model, RecurrentDQN):
        raise ValueError(f"model={_what(model)} must be a RecurrentDQN: its replay buffer holds sequences.")
    buffer = model.replay_buffer
    if not isinstance(buffer, SequenceReplayBuffer):
        raise ValueError(
            "The model has no replay buffer: build it without _init_setup_model=False, and load one with "
            "load_replay_buffer if it was taken away."
        )
    return buffer


def _what(model: Any) -> str:
    """:return: what came, in a few words"""
    return f"a {type(model).__name__}" if isinstance(model, BaseAlgorithm) else repr(model)
