"""A ``MultiDiscrete`` action with a value for each choice in each dimension, instead of one for each combination."""

from collections.abc import Sequence

import torch as th

from sb3_attnmem.dqn_recurrent.targets import only_valid


class Branches:
    """
    Reads a combination's value from those of its D choices: Q(s, a) = mean_d Q_d(s, a_d), whose best action is the best
    choice of each dimension (decoupled Q-networks: Seyde et al., 2023, https://arxiv.org/abs/2210.12566). Its quantile
    i is the mean of its choices' quantiles i. Letters: S choices, of all dimensions together; N quantiles.

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
        :param values: (..., S), or quantiles (..., N, S)
        :param actions: (...) long, numbers of combinations
        :return: (...), their values, or (..., N)
        """
        if values.dim() > actions.dim() + 1:
            actions = actions.unsqueeze(-1).expand(values.shape[:-1])
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
