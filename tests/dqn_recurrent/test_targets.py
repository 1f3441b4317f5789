"""Targets and loss against numbers worked out by hand."""

import pytest
import torch as th

from sb3_attnmem.dqn_recurrent.targets import (
    NStepReturns,
    bootstrap_values,
    masked_mean,
    n_step_returns,
    rescale_value,
    sequence_priorities,
    td_targets,
    unscale_value,
)

GAMMA = 0.5
# One window each, rewards 1, 2, 4, 8, 16. Letters: t a transition, T a terminal one, F a final observation, . padding
REWARDS = th.tensor([[1.0, 2.0, 4.0, 8.0, 16.0]])


def window(kinds: str) -> tuple[th.Tensor, th.Tensor]:
    """:return: transitions and terminals, (1, T)"""
    return th.tensor([[k in "tT" for k in kinds]]), th.tensor([[k == "T" for k in kinds]])


def n_step(kinds: str, n_steps: int) -> NStepReturns:
    return n_step_returns(REWARDS[:, : len(kinds)], *window(kinds), GAMMA, n_steps)


@pytest.mark.parametrize(
    ("kinds", "n_steps", "returns", "discounts", "bootstrap"),
    [
        # One step: every transition bootstraps from the next column, a termination from nothing
        ("ttttt", 1, [1, 2, 4, 8], [0.5] * 4, [1, 2, 3, 4]),
        ("ttTtt", 1, [1, 2, 4, 8], [0.5, 0.5, 0.0, 0.5], [1, 2, None, 4]),
        ("ttFtt", 1, [1, 2, None, 8], [0.5, 0.5, None, 0.5], [1, 2, None, 4]),
        # Three steps: 1 + 2/2 + 4/4 = 3, 2 + 4/2 + 8/4 = 6
        ("ttttt", 3, [3, 6], [0.125] * 2, [3, 4]),
        # Termination at column 2: 3, then 2 + 4/2 = 4, then 4; no bootstrap anywhere
        ("ttTtt", 3, [3, 4, 4], [0.0] * 3, [None] * 3),
        # A time limit whose final observation lies at column 2: 1 + 2/2 = 2 with gamma^2, 2 with gamma^1
        ("ttFtt", 3, [2, 2], [0.25, 0.5], [2, 2]),
        # The newest observation of a tape is such an observation, with padding behind it
        ("tttF.", 3, [3, 4, 4], [0.125, 0.25, 0.5], [3, 3, 3]),
        # The window's end is padding behind a termination
        ("tT...", 3, [2, 2], [0.0, 0.0], [None, None]),
    ],
)
def test_n_step_returns(
    kinds: str,
    n_steps: int,
    returns: list[float | None],
    discounts: list[float | None],
    bootstrap: list[int | None],
) -> None:
    got = n_step(kinds, n_steps)
    for column, (r, d, b) in enumerate(zip(returns, discounts, bootstrap, strict=True)):
        if r is not None:
            assert got.returns[0, column].item() == pytest.approx(r)
            assert got.discounts[0, column].item() == pytest.approx(d)
        if b is not None:
            assert got.bootstrap[0, column].item() == b


def test_inputs_are_left_alone() -> None:
    transitions, terminals = window("ttTtF")
    before = transitions.clone(), terminals.clone(), REWARDS.clone()
    n_step_returns(REWARDS, transitions, terminals, GAMMA, 3)
    assert th.equal(transitions, before[0]) and th.equal(terminals, before[1]) and th.equal(REWARDS, before[2])


def test_rows_do_not_mix() -> None:
    rewards = REWARDS.repeat(2, 1)
    both = [th.cat(pair) for pair in zip(window("ttTtt"), window("ttFtt"), strict=True)]
    got = n_step_returns(rewards, *both, GAMMA, 3)
    for row, kinds in enumerate(("ttTtt", "ttFtt")):
        alone = n_step(kinds, 3)
        assert th.equal(got.returns[row], alone.returns[0]) and th.equal(got.discounts[row], alone.discounts[0])


def test_double_q_picks_with_the_online_network_and_scores_with_the_target_network() -> None:
    q_online = th.tensor([[[1.0, 5.0, 3.0]]])
    q_target = th.tensor([[[7.0, -2.0, 4.0]]])
    assert bootstrap_values(q_online, q_target, double_q=True).item() == -2.0
    assert bootstrap_values(q_online, q_target, double_q=False).item() == 7.0


