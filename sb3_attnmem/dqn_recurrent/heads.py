"""Heads of the Q-network: what turns latents into values. Letters: A actions, N quantiles; (...) any leading axes."""

from collections.abc import Sequence

import torch as th
from stable_baselines3.common.torch_layers import create_mlp
from torch import nn


class DuelingHead(nn.Module):
    """
    Q(s, a) = V(s) + A(s, a) - mean_a A(s, a) (Wang et al., 2016, https://arxiv.org/abs/1511.06581). With branches, the
    "actions" are the choices in all dimensions of one, Q_d(s, a_d) = V(s) + A_d(s, a_d) - mean A_d (branching dueling
    Q-network: Tavakoli et al., 2018, https://arxiv.org/abs/1711.08946), whose streams have their hidden layers in
    common.

    :param input_dim: width of the latents
    :param n_actions: number of actions
    :param net_arch: hidden layers of each of the two streams
    :param activation_fn: activation function
    :param n_values: numbers that the value stream gives; the advantage stream gives as many an action
    :param nvec: choices of each dimension, ``n_actions`` together; None: there are no branches
    """

    def __init__(
        self,
        input_dim: int,
        n_actions: int,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        n_values: int = 1,
        nvec: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.nvec = None if nvec is None else [int(n) for n in nvec]
        # Both streams' first layers in one product: half the calls, and the wider product is the faster
        self.first = nn.Sequential(*create_mlp(input_dim, -1, [2 * width for width in net_arch[:1]], activation_fn))
        stream_dim = net_arch[0] if net_arch else input_dim
        self.value = nn.Sequential(*create_mlp(stream_dim, n_values, net_arch[1:], activation_fn))
        self.advantage = nn.Sequential(*create_mlp(stream_dim, n_values * n_actions, net_arch[1:], activation_fn))
        self.split = bool(net_arch)

    def streams(self, latents: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param latents: (..., input_dim)
        :return: V (..., n_values) and A (..., n_values * n_actions), not yet centred
        """
        for_value, for_advantage = self.first(latents).chunk(2, dim=-1) if self.split else (latents, latents)
        return self.value(for_value), self.advantage(for_advantage)

    def forward(self, latents: th.Tensor) -> th.Tensor:
        value, advantage = self.streams(latents)
        return value + advantage - self.centre(advantage)

    def centre(self, advantages: th.Tensor) -> th.Tensor:
        """
        :param advantages: (..., A)
        :return: what is subtracted of them, their mean (..., 1); with branches (..., A), that of their dimension
        """
        if self.nvec is None:
            return advantages.mean(dim=-1, keepdim=True)
        parts = advantages.split(self.nvec, dim=-1)
        return th.cat([part.mean(dim=-1, keepdim=True).expand_as(part) for part in parts], dim=-1)


class QuantileHead(nn.Sequential):
    """
    The distribution of each action's return as N quantiles, which are equally probable (QR-DQN: Dabney et al., 2018,
    https://arxiv.org/abs/1710.10044). Its layers are named as those of sb3-contrib's ``QRDQN``.

    :param input_dim: width of the latents
    :param n_actions: number of actions
    :param n_quantiles: N
    :param net_arch: hidden layers
    :param activation_fn: activation function
    """

    def __init__(
        self, input_dim: int, n_actions: int, n_quantiles: int, net_arch: list[int], activation_fn: type[nn.Module]
    ) -> None:
        super().__init__(*create_mlp(input_dim, n_quantiles * n_actions, net_arch, activation_fn))
        self.n_quantiles, self.n_actions = n_quantiles, n_actions

    def quantiles(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: (..., input_dim)
        :return: (..., N, A), in sb3-contrib's order
        """
        return super().forward(latents).unflatten(-1, (self.n_quantiles, self.n_actions))

    def forward(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: (..., input_dim)
        :return: (..., A), the means
        """
        return self.quantiles(latents).mean(dim=-2)


class DuelingQuantileHead(DuelingHead):
    """
    A dueling head whose two streams give quantiles: θ_i(s, a) = V_i(s) + A_i(s, a) - mean_a A_i(s, a).

    :param input_dim: width of the latents
    :param n_actions: number of actions
    :param n_quantiles: N
    :param net_arch: hidden layers of each of the two streams
    :param activation_fn: activation function
    :param nvec: choices of each dimension, as for :class:`DuelingHead`
    """

    def __init__(
        self,
        input_dim: int,
        n_actions: int,
        n_quantiles: int,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        nvec: Sequence[int] | None = None,
    ) -> None:
        super().__init__(input_dim, n_actions, net_arch, activation_fn, n_quantiles, nvec)
        self.n_quantiles, self.n_actions = n_quantiles, n_actions

    def quantiles(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: (..., input_dim)
        :return: (..., N, A)
        """
        value, advantage = self.streams(latents)
        advantage = advantage.unflatten(-1, (self.n_quantiles, self.n_actions))
        return advantage + (value.unsqueeze(-1) - self.centre(advantage))

    def centre(self, advantages: th.Tensor) -> th.Tensor:
        if self.nvec is not None:
            return super().centre(advantages)
        # A mean over few numbers as a product, which takes a fifth of the time
        share = 1 / self.n_actions
        return (advantages @ advantages.new_full((self.n_actions,), share)).unsqueeze(-1)

    def forward(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: (..., input_dim)
        :return: (..., A), the means
        """
        return self.quantiles(latents).mean(dim=-2)
