"""What an agent expects of a step, whatever algorithm trained it."""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_attnmem.dqn_recurrent import RecurrentDQNPolicy, RecurrentQRDQNPolicy


class Estimate(NamedTuple):
    """
    What an agent expects.

    :param unit: of the bars: "Q-value", "probability" or "action"
    :param bars: (A,), one an action; one a component of it where actions are continuous; empty where the agent has no
        such numbers
    :param value: expected return of the step: the largest Q-value, or the critic's; None where there is none
    :param quantiles: (N, A), of each action's return, whose means are the bars; None where the agent has none
    """

    unit: str
    bars: np.ndarray
    value: float | None
    quantiles: np.ndarray | None = None


def estimate_of(
    model: BaseAlgorithm,
    observation: Any,
    state: Any,
    starts: np.ndarray,
    actions: np.ndarray,
    valid: np.ndarray | None = None,
) -> Estimate:
    """
    Ask an agent what it expects of a step.

    :param model: DQN, QRDQN, RecurrentDQN, RecurrentQRDQN, PPO or another actor with a critic; others show their
        action only
    :param observation: of B environments; the first one's is judged
    :param state: of the memory before this step, as ``predict`` takes it
    :param starts: (B,) bool, the first steps of episodes
    :param actions: (B, ...), what ``predict`` chose
    :param valid: (B, A) bool, the actions that are valid now, of which the best one's value counts; None: all are
    :return: of the first environment
    """
    policy: Any = model.policy
    with th.no_grad():
        tensors, _ = policy.obs_to_tensor(observation)
        if isinstance(policy, RecurrentDQNPolicy):
            before = policy.q_net.state_to_tensors(state, starts)
            first, allowed = th.as_tensor(starts, device=model.device), None if valid is None else valid[0]
            if isinstance(policy, RecurrentQRDQNPolicy):
                return _of_quantiles(policy.q_net.step_quantiles(tensors, before, first)[0], allowed)
            return _of_q_values(policy.q_net.step(tensors, before, first)[0], allowed)
        if hasattr(policy, "quantile_net"):
            return _of_quantiles(policy.quantile_net(tensors))
        if hasattr(policy, "q_net"):
            return _of_q_values(policy.q_net(tensors))
        value = None
        if hasattr(policy, "predict_values") and not isinstance(policy, RecurrentActorCriticPolicy):
            value = float(policy.predict_values(tensors)[0])
            if isinstance(model.action_space, spaces.Discrete):
                probabilities = policy.get_distribution(tensors).distribution.probs
                return Estimate("probability", probabilities[0].cpu().numpy(), value)
    if isinstance(model.action_space, spaces.Discrete):
        return Estimate("probability", np.zeros(0), value)
    return Estimate("action", np.asarray(actions[0], float).reshape(-1), value)


def _of_q_values(q_values: th.Tensor, valid: np.ndarray | None = None) -> Estimate:
    first = q_values[0].cpu().numpy()
    return Estimate("Q-value", first, float((first if valid is None else first[valid]).max()))


def _of_quantiles(quantiles: th.Tensor, valid: np.ndarray | None = None) -> Estimate:
    """:param quantiles: (B, N, A)"""
    return _of_q_values(quantiles.mean(dim=1), valid)._replace(quantiles=quantiles[0].cpu().numpy())
