"""One gradient step of recurrent DQN: a batch of sequences in, metrics and what to write back out."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch as th
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from sb3_attnmem.dqn_recurrent.branches import best_actions
from sb3_attnmem.dqn_recurrent.metrics import delta_q, training_metrics
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.quantile_loss import quantile_huber_loss
from sb3_attnmem.dqn_recurrent.quantile_network import RecurrentQuantileNetwork
from sb3_attnmem.dqn_recurrent.targets import (
    NStepReturns,
    bootstrap_values,
    conservative_gaps,
    masked_mean,
    n_step_returns,
    sequence_priorities,
    td_targets,
    values_of_actions,
)
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequenceSamples


class QAndTargets(NamedTuple):
    """
    Letters: B windows, T steps, A actions, N quantiles. All mean something where ``batch.learning`` is True.

    :param q_taken: (B, T), the Q-values of the actions taken, with gradient; or their quantiles (B, T, N)
    :param targets: (B, T), their targets; or samples of them (B, T, N)
    :param q_values: (B, T, A), the Q-values of all actions, with gradient
    """

    q_taken: th.Tensor
    targets: th.Tensor
    q_values: th.Tensor


class StepResult(NamedTuple):
    """
    What a gradient step leaves to its caller.

    :param metrics: name -> value, over the learning steps
    :param n_steps: learning steps in the batch
    :param priorities: (B,), new ones; None where none are kept
    :param states: the states after burn-in, tensors (B, ...), to refresh those that the replay buffer holds
    """

    metrics: dict[str, float]
    n_steps: int
    priorities: np.ndarray | None
    states: MemoryState


@dataclass(frozen=True)
class GradientStep:
    """
    The update of recurrent DQN: unroll both networks, compute the loss, move the online network's weights.

    :param q_net: online network
    :param q_net_target: target network
    :param optimizer: of the online network
    :param gamma: discount a step
    :param n_steps: steps of reward in a target
    :param watkins_tolerance: n-step returns go through actions that are worse than the best by at most so many
        deviations of the return
    :param double_q: the online network picks the action that the target network scores
    :param value_rescaling: learn h(Q) instead of Q
    :param max_grad_norm: the gradient is scaled down to this norm
    :param stored_states: whether sequences begin with the states of the replay buffer, or with initial ones
    :param priority_eta: weight of the largest error in a priority; None: no priorities are kept
    :param conservative_weight: of the conservative term (Kumar et al., 2020); 0 leaves it out
    :param noise: draws the noise of noisy heads, for each network its own, the same for all sequences and steps of the
        batch (Fortunato et al., 2018, section 3.1); None for means
    """

    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork
    optimizer: th.optim.Optimizer
    gamma: float
    n_steps: int
    watkins_tolerance: float
    double_q: bool
    value_rescaling: bool
    max_grad_norm: float
    stored_states: bool
    priority_eta: float | None = None
    conservative_weight: float = 0.0
    noise: np.random.Generator | None = None

    def __call__(self, batch: SequenceSamples, n_updates: int = 0) -> StepResult:
        """
        :param batch: B windows of T steps
        :param n_updates: updates that were made before, for messages
        :return: metrics, and what to write back into the replay buffer
        :raises ValueError: when the loss is not finite; the weights are left as they were
        """
        states = self.warm_up(self.q_net, batch)
        q_taken, targets, q_values = self.q_and_targets(batch, states)
        # Errors of about one size, whatever the size of rewards: what else is in the loss keeps its weight
        scale = self.q_net.normalization.returns.deviation
        losses = self.losses(q_taken / scale, targets / scale, batch.learning)
        loss = masked_mean(losses if batch.weights is None else losses * batch.weights.unsqueeze(1), batch.learning)
        q_mean = self.values_of(q_values.detach(), batch.actions)
        td_errors = self.means(targets) - q_mean
        gap = None
        if self.conservative_weight > 0:
            if self.q_net.branches is None:
                gaps = conservative_gaps(q_values / scale, batch.actions, batch.valid)
            else:
                gaps = self.q_net.branches.gaps(q_values / scale, batch.actions)
            gap = masked_mean(gaps, batch.learning)
            loss = loss + self.conservative_weight * gap
        metrics = training_metrics(loss, td_errors, q_mean, batch)
        self._check_finite("loss", metrics["loss"], n_updates)
        self.optimizer.zero_grad()
        loss.backward()
        # Before it is scaled down: one that is not finite would leave no weight as it was
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        metrics["grad_norm"] = norm.item()
        self._check_finite("gradient's norm", metrics["grad_norm"], n_updates)
        clip_grads_with_norm_(weights, self.max_grad_norm, norm)
        self.optimizer.step()
        if gap is not None:
            metrics["conservative_gap"] = gap.item()
        priorities = None
        if self.priority_eta is not None:
            of_batch = sequence_priorities(td_errors / scale, batch.learning, self.priority_eta)
            metrics["priority_max_over_mean"] = (of_batch.max() / of_batch.mean().clamp(min=1e-9)).item()
            priorities = of_batch.cpu().numpy()
        return StepResult(metrics, int(metrics.pop("n_steps")), priorities, states)

    def _check_finite(self, what: str, value: float, n_updates: int) -> None:
        if np.isfinite(value):
            return
        if all(bool(weight.isfinite().all()) for weight in self.q_net.parameters()):
            cause = "Look at train/q_mean and train/td_error, lower the learning rate, or scale the rewards "
            cause += "(VecNormalize) or the values (value_rescaling=True)."
        else:
            cause = "They were not finite then: the update before spoiled them. Lower the learning rate, and load an "
            cause += "older model."
        raise ValueError(
            f"The {what} became {value} after {n_updates} updates; the weights are as they were before this update. "
            f"{cause}"
        )

    def warm_up(self, q_net: RecurrentQNetwork, batch: SequenceSamples) -> MemoryState:
        """
        :param q_net: online or target network
        :param batch: B windows
        :return: its states before the first step of each window, after burn-in; tensors (B, ...)
        """
        state = batch.state if self.stored_states else q_net.memory.initial_state(len(batch.actions))
        return q_net.burn_in(batch.burn_in, state)

    def q_and_targets(self, batch: SequenceSamples, states: MemoryState | None = None) -> QAndTargets:
        """
        :param batch: B windows of T steps
        :param states: the online network's, after burn-in; None: they are computed
        :return: Q-values and their targets
        """
        states = self.warm_up(self.q_net, batch) if states is None else states
        with self.q_net.noise(self.noise):
            values = self.unroll(self.q_net, batch, states)
        q_values = self.means(values)
        with th.no_grad(), self.q_net_target.noise(self.noise):
            values_target = self.unroll(self.q_net_target, batch, self.warm_up(self.q_net_target, batch))
            values_t = self.bootstrap_values(q_values.detach(), values_target, batch.valid)
            targets = td_targets(self._n_step_returns(batch, q_values.detach()), values_t, self.value_rescaling)
        return QAndTargets(self.values_of(values, batch.actions), targets, q_values)

    def values_of(self, values: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param values: (B, T, A), or quantiles (B, T, N, A)
        :param actions: (B, T) long
        :return: (B, T), or quantiles (B, T, N)
        """
        branches = self.q_net.branches
        return values_of_actions(values, actions) if branches is None else branches.values_of(values, actions)

    def bootstrap_values(self, q_online: th.Tensor, q_target: th.Tensor, valid: th.Tensor | None) -> th.Tensor:
        """
        :param q_online: (B, T, A)
        :param q_target: (B, T, A), or quantiles (B, T, N, A)
        :param valid: (B, T, A) bool; None: all actions are valid
        :return: (B, T), or quantiles (B, T, N), the value of each step
        """
        branches = self.q_net.branches
        if branches is None:
            return bootstrap_values(q_online, q_target, self.double_q, valid)
        return branches.values_of(q_target, branches.best(q_online if self.double_q else self.means(q_target)))

    def _n_step_returns(self, batch: SequenceSamples, q_values: th.Tensor) -> NStepReturns:
        """
        Stop returns where an action was taken that the online network would not take (soft Watkins, as in Kapturowski
        et al., 2022, https://arxiv.org/abs/2209.07550, here with a tolerance that does not shrink with Q).

        :return: of each step
        """
        on_policy = None
        if self.n_steps > 1 and self.watkins_tolerance < math.inf:
            tolerance = self.watkins_tolerance * self.q_net.normalization.returns.deviation
            best = best_actions(q_values, batch.valid, self.q_net.branches)
            taken, greedy = (self.values_of(q_values, actions) for actions in (batch.actions, best))
            on_policy = taken >= greedy - tolerance
        return n_step_returns(batch.rewards, batch.transitions, batch.terminals, self.gamma, self.n_steps, on_policy)

    def unroll(self, q_net: RecurrentQNetwork, batch: SequenceSamples, states: MemoryState) -> th.Tensor:
        """
        Ask a network for what is learned.

        :param q_net: online or target network
        :param batch: B windows of T steps
        :param states: of the network, before the first step of each window
        :return: (B, T, A), or quantiles (B, T, N, A)
        """
        return q_net.unroll(batch.window, states)

    def means(self, values: th.Tensor) -> th.Tensor:
        """
        Expected values.

        :param values: (B, T, ...), or quantiles (B, T, N, ...)
        :return: (B, T, ...)
        """
        return values

    def losses(self, q_taken: th.Tensor, targets: th.Tensor, learning: th.Tensor) -> th.Tensor:
        """
        The loss of each step.

        :param q_taken: (B, T), or quantiles (B, T, N), in deviations of the return
        :param targets: (B, T), or samples (B, T, N), in the same
        :param learning: (B, T) bool, where it means something
        :return: (B, T)
        """
        # Not the Huber loss of SB3's DQN: beyond 1 it fits the median of the targets, so that rare ends of episodes
        # are outvoted (docs/stability.md); the gradient's norm is clipped anyway
        return 0.5 * (targets - q_taken).square()

    def measure_delta_q(self, batch: SequenceSamples, longer: SequenceSamples) -> dict[str, float]:
        """
        How far the states that the batch begins from put its Q-values out (see :func:`delta_q`).

        :param batch: B windows
        :param longer: the same, with a burn-in from the beginnings of their episodes
        :return: name -> mean ΔQ at the first and the last learning step
        """
        with th.no_grad():
            q_replayed, q_true = (
                self.q_net.unroll(samples.window, self.warm_up(self.q_net, samples)) for samples in (batch, longer)
            )
        # A window at the end of a closed tape may hold a final observation and nothing to learn from
        there = batch.learning.any(dim=1)
        first, last = delta_q(q_replayed[there], q_true[there], batch.learning[there])
        return {"delta_q_first": first.mean().item(), "delta_q_last": last.mean().item()}


@dataclass(frozen=True)
class QuantileGradientStep(GradientStep):
    """
    The update of recurrent QR-DQN: what :class:`GradientStep` does, on the quantiles of the return instead of its mean
    (Dabney et al., 2018, https://arxiv.org/abs/1710.10044). Means say which action is best, how wrong a value was, and
    what the conservative term and the log see.

    :param kappa: where the Huber loss of a quantile ends to be squared
    """

    kappa: float = 1.0

    def unroll(self, q_net: RecurrentQNetwork, batch: SequenceSamples, states: MemoryState) -> th.Tensor:
        assert isinstance(q_net, RecurrentQuantileNetwork)
        return q_net.unroll_quantiles(batch.window, states)

    def means(self, values: th.Tensor) -> th.Tensor:
        return values.mean(dim=2)

    def losses(self, q_taken: th.Tensor, targets: th.Tensor, learning: th.Tensor) -> th.Tensor:
        # Of steps that learn alone: every pair of a quantile and a sample is looked at
        found = quantile_huber_loss(q_taken[learning], targets[learning], self.kappa)
        return found.new_zeros(learning.shape).masked_scatter(learning, found)
