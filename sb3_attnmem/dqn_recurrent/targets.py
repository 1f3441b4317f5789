"""
The loss mathematics of recurrent DQN as pure functions. Letters: B sequences, T steps, A actions, N quantiles.
Time is in subscripts: ``q_tm1`` belongs to the step an action was taken at, ``q_t`` to where it led.
"""

from typing import NamedTuple

import torch as th
from torch.nn import functional


class NStepReturns(NamedTuple):
    """
    :param returns: (B, T), the discounted rewards of the k <= n steps from each step on that its episode has
    :param discounts: (B, T), gamma ** k where the target bootstraps, 0 where the episode terminated
    :param bootstrap: (B, T) long, the column of the observation to bootstrap from
    """

    returns: th.Tensor
    discounts: th.Tensor
    bootstrap: th.Tensor


def n_step_returns(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """
    n-step returns that stop where the episode stops: after a termination without a bootstrap, at an observation that
    no action followed (a time limit's final observation, the newest one) by bootstrapping from it. They stop as well
    before a step at which the policy that is learned would not do what was done (Watkins, 1989).

    :param rewards: (B, T) float
    :param transitions: (B, T) bool, an action was taken at this step
    :param terminals: (B, T) bool, that action ended the episode by termination
    :param gamma: discount a step
    :param n_steps: n
    :param on_policy: (B, T) bool, whether the policy that is learned may take the action of a step; None: always
    :return: meaningful where ``transitions`` is True and the n columns after are there
    """
    _check_same_shape(rewards=rewards, transitions=transitions, terminals=terminals)
    n_columns = rewards.shape[1]
    n = min(n_steps, n_columns)
    # Whether a return that comes to a step goes through it; the first action is the one whose value is asked for
    through = transitions if on_policy is None else transitions & on_policy
    through = through & ~functional.pad(terminals[:, :-1], (1, 0))
    running = th.cat([transitions.unsqueeze(2), _windows(through, n)[:, :, 1:]], dim=2).cumprod(dim=2).bool()
    discounts = gamma ** th.arange(n + 1, device=rewards.device, dtype=rewards.dtype)
    returns = (_windows(rewards, n) * discounts[:n]).masked_fill(~running, 0.0).sum(dim=2)
    length = running.sum(dim=2)
    ended = (running & _windows(terminals, n)).any(dim=2)
    bootstrap = (th.arange(n_columns, device=rewards.device) + length).clamp_(max=n_columns - 1)
    return NStepReturns(returns, discounts[length].masked_fill(ended, 0.0), bootstrap)


def _windows(values: th.Tensor, n: int) -> th.Tensor:
    """:return: (B, T, n), the values of n steps from each step of (B, T) on, zeros behind the last"""
    return functional.pad(values, (0, n - 1)).unfold(1, n, 1)


def only_valid(q_values: th.Tensor, valid: th.Tensor | None) -> th.Tensor:
    """
    Let no maximum and no ``logsumexp`` see invalid actions.

    :param q_values: (..., A)
    :param valid: (..., A) bool, True where an action may be taken; None: all may
    :return: (..., A), the Q-values, -inf where an action may not be taken
    """
    return q_values if valid is None else q_values.masked_fill(~valid, -th.inf)


def bootstrap_values(
    q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: th.Tensor | None = None
) -> th.Tensor:
    """
    The value of each step: the target network's, at its own best action, or with double Q-learning
    (van Hasselt et al., 2016, https://arxiv.org/abs/1509.06461) at the online network's best action. Of quantiles, the
    mean says which action is best.

    :param q_online: (B, T, A)
    :param q_target: (B, T, A), or quantiles (B, T, N, A)
    :param double_q: whether the online network picks
    :param valid: (B, T, A) bool, the actions that may be taken at each step; None: all may
    :return: (B, T), or quantiles (B, T, N)
    """
    is_quantiles = q_target.dim() == 4
    _check_same_shape(q_online=q_online, q_target=q_target[:, :, 0] if is_quantiles else q_target)
    if not double_q:
        q_online = q_target.mean(dim=2) if is_quantiles else q_target  # the target network picks
    return values_of_actions(q_target, only_valid(q_online, valid).argmax(dim=-1))


def values_of_actions(values: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """
    :param values: (B, T, A), or quantiles (B, T, N, A)
    :param actions: (B, T) long
    :return: (B, T), or quantiles (B, T, N)
    """
    _check_same_shape(values=values[..., 0] if values.dim() == 3 else values[:, :, 0, 0], actions=actions)
    index = actions.view(*actions.shape, *[1] * (values.dim() - 2)).expand(*values.shape[:-1], 1)
    return values.gather(-1, index).squeeze(-1)


def td_targets(n_step: NStepReturns, values_t: th.Tensor, value_rescaling: bool = False) -> th.Tensor:
    """
    :param n_step: what :func:`n_step_returns` gave
    :param values_t: (B, T), the value of every step, in rescaled units where ``value_rescaling``; or quantiles
        (B, T, N) of it, each of which gives a target
    :param value_rescaling: whether values are rescaled with :func:`rescale_value`
    :return: (B, T) or (B, T, N), the target of every step
    """
    _check_same_shape(returns=n_step.returns, values_t=values_t if values_t.dim() == 2 else values_t[..., 0])
    returns, discounts, bootstrap = n_step
    if values_t.dim() == 3:
        returns, discounts, bootstrap = (tensor.unsqueeze(-1) for tensor in n_step)
    values = values_t.gather(1, bootstrap.expand_as(values_t))
    if not value_rescaling:
        return returns + discounts * values
    return rescale_value(returns + discounts * unscale_value(values))


def rescale_value(values: th.Tensor, epsilon: float = 1e-3) -> th.Tensor:
    """
    h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x (Pohlen et al., 2018, https://arxiv.org/abs/1805.11593).

    :param values: x, of any shape
    :param epsilon: how steep h stays far from 0
    :return: h(x), of the same shape
    """
    return values.sign() * ((values.abs() + 1).sqrt() - 1) + epsilon * values


def unscale_value(values: th.Tensor, epsilon: float = 1e-3) -> th.Tensor:
    """
    The inverse of :func:`rescale_value`.

    :param values: h(x), of any shape
    :param epsilon: that of :func:`rescale_value`
    :return: x, of the same shape
    """
    # Solve epsilon s^2 + s - (epsilon + 1 + |y|) = 0 for s = sqrt(|x| + 1), in the form without cancellation
    constant = epsilon + 1 + values.abs()
    root = 2 * constant / (1 + (1 + 4 * epsilon * constant).sqrt())
    return values.sign() * (root.square() - 1)


def sequence_priorities(td_errors: th.Tensor, learning: th.Tensor, eta: float = 0.9) -> th.Tensor:
    """
    eta * max |delta| + (1 - eta) * mean |delta| over the learning steps of each sequence (R2D2, section 2.3).

    :param td_errors: (B, T)
    :param learning: (B, T) bool
    :param eta: weight of the maximum
    :return: (B,); 0 for a sequence without a learning step
    """
    _check_same_shape(td_errors=td_errors, learning=learning)
    errors = td_errors.abs().masked_fill(~learning, 0.0)
    mean = errors.sum(dim=1) / learning.sum(dim=1).clamp(min=1)
    return eta * errors.amax(dim=1) + (1 - eta) * mean


def conservative_gaps(q_values: th.Tensor, actions: th.Tensor, valid: th.Tensor | None = None) -> th.Tensor:
    """
    log sum_a exp Q(s, a) - Q(s, a of the data), the term that keeps values of actions low which the data do not show
    (conservative Q-learning: Kumar et al., 2020, https://arxiv.org/abs/2006.04779, equation 4). It is above 0.

    :param q_values: (B, T, A)
    :param actions: (B, T) long
    :param valid: (B, T, A) bool, the actions a that the sum is over; None: all
    :return: (B, T)
    """
    _check_same_shape(q_values=q_values[..., 0], actions=actions)
    return only_valid(q_values, valid).logsumexp(dim=-1) - values_of_actions(q_values, actions)


def masked_mean(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """
    :param values: (B, T)
    :param mask: (B, T) bool
    :return: the mean over the places where ``mask`` is True, 0 where there are none
    """
    _check_same_shape(values=values, mask=mask)
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def _check_same_shape(**tensors: th.Tensor) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"These must have one shape: {shapes}.")
