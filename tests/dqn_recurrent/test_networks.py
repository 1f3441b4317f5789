"""The Q-network: head, defaults, threads."""

import warnings

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.q_network import DuelingHead
from tests.dqn_recurrent.worlds import SMALL, make_learner, make_world


@pytest.mark.parametrize("dueling", [True, False])
def test_dueling(dueling: bool) -> None:
    model = make_learner(policy_kwargs=dict(SMALL, dueling=dueling)).learn(30)
    head = model.q_net.q_net
    assert isinstance(head, DuelingHead) == dueling
    if dueling:
        latents = th.randn(5, model.q_net.fusion.output_dim)
        q_values = head(latents)
        value, advantage = head.streams(latents)
        np.testing.assert_allclose(q_values.mean(dim=1).detach(), value.squeeze(1).detach(), rtol=1e-4)
        expected = (advantage - advantage.mean(dim=1, keepdim=True)).detach()
        np.testing.assert_allclose((q_values - value).detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("net_arch", [[], [6], [6, 4]])
def test_the_two_streams_share_nothing(net_arch: list[int]) -> None:
    head = DuelingHead(8, 3, net_arch, th.nn.ReLU)
    weights = list(head.parameters())
    value, advantage = head.streams(th.randn(50, 8))
    of_value, of_advantage = (
        [
            g != 0 if g is not None else th.tensor([False])
            for g in th.autograd.grad(x.sum(), weights, allow_unused=True, retain_graph=True)
        ]
        for x in (value, advantage)
    )
    assert any(bool(used.any()) for used in of_value) and any(bool(used.any()) for used in of_advantage)
    for ours, theirs in zip(of_value, of_advantage, strict=True):
        assert not (ours & theirs).any()


def test_default_memory_and_layers() -> None:
    model = RecurrentDQN("MlpPolicy", make_world())
    assert model.policy.architecture.memory_class.__name__ == "LSTMMemory" and model.policy.architecture.dueling
    alike = make_learner(policy_kwargs=dict(memory_class="gru", memory_kwargs=dict(hidden_size=8), net_arch=[5, 6]))
    head = alike.q_net.q_net
    assert isinstance(head, DuelingHead)
    shapes = [tuple(m.weight.shape) for m in [*head.first, *head.value] if isinstance(m, th.nn.Linear)]
    assert shapes == [(2 * 5, 64 + 8), (6, 5), (1, 6)]  # what the encoder and what the memory gave, side by side


@pytest.mark.parametrize("given", [{}, dict(foreach=True), dict(fused=False), dict(differentiable=True)])
def test_adam_is_fused_unless_told_otherwise(given: dict[str, bool]) -> None:
    model = make_learner(policy_kwargs=dict(**SMALL, optimizer_kwargs=dict(given)))
    group = model.policy.optimizer.param_groups[0]
    assert bool(group["fused"]) == (not given)
    assert {name: group[name] for name in given} == given


def test_many_threads_for_a_small_network_are_warned_of() -> None:
    env = make_vec_env("CartPole-v1")
    small, large = (
        RecurrentDQN("MlpPolicy", env, policy_kwargs=dict(memory_kwargs=dict(hidden_size=size))) for size in (32, 512)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small.learn(8)  # one thread, as the tests have
        th.set_num_threads(2)
        try:
            large.learn(8)
            with pytest.warns(UserWarning, match=r"on 2 torch threads .* torch.set_num_threads\(1\)"):
                small.learn(8)
        finally:
            th.set_num_threads(1)