def test_td_targets() -> None:
    values = th.tensor([[10.0, 20.0, 30.0, 40.0, 50.0]])
    # r + 0.5 v: 1 + 10, 2 + 15, then 4 alone at the termination, 8 + 25
    targets = td_targets(n_step("ttTtt", 1), values)
    assert targets[0, :4].tolist() == [11.0, 17.0, 4.0, 33.0]
    # Three steps up to the time limit's observation at column 2, whose value is 30: 2 + 30/4, 2 + 30/2
    targets = td_targets(n_step("ttFtt", 3), values)
    assert targets[0, :2].tolist() == [9.5, 17.0]


def test_value_rescaling_by_hand() -> None:
    # h(3) = sqrt(4) - 1 + 0.003, h(-8) = -(sqrt(9) - 1) - 0.008
    assert rescale_value(th.tensor([3.0, -8.0, 0.0])).tolist() == pytest.approx([1.003, -2.008, 0.0])
    # The network's value is h(30), so the target is h(1 + 0.5 * 30) = h(16) = sqrt(17) - 1 + 0.016
    values = rescale_value(th.tensor([[0.0, 30.0, 0.0, 0.0, 0.0]]))
    targets = td_targets(n_step("tFttt", 1), values, value_rescaling=True)
    assert targets[0, 0].item() == pytest.approx(17**0.5 - 1 + 0.016, abs=1e-5)


def test_rescaling_and_its_inverse() -> None:
    x = th.cat([-th.logspace(-4, 5, 50), th.zeros(1), th.logspace(-4, 5, 50)])
    assert th.allclose(unscale_value(rescale_value(x)), x, rtol=1e-3, atol=1e-6)
    assert th.allclose(unscale_value(rescale_value(x.double())), x.double(), rtol=1e-9, atol=1e-12)


def test_sequence_priorities() -> None:
    td_errors = th.tensor([[1.0, -3.0, 100.0], [2.0, 100.0, 100.0], [9.0, 9.0, 9.0]])
    learning = th.tensor([[True, True, False], [True, False, False], [False, False, False]])
    # 0.9 * 3 + 0.1 * (1 + 3) / 2 = 2.9; 0.9 * 2 + 0.1 * 2 = 2; nothing to learn = 0
    assert sequence_priorities(td_errors, learning, eta=0.9).tolist() == pytest.approx([2.9, 2.0, 0.0])


def test_masked_mean_ignores_what_is_masked() -> None:
    values = th.tensor([[1.0, float("nan")], [5.0, float("inf")]], requires_grad=True)
    mask = th.tensor([[True, False], [True, False]])
    mean = masked_mean(values, mask)
    assert mean.item() == 3.0
    mean.backward()
    assert values.grad is not None and values.grad.tolist() == [[0.5, 0.0], [0.5, 0.0]]
    assert masked_mean(values, th.zeros_like(mask)).item() == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        masked_mean(th.zeros(2, 3), th.zeros(2, dtype=th.bool))
    with pytest.raises(ValueError, match="one shape"):
        bootstrap_values(th.zeros(1, 2, 3), th.zeros(1, 2, 4), True)


def test_n_step_returns_stop_before_an_action_that_is_not_the_policys_own() -> None:
    ones = th.ones(1, 5)
    rewards = th.tensor([[1.0, 10.0, 100.0, 1000.0, 0.0]])
    transitions, terminals = ones.bool(), th.zeros(1, 5, dtype=th.bool)
    transitions[0, 4] = False
    on_policy = th.tensor([[False, True, False, True, True]])
    n_step = n_step_returns(rewards, transitions, terminals, 0.5, 3, on_policy)
    # From step 0 (whose own action does not matter) to step 2, from 1 to 2, from 2 to 4 (its own does not matter)
    assert n_step.returns[0, :4].tolist() == [1 + 5, 10, 100 + 500, 1000]
    assert n_step.bootstrap[0, :4].tolist() == [2, 2, 4, 4]
    assert n_step.discounts[0, :4].tolist() == [0.25, 0.5, 0.25, 0.5]


def test_a_termination_behind_such_an_action_is_not_seen() -> None:
    transitions, terminals = th.ones(1, 3, dtype=th.bool), th.tensor([[False, True, False]])
    rewards = th.tensor([[1.0, -5.0, 0.0]])
    followed = n_step_returns(rewards, transitions, terminals, 1.0, 3, th.ones(1, 3, dtype=th.bool))
    assert (followed.returns[0, 0], followed.discounts[0, 0]) == (-4, 0)
    stopped = n_step_returns(rewards, transitions, terminals, 1.0, 3, th.tensor([[True, False, True]]))
    assert (stopped.returns[0, 0], stopped.discounts[0, 0], stopped.bootstrap[0, 0]) == (1, 1, 1)
    assert (stopped.returns[0, 1], stopped.discounts[0, 1]) == (-5, 0)
