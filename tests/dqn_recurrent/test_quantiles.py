"""Quantiles: the loss against numbers worked out by hand and sb3-contrib's, the heads, the gradient step."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib.common.utils import quantile_huber_loss as of_contrib

from sb3_attnmem import (
    PrioritizedSequenceReplayBuffer,
    RecurrentDQN,
    RecurrentDQNPolicy,
    RecurrentQRDQN,
    RecurrentQRDQNPolicy,
)
from sb3_attnmem.dqn_recurrent import quantile_loss
from sb3_attnmem.dqn_recurrent.heads import DuelingQuantileHead, QuantileHead
from sb3_attnmem.dqn_recurrent.quantile_loss import quantile_huber_loss
from sb3_attnmem.dqn_recurrent.targets import NStepReturns, bootstrap_values, td_targets, values_of_actions
from sb3_attnmem.dqn_recurrent.update import GradientStep, QuantileGradientStep
from tests.dqn_recurrent.conformance.reference import disturb, every_window
from tests.ledger import LSTM, make_env, make_model

# Quantiles 0 and 1 belong to 1/4 and 3/4. Errors: 1/2 and 3 of the first, -1/2 and 2 of the second
QUANTILES, SAMPLES = [[0.0, 1.0]], [[0.5, 3.0]]


@pytest.mark.parametrize(
    ("kappa", "loss", "gradient"),
    [
        # (1/4 · 1/8 + 1/4 · 5/2) / 2 + (1/4 · 1/8 + 3/4 · 3/2) / 2; -(1/4 · 1/2 + 1/4) / 2, -(-1/4 · 1/2 + 3/4) / 2
        (1.0, 0.90625, [-0.1875, -0.3125]),
        # Half of: (1/4 · 1/8 + 1/4 · 4) / 2 + (1/4 · 1/8 + 3/4 · 2) / 2, and of -(1/8 + 2/4) / 2, -(-1/8 + 3/4 · 2) / 2
        (2.0, 0.640625, [-0.15625, -0.34375]),
        # (1/4 · 1/8 + 1/4 · 9/2) / 2 + (1/4 · 1/8 + 3/4 · 2) / 2; -(1/8 + 3/4) / 2, -(-1/8 + 3/2) / 2
        (math.inf, 1.34375, [-0.4375, -0.6875]),
    ],
)
def test_loss_by_hand(kappa: float, loss: float, gradient: list[float]) -> None:
    quantiles = th.tensor(QUANTILES, requires_grad=True)
    found = quantile_huber_loss(quantiles, th.tensor(SAMPLES), kappa)
    assert found.tolist() == pytest.approx([loss])
    found.sum().backward()
    assert quantiles.grad is not None and quantiles.grad[0].tolist() == pytest.approx(gradient)


@pytest.mark.parametrize("at_once", [1, 40])
def test_loss_is_that_of_contrib(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number of pairs is worked on at once; more samples than quantiles, rows of other weights."""
    monkeypatch.setattr(quantile_loss, "PAIRS_AT_ONCE", at_once)
    generator = th.Generator().manual_seed(0)
    quantiles = th.randn(7, 5, generator=generator, requires_grad=True)
    samples, weights = 2 * th.randn(7, 3, generator=generator), th.rand(7, generator=generator)
    ours = quantile_huber_loss(quantiles, samples)
    theirs = th.stack([of_contrib(quantiles[i : i + 1], samples[i : i + 1]) for i in range(7)])
    th.testing.assert_close(ours, theirs)
    gradients = [th.autograd.grad((loss * weights).sum(), quantiles)[0] for loss in (ours, theirs)]
    th.testing.assert_close(*gradients)


def test_wrong_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"quantiles must be \(K, N\) and samples \(K, M\); got \(2, 3\) and \(3, 3\)"):
        quantile_huber_loss(th.zeros(2, 3), th.zeros(3, 3))


