"""
The loss of quantile regression as a pure function. Letters: K steps, N quantiles, M samples of the target.
"""

import math
from typing import Any

import torch as th
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Pairs of a quantile and a sample that are worked on at once: what fits into a core's cache
PAIRS_AT_ONCE = 2**17


def quantile_huber_loss(quantiles: th.Tensor, samples: th.Tensor, kappa: float = 1.0) -> th.Tensor:
    """
    Σ_i mean_j |τ_i - 1{u_ij < 0}| L(u_ij) / κ with u_ij = sample j - quantile i, τ_i = (i + ½) / N and Huber's loss
    L(u) = ½u² where |u| ≤ κ, κ(|u| - ½κ) beyond (Dabney et al., 2018, https://arxiv.org/abs/1710.10044, equations 9 and
    10). The samples carry no gradient.

    :param quantiles: (K, N), not sorted: quantile i belongs to τ_i
    :param samples: (K, M)
    :param kappa: κ, where the squared loss ends; infinite: L(u) = ½u² everywhere, without division by κ
    :return: (K,)
    :raises ValueError: when there are not as many rows of both
    """
    if quantiles.dim() != 2 or samples.dim() != 2 or len(quantiles) != len(samples):
        raise ValueError(
            f"quantiles must be (K, N) and samples (K, M); got {tuple(quantiles.shape)} and {tuple(samples.shape)}."
        )
    return _QuantileHuberLoss.apply(quantiles, samples.detach(), kappa)


class _QuantileHuberLoss(th.autograd.Function):
    """
    With c = u cut off at ±κ, Huber's loss is c(u - ½c) and its derivative c: the gradient is as cheap as the loss, so
    both are worked out at once. The (K, N, M) pairs, of which autograd would keep half a dozen tensors, are never there
    as a whole.
    """

    @staticmethod
    def forward(ctx: Any, quantiles: th.Tensor, samples: th.Tensor, kappa: float) -> th.Tensor:
        n_rows, n_quantiles = quantiles.shape
        n_samples = samples.shape[1]
        tau = (th.arange(n_quantiles, device=quantiles.device, dtype=quantiles.dtype) + 0.5) / n_quantiles
        losses, gradient = quantiles.new_empty(n_rows), th.empty_like(quantiles, memory_format=th.contiguous_format)
        # Sums over pairs as products with vectors, which are faster
        ones, tau_of_pairs = quantiles.new_ones(n_samples), tau.repeat_interleave(n_samples)
        at_once = max(PAIRS_AT_ONCE // (n_quantiles * n_samples), 1)
        room = quantiles.new_empty(2, min(at_once, n_rows), n_quantiles, n_samples)
        for begin in range(0, n_rows, at_once):
            rows = slice(begin, min(begin + at_once, n_rows))
            pairs, cut = room[:, : rows.stop - begin]
            th.sub(samples[rows].unsqueeze(1), quantiles[rows].unsqueeze(2), out=pairs)  # u
            th.clamp(pairs, -kappa, kappa, out=cut)  # c
            pairs.sub_(cut, alpha=0.5)
            # c where it is positive, c (1 - τ) / τ elsewhere; τ comes behind the sums
            weighted = functional.prelu(cut, (1 - tau) / tau)
            th.mv(weighted.view(-1, n_samples), ones, out=gradient[rows].view(-1))
            th.mv(weighted.mul_(pairs).view(-1, n_quantiles * n_samples), tau_of_pairs, out=losses[rows])
        gradient.mul_(-tau)
        scale = n_samples * (kappa if math.isfinite(kappa) else 1.0)
        ctx.save_for_backward(gradient.div_(scale))
        return losses.div_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: th.Tensor) -> tuple[th.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].unsqueeze(1), None, None
