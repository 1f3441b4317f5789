"""Scaled dot-product attention: torch's fused kernel with a second derivative, and its explicit twin."""

from typing import Any

import torch as th
from torch.nn import functional as F


def attention_weights(queries: th.Tensor, keys: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    """
    softmax(q·k / √d): the explicit twin of ``F.scaled_dot_product_attention``.

    :param queries: (B, n, Q, d)
    :param keys: (B, n, K, d)
    :param mask: bool, broadcastable to (B, n, Q, K); True where a query may look, at least once a query
    :return: (B, n, Q, K), non-negative, sums to 1 over the keys
    """
    scores = queries @ keys.transpose(-2, -1) / queries.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -th.inf)
    return scores.softmax(dim=-1)


def attend(
    queries: th.Tensor, keys: th.Tensor, values: th.Tensor, mask: th.Tensor | None = None, dropout: float = 0.0
) -> th.Tensor:
    """
    ``F.scaled_dot_product_attention``, which can be differentiated twice (TRPO does so), at the cost of the fused
    kernel for those who differentiate once.

    With ``dropout`` the kernel is called as it is: on the CPU torch then computes explicitly, with a second derivative;
    on a GPU it may have none.

    :param queries: (B, n, Q, d)
    :param keys: (B, n, K, d)
    :param values: (B, n, K, d)
    :param mask: bool, broadcastable to (B, n, Q, K); True where a query may look, at least once a query
    :param dropout: probability that a weight is dropped
    :return: (B, n, Q, d), what the queries find
    """
    needs_graph = th.is_grad_enabled() and any(heads.requires_grad for heads in (queries, keys, values))
    # Graphs that are traced hold torch's own operators, and are not differentiated twice
    traced = th.compiler.is_compiling() or th.jit.is_tracing()  # type: ignore[attr-defined]
    if dropout or not needs_graph or traced:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
    return _TwiceDifferentiable.apply(queries, keys, values, mask)


class _TwiceDifferentiable(th.autograd.Function):
    """The fused kernel and its own backward; where that is to be differentiated too, the explicit twin's backward."""

    @staticmethod
    def forward(ctx: Any, queries: th.Tensor, keys: th.Tensor, values: th.Tensor, mask: th.Tensor | None) -> th.Tensor:
        ctx.save_for_backward(queries, keys, values, mask)
        with th.enable_grad():
            ctx.inputs = q, k, v = [heads.detach().requires_grad_() for heads in (queries, keys, values)]
            ctx.found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return ctx.found.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: th.Tensor) -> tuple[th.Tensor | None, ...]:
        *heads, mask = ctx.saved_tensors
        # Grad mode is on here exactly with ``create_graph=True``
        if not th.is_grad_enabled():
            return *th.autograd.grad(ctx.found, ctx.inputs, gradients, retain_graph=True), None
        queries, keys, values = heads
        found = attention_weights(queries, keys, mask) @ values
        wanted = [i for i in range(3) if ctx.needs_input_grad[i]]
        results = th.autograd.grad(found, [heads[i] for i in wanted], gradients, create_graph=True)
        by_input: dict[int, th.Tensor] = dict(zip(wanted, results, strict=True))
        return by_input.get(0), by_input.get(1), by_input.get(2), None