def test_targets_of_quantiles() -> None:
    """Means pick: 2 against 1 online, 4 against 3 in the target network; each sample gives a target."""
    q_online = th.tensor([[[1.0, 2.0]] * 2])  # (B, T, A)
    q_target = th.tensor([[[[8.0, 1.0], [0.0, 5.0]]] * 2])  # (B, T, N, A): action 0 has 8 and 0, action 1 has 1 and 5
    values = bootstrap_values(q_online, q_target, double_q=True)
    assert values.tolist() == [[[1.0, 5.0]] * 2]
    assert bootstrap_values(q_online, q_target, double_q=False).tolist() == [[[8.0, 0.0]] * 2]
    assert values_of_actions(q_target, th.tensor([[0, 1]])).tolist() == [[[8.0, 0.0], [1.0, 5.0]]]
    n_step = NStepReturns(th.tensor([[10.0, 20.0]]), th.tensor([[0.5, 0.0]]), th.tensor([[1, 1]]))
    assert td_targets(n_step, values).tolist() == [[[10.5, 12.5], [20.0, 20.0]]]


def test_rescaled_targets_of_quantiles_are_those_one_by_one() -> None:
    values = th.linspace(-3, 9, 12).view(1, 3, 4)
    n_step = NStepReturns(th.tensor([[1.0, 2.0, -5.0]]), th.tensor([[0.9, 0.0, 0.81]]), th.tensor([[1, 2, 2]]))
    together = td_targets(n_step, values, value_rescaling=True)
    for i in range(4):
        th.testing.assert_close(together[..., i], td_targets(n_step, values[..., i], value_rescaling=True))


@pytest.mark.parametrize("net_arch", [[], [6]])
def test_heads(net_arch: list[int]) -> None:
    latents = th.randn(2, 4, 8)
    plain = QuantileHead(8, 3, 5, net_arch, th.nn.ReLU)
    dueling = DuelingQuantileHead(8, 3, 5, net_arch, th.nn.ReLU)
    for head in (plain, dueling):
        quantiles = head.quantiles(latents)
        assert quantiles.shape == (2, 4, 5, 3)
        th.testing.assert_close(head(latents), quantiles.mean(dim=2))
    value, advantage = dueling.streams(latents)
    quantiles = dueling.quantiles(latents)
    th.testing.assert_close(quantiles.mean(dim=-1), value)  # the mean over the actions is V, of each quantile
    advantage = advantage.view(2, 4, 5, 3)
    th.testing.assert_close(quantiles - value.unsqueeze(-1), advantage - advantage.mean(dim=-1, keepdim=True))


def make(model_class: type[RecurrentDQN] = RecurrentQRDQN, **kwargs: Any) -> RecurrentDQN:
    options: dict[str, Any] = dict(policy_kwargs=LSTM, burn_in=4, n_steps=3)
    model = make_model(make_env(((5, 3), (17,))), model_class, **{**options, **kwargs})
    model.learn(80)
    disturb(model)
    return model


def test_one_quantile_and_a_squared_loss_are_recurrent_dqn() -> None:
    """The loss of one quantile is half the loss of the mean: |τ - 1| = |τ| = ½."""
    model = make(policy_kwargs=dict(LSTM, n_quantiles=1, dueling=False))
    batch = every_window(model)
    options = {name: getattr(model._gradient_step(), name) for name in GradientStep.__dataclass_fields__}
    options.update(max_grad_norm=math.inf, optimizer=th.optim.SGD(model.q_net.parameters(), lr=0.0))
    losses, gradients = [], []
    for step in (GradientStep(**options), QuantileGradientStep(**options, kappa=math.inf)):
        losses.append(step(batch).metrics["loss"])
        gradients.append([weight.grad.clone() for weight in model.q_net.parameters() if weight.grad is not None])
    assert losses[0] == pytest.approx(2 * losses[1], rel=1e-5)
    assert len(gradients[0]) == len(gradients[1]) == len(list(model.q_net.parameters()))
    for of_mean, of_quantile in zip(*gradients, strict=True):
        assert of_mean.abs().sum() > 0
        th.testing.assert_close(of_mean, 2 * of_quantile, rtol=1e-4, atol=1e-6)


def test_steps_that_do_not_learn_never_reach_the_loss() -> None:
    model = make()
    batch = every_window(model)
    step = model._gradient_step()
    q_taken, targets, _ = step.q_and_targets(batch)
    elsewhere = ~batch.learning.unsqueeze(-1)
    assert elsewhere.any()
    clean = step.losses(q_taken, targets, batch.learning)
    spoiled = step.losses(
        q_taken.masked_fill(elsewhere, math.nan), targets.masked_fill(elsewhere, math.inf), batch.learning
    )
    assert th.equal(clean, spoiled) and not clean[~batch.learning].any() and clean[batch.learning].all()


