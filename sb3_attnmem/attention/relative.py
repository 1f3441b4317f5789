"""Attention by distance, as in Transformer-XL, without leaving the fused kernel."""

import torch as th
from torch import nn

from sb3_attnmem.attention.multi_head import MultiHeadAttention
from sb3_attnmem.common.checks import check_number


class RelativeAttention(MultiHeadAttention):
    """
    Multi-head attention with the relative positions of Transformer-XL (Dai et al., 2019,
    https://arxiv.org/abs/1901.02860): the score of query i and key j is q_i·k_j + (q_i + c)ᵀ W r_{i−j}, where r is a
    sinusoidal code of the distance, and W and the bias c are learned by each head.
    (The paper's bias of the contents is the bias of the queries here.)

    The code of a difference of two positions is a product of their codes, sin(a − b) = sin a cos b − cos a sin b. So
    with p = Wᵀ(q_i + c) the second term is itself a product of a vector that only the query knows and one that only
    the key knows, and both are appended to query and key: exact, and nothing of size Q × K is built or shifted.

    Letters: B batch, Q queries, K keys, n heads of d features, F frequencies = d / 2.

    :param embed_dim: E
    :param n_heads: n
    :param longest: the frequencies go from 1 to 1 / ``longest`` radians a position; about the largest distance
    :param dropout: on the weights, while training
    :raises ValueError: when ``n_heads`` does not divide ``embed_dim`` into an even number, ``longest`` is below 1, or
        ``dropout`` is not in [0, 1)
    """

    frequencies: th.Tensor

    def __init__(self, embed_dim: int, n_heads: int = 4, longest: float = 100.0, dropout: float = 0.0) -> None:
        longest = check_number("longest", longest, least=1)
        super().__init__(embed_dim, n_heads, dropout=dropout)
        head_dim = self.to_queries.out_features // self.n_heads
        if head_dim % 2:
            raise ValueError(
                f"Relative positions are sines and cosines in pairs, but a head has {head_dim} features; "
                "make embed_dim / n_heads an even number."
            )
        self.register_buffer("frequencies", th.logspace(0.0, -1.0, head_dim // 2, base=longest), persistent=False)
        self.from_distance = nn.Parameter(th.empty(self.n_heads, head_dim, head_dim))  # W of each head
        nn.init.normal_(self.from_distance, std=head_dim**-0.5)
        self.distance_bias = nn.Parameter(th.zeros(self.n_heads, 1, head_dim))  # c

    def _place(
        self, q: th.Tensor, k: th.Tensor, query_positions: th.Tensor | None, context_positions: th.Tensor | None
    ) -> tuple[th.Tensor, th.Tensor]:
        of_sine, of_cosine = ((q + self.distance_bias) @ self.from_distance).chunk(2, dim=-1)  # (B, n, Q, F) each
        sin, cos = self._waves(q, query_positions)
        asked = th.cat([q, of_sine * sin + of_cosine * cos, of_cosine * sin - of_sine * cos], dim=-1)  # (B, n, Q, 2 d)
        sin, cos = self._waves(k, context_positions)
        placed = th.cat([k, cos.expand(*k.shape[:-1], -1), sin.expand(*k.shape[:-1], -1)], dim=-1)  # (B, n, K, 2 d)
        # The kernel divides by the root of the width it sees
        return asked * (asked.shape[-1] / q.shape[-1]) ** 0.5, placed

    def _waves(self, heads: th.Tensor, positions: th.Tensor | None) -> tuple[th.Tensor, th.Tensor]:
        """:return: sines and cosines of the positions, each (L, F) or (B, 1, L, F)"""
        if positions is None:
            positions = th.arange(heads.shape[2], device=heads.device)
        angles = positions.unsqueeze(-1).to(heads.dtype) * self.frequencies
        if positions.dim() == 2:
            angles = angles.unsqueeze(1)
        return angles.sin(), angles.cos()
