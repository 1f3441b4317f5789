"""A model and its file, side by side in the same environments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch as th
from sb3_contrib import QRDQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import OnnxPolicy

#: of Q-values
TOLERANCE = 1e-4


class Parity(NamedTuple):
    """
    :param q_difference: the largest, of any Q-value
    :param q_spread: standard deviation of the Q-values, over steps and actions
    :param n_choices: greedy actions compared
    :param n_ties: of these, whose two best Q-values are so near (2e-4) that rounding may decide
    :param n_other: of the rest, actions that differ
    :param n_episodes: that ended
    """

    q_difference: float
    q_spread: float
    n_choices: int
    n_ties: int
    n_other: int
    n_episodes: int


@contextmanager
def spied(owner: Any, name: str) -> Iterator[list[np.ndarray]]:
    """
    :param owner: of a method that returns Q-values, alone or before a state
    :param name: of the method
    :return: the Q-values of its calls, as they come
    """
    method, seen = getattr(owner, name), []

    def spy(*args: Any) -> Any:
        returned = method(*args)
        q_values = returned[0] if isinstance(returned, tuple) else returned
        if q_values.ndim == 3:  # quantiles
            q_values = q_values.mean(dim=1)
        seen.append(np.asarray(q_values))
        return returned

    with mock.patch.object(owner, name, spy):
        yield seen


def network_of(model: Any) -> tuple[Any, str]:
    """:return: what computes a model's Q-values, and its method"""
    if isinstance(model, RecurrentDQN):
        return model.q_net, "step"
    return (model.quantile_net, "forward") if isinstance(model, QRDQN) else (model.q_net, "forward")


def play_both(
    model: BaseAlgorithm,
    policy: OnnxPolicy,
    env: VecEnv,
    n_steps: int,
    vec_normalize: VecNormalize | None = None,
    epsilon: float = 0.2,
) -> Parity:
    """
    :param model: acts by ``predict``
    :param policy: its file
    :param env: raw: what the environments give
    :param n_steps: of each environment
    :param vec_normalize: that the model needs
    :param epsilon: probability that an environment gets a random action, so that more of it is seen
    :return: how they compare, each with its own state all the way
    """
    rng = np.random.default_rng(0)
    n = env.num_envs
    obs, starts = env.reset(), np.ones(n, bool)
    state: Any = None
    file_state: Any = None
    ties, others, n_episodes = 0, 0, 0
    with spied(*network_of(model)) as wanted, spied(policy, "q_values") as given:
        for _ in range(n_steps):
            seen = obs if vec_normalize is None else vec_normalize.normalize_obs(obs)
            actions, state = model.predict(seen, state=state, episode_start=starts, deterministic=True)
            file_actions, file_state = policy.predict(obs, state=file_state, episode_start=starts, deterministic=True)
            assert file_actions.shape == actions.shape == (n,)
            ordered = np.sort(wanted[-1], axis=1)
            tied = ordered[:, -1] - ordered[:, -2] < 2 * TOLERANCE
            ties += int(tied.sum())
            others += int((file_actions != actions)[~tied].sum())
            random = rng.integers(wanted[-1].shape[1], size=n)
            obs, _, starts, _ = env.step(np.where(rng.random(n) < epsilon, random, actions))
            n_episodes += int(starts.sum())
    difference = np.abs(np.array(wanted) - np.array(given)).max()  # (steps, B, A)
    return Parity(float(difference), float(np.std(wanted)), n * n_steps, ties, others, n_episodes)


def assert_alike(parity: Parity) -> None:
    assert parity.q_difference < TOLERANCE
    assert parity.n_other == 0
    assert parity.n_ties < 0.05 * parity.n_choices, "or next to nothing was compared"
    assert parity.q_spread > 100 * TOLERANCE, "Q-values that hardly differ prove nothing"
    assert parity.n_episodes > 2


def shake(model: BaseAlgorithm, scale: float = 0.3) -> None:
    """Random weights, biases too, as no initialisation has them, so that every input counts."""
    th.manual_seed(1)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter += scale * parameter.abs().mean().clamp(min=0.1) * th.randn_like(parameter)