def test_priorities_and_metrics_are_of_the_means() -> None:
    model = make(replay_buffer_class=PrioritizedSequenceReplayBuffer, learning_rate=0.0)
    assert isinstance(model.replay_buffer, PrioritizedSequenceReplayBuffer)
    batch = model.replay_buffer.sample(8)._replace(weights=None)
    step = model._gradient_step()
    q_taken, targets, q_values = step.q_and_targets(batch)
    errors = (targets.mean(dim=2) - q_taken.mean(dim=2)).abs().detach()
    result = step(batch)
    eta = model.replay_buffer.priority_eta
    for row, learns in enumerate(batch.learning):
        deltas = errors[row][learns]
        expected = eta * deltas.max() + (1 - eta) * deltas.mean()
        assert result.priorities is not None
        np.testing.assert_allclose(result.priorities[row], expected, rtol=1e-4)
    np.testing.assert_allclose(result.metrics["td_error"], errors[batch.learning].mean(), rtol=1e-4)
    np.testing.assert_allclose(
        result.metrics["q_mean"], q_taken.mean(dim=2)[batch.learning].mean().item(), rtol=1e-4, atol=1e-6
    )
    assert q_values.shape == (*batch.actions.shape, 3)


def test_what_asks_for_q_values_gets_means() -> None:
    model = make()
    q_net = model.q_net
    batch = every_window(model)
    state = q_net.burn_in(batch.burn_in, batch.state)
    quantiles = q_net.unroll_quantiles(batch.window, state)  # type: ignore[operator]
    th.testing.assert_close(q_net.unroll(batch.window, state), quantiles.mean(dim=2))
    observations, starts = th.ones(2, 4), th.tensor([True, False])
    state = tuple(tensor[:2] for tensor in state)
    ours, after = q_net.step_quantiles(observations, state, starts)  # type: ignore[operator]
    assert ours.shape == (2, 5, 3)
    means, also_after = q_net.step(observations, state, starts)
    th.testing.assert_close(means, ours.mean(dim=1))
    assert all(map(th.equal, after, also_after))
    actions, _ = model.predict(observations.numpy(), tuple(tensor.numpy() for tensor in state), starts.numpy(), True)
    assert actions.tolist() == means.argmax(dim=1).tolist()


def test_it_learns_a_distribution() -> None:
    """Two actions whose returns are 0 and ±1: the mean cannot tell them apart, the quantiles can."""
    head = QuantileHead(1, 2, 4, [], th.nn.ReLU)
    optimizer, generator = th.optim.Adam(head.parameters(), lr=0.05), th.Generator().manual_seed(0)
    for _ in range(200):
        sign = 2.0 * th.randint(2, (256, 1), generator=generator) - 1
        quantiles = head.quantiles(th.ones(256, 1))
        loss = quantile_huber_loss(quantiles[..., 0], 0 * sign, 0.01) + quantile_huber_loss(
            quantiles[..., 1], sign, 0.01
        )
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    found = head.quantiles(th.ones(1))
    np.testing.assert_allclose(found[:, 0].detach(), 0, atol=0.1)
    np.testing.assert_allclose(found[:, 1].detach(), [-1, -1, 1, 1], atol=0.1)


def test_arguments() -> None:
    env = make_env()
    for options, message in (
        (dict(n_quantiles=0), "n_quantiles=0 must be an integer of at least 1"),
        (dict(n_quantiles=2.5), "n_quantiles=2.5 must be an integer"),
        (dict(noisy=1), "noisy=1 must be True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            RecurrentQRDQN("MlpPolicy", env, policy_kwargs=options)
    for model_class, policy in ((RecurrentDQN, RecurrentQRDQNPolicy), (RecurrentQRDQN, RecurrentDQNPolicy)):
        with pytest.raises(ValueError, match=rf"policy={policy.__name__} is not of this algorithm"):
            model_class(policy, env)


def test_the_policy_knows_how_it_was_built() -> None:
    model = make(policy_kwargs=dict(LSTM, n_quantiles=7, noisy=True))
    again = RecurrentQRDQNPolicy(**model.policy._get_constructor_parameters())
    assert asdict(again.architecture) == asdict(model.policy.architecture)
    assert again.architecture.n_quantiles == 7 and again.q_net.is_noisy  # type: ignore[attr-defined]
    again.load_state_dict(model.policy.state_dict())
