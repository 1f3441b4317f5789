"""What an agent expects of a step, whatever algorithm trained it."""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_attnmem.dqn_recurrent import RecurrentDQNPolicy, RecurrentQRDQNPolicy
from sb3_attnmem.replay import join_actions


class Estimate(NamedTuple):
    """
    What an agent expects.

    :param unit: of the bars: "Q-value", "probability" or "action"
    :param bars: (A,), one an action, or one a choice of each dimension of it where the agent's head has branches; one a
        component of it where actions are continuous; empty where the agent has no such numbers
    :param value: expected return of the step: that of the best action, or the critic's; None where there is none
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
                estimate = _of_quantiles(policy.q_net.step_quantiles(tensors, before, first)[0], allowed)
            else:
                estimate = _of_q_values(policy.q_net.step(tensors, before, first)[0], allowed)
            branches = policy.q_net.branches
            if branches is None:
                return estimate
            choices = th.as_tensor(estimate.bars)
            return estimate._replace(value=float(branches.values_of(choices, branches.best(choices))))
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


def bars_of(model: BaseAlgorithm, action: np.ndarray) -> tuple[int, ...]:
    """
    :param model: the agent
    :param action: of one environment, as that takes it
    :return: the bars of an estimate that belong to the action: one, or one a dimension where the head has branches;
        none where bars are components of an action
    """
    policy, space = model.policy, model.action_space
    if isinstance(policy, RecurrentDQNPolicy):
        branches = policy.q_net.branches
        if branches is not None:
            return tuple((np.cumsum([0, *branches.nvec[:-1]]) + action).tolist())
        return (int(join_actions(space, action[None])[0]),)
    return (int(action),) if isinstance(space, spaces.Discrete) else ()


def n_bars(model: BaseAlgorithm) -> int:
    """
    :param model: the agent
    :return: bars of an estimate, each an action or a choice of one; 0 where they are components of an action
    """
    if isinstance(model.policy, RecurrentDQNPolicy):
        return model.policy.architecture.n_values(model.action_space)
    return int(model.action_space.n) if isinstance(model.action_space, spaces.Discrete) else 0


def bar_names(model: BaseAlgorithm) -> tuple[str, ...] | None:
    """
    :param model: the agent
    :return: of the bars: of choices "dimension: choice", of combinations "choice choice …"; None where the environment
        may know names
    """
    space = model.action_space
    if not (isinstance(model.policy, RecurrentDQNPolicy) and isinstance(space, spaces.MultiDiscrete)):
        return None
    nvec = space.nvec.tolist()
    if model.policy.architecture.branching:
        return tuple(f"{dimension}: {choice}" for dimension, n in enumerate(nvec) for choice in range(n))
    return tuple(" ".join(map(str, parts)) for parts in np.ndindex(*nvec))


def _of_q_values(q_values: th.Tensor, valid: np.ndarray | None = None) -> Estimate:
    first = q_values[0].cpu().numpy()
    return Estimate("Q-value", first, float((first if valid is None else first[valid]).max()))


def _of_quantiles(quantiles: th.Tensor, valid: np.ndarray | None = None) -> Estimate:
    """:param quantiles: (B, N, A)"""
    return _of_q_values(quantiles.mean(dim=1), valid)._replace(quantiles=quantiles[0].cpu().numpy())
