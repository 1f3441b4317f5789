"""A ``MultiDiscrete`` action with a value for each choice in each dimension, instead of one for each combination."""

from collections.abc import Sequence

import torch as th
from torch import nn

from sb3_attnmem.dqn_recurrent.heads import DuelingHead
from sb3_attnmem.dqn_recurrent.targets import only_valid


class Branches:
    """
    Reads a combination's value from those of its D choices: Q(s, a) = mean_d Q_d(s, a_d), whose best action is the best
    choice of each dimension (decoupled Q-networks: Seyde et al., 2023, https://arxiv.org/abs/2210.12566). Letters: S
    choices, of all dimensions together.

    :param nvec: choices of each dimension
    """

    def __init__(self, nvec: Sequence[int]) -> None:
        self.nvec = [int(n) for n in nvec]

    def best(self, values: th.Tensor) -> th.Tensor:
        """
        :param values: (..., S)
        :return: (...) long, the numbers of the best combinations
        """
        numbers = th.zeros(values.shape[:-1], dtype=th.int64, device=values.device)
        for n, branch in zip(self.nvec, values.split(self.nvec, dim=-1), strict=True):
            numbers = numbers * n + branch.argmax(dim=-1)
        return numbers

    def values_of(self, values: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param values: (..., S)
        :param actions: (...) long, numbers of combinations
        :return: (...), their values
        """
        taken = []
        for n, branch in zip(reversed(self.nvec), reversed(values.split(self.nvec, dim=-1)), strict=True):
            taken.append(branch.gather(-1, (actions % n).unsqueeze(-1)).squeeze(-1))
            actions = actions.div(n, rounding_mode="floor")
        return th.stack(taken).mean(dim=0)

    def gaps(self, values: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        The conservative term over all combinations: see :func:`~sb3_attnmem.dqn_recurrent.targets.conservative_gaps`.

        :param values: (..., S)
        :param actions: (...) long, numbers of combinations
        :return: (...)
        """
        # The sum over combinations of the exponential of a mean is a product of sums
        scaled = (values / len(self.nvec)).split(self.nvec, dim=-1)
        return th.stack([branch.logsumexp(dim=-1) for branch in scaled]).sum(dim=0) - self.values_of(values, actions)


def best_actions(q_values: th.Tensor, valid: th.Tensor | None, branches: Branches | None) -> th.Tensor:
    """
    Choose greedily.

    :param q_values: (..., A); with branches (..., S)
    :param valid: (..., A) bool, True where an action may be taken; None: all may
    :param branches: of the action; None: each action has a value
    :return: (...) long
    """
    return only_valid(q_values, valid).argmax(dim=-1) if branches is None else branches.best(q_values)


class BranchingHead(DuelingHead):
    """
    Q_d(s, a_d) = V(s) + A_d(s, a_d) - mean A_d: one advantage stream a dimension of the action, and a value that they
    share (branching dueling Q-network: Tavakoli et al., 2018, https://arxiv.org/abs/1711.08946). The streams have their
    hidden layers in common.

    :param input_dim: width of the latents
    :param nvec: choices of each dimension
    :param net_arch: hidden layers of value and advantages
    :param activation_fn: activation function
    """

    def __init__(
        self, input_dim: int, nvec: Sequence[int], net_arch: list[int], activation_fn: type[nn.Module]
    ) -> None:
        super().__init__(input_dim, int(sum(nvec)), net_arch, activation_fn)
        self.nvec = [int(n) for n in nvec]

    def forward(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: (..., input_dim)
        :return: (..., S), the values of all choices
        """
        value, advantages = self.streams(latents)
        parts = [part - part.mean(dim=-1, keepdim=True) for part in advantages.split(self.nvec, dim=-1)]
        return value + th.cat(parts, dim=-1)
