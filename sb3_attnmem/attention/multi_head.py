"""Multi-head attention."""

from typing import Any

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.attention.band import Band
from sb3_attnmem.attention.kernel import attend, attention_weights
from sb3_attnmem.attention.positions import RotaryPositions
from sb3_attnmem.attention.record import AttentionLayer
from sb3_attnmem.common.checks import check_flag, check_integer, check_integers, check_number
from sb3_attnmem.common.weights_files import NEW_NAMES, bring_up_to_date


def check_heads(embed_dim: Any, n_heads: Any) -> tuple[int, int]:
    """
    Check that the heads share the features evenly.

    :param embed_dim: E
    :param n_heads: n
    :return: both
    :raises ValueError: when one is no integer of at least 1, or ``n_heads`` does not divide ``embed_dim``
    """
    embed_dim, n_heads = check_integers(embed_dim=embed_dim, n_heads=n_heads)
    if embed_dim % n_heads:
        fitting = [n for n in range(1, embed_dim + 1) if embed_dim % n == 0][:8]
        raise ValueError(
            f"embed_dim={embed_dim} is not divisible by n_heads={n_heads}: every head needs the same share of features."
            f" Pass n_heads from {fitting}, or an embed_dim that is a multiple of n_heads."
        )
    return embed_dim, n_heads


def check_dropout(dropout: Any) -> float:
    """
    Check the probability that a weight is dropped.

    :param dropout: probability
    :return: the same
    :raises ValueError: when it is not in [0, 1)
    """
    return check_number("dropout", dropout, least=0, below=1, hint="It is a probability.")


class MultiHeadAttention(AttentionLayer):
    """
    Scaled dot-product attention with several heads (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

    Letters: B batch, Q queries, K keys, E embed_dim, D context_dim, n heads of d = E / n features.
    Records (B, n, Q, K). The keys have no bias: the softmax over the keys would cancel it.

    :param embed_dim: E
    :param n_heads: n
    :param context_dim: D, the features of what the queries look at; E by default
    :param dropout: on the weights, while training
    :param rotary: whether queries and keys carry rotary positions
    :raises ValueError: when ``n_heads`` does not divide ``embed_dim``, or ``dropout`` is not in [0, 1)
    """

    def __init__(
        self,
        embed_dim: int,
        n_heads: int = 4,
        context_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        embed_dim, self.n_heads = check_heads(embed_dim, n_heads)
        context_dim = embed_dim if context_dim is None else check_integer("context_dim", context_dim)
        self.dropout = check_dropout(dropout)
        self.rotary = RotaryPositions(embed_dim // self.n_heads) if check_flag("rotary", rotary) else None
        self.to_queries = nn.Linear(embed_dim, embed_dim)
        # Not named after the values: TRPO takes every weight with "value" in its name for the critic's
        self.to_kv = nn.Linear(context_dim, 2 * embed_dim, bias=False)
        self.to_output = nn.Linear(embed_dim, embed_dim)

    def forward(
        self,
        queries: th.Tensor,
        context: th.Tensor | None = None,
        mask: th.Tensor | Band | None = None,
        query_positions: th.Tensor | None = None,
        context_positions: th.Tensor | None = None,
    ) -> th.Tensor:
        """
        Let each query look at the context.

        :param queries: (B, Q, E)
        :param context: (B, K, D), what they look at; the queries themselves (self-attention) by default
        :param mask: bool, broadcastable to (B, n, Q, K), True where a query may look.
            A query that may look nowhere finds zeros (and records zeros).
            Or a band of a cache of M steps and Q present ones; K = M + Q then, and (B, n, Q, M + 1) is recorded.
        :param query_positions: (Q,) or (B, Q) with ``rotary``; 0, 1, … by default
        :param context_positions: (K,) or (B, K) with ``rotary``; 0, 1, … by default
        :return: (B, Q, E)
        """
        context = queries if context is None else context
        keys, values = self.to_kv(context).chunk(2, dim=-1)
        q, k, v = self._split(self.to_queries(queries)), self._split(keys), self._split(values)
        q, k = self._place(q, k, query_positions, context_positions)
        if isinstance(mask, Band):
            return self.to_output(self._within(mask, q, k, v).transpose(1, 2).flatten(2))
        blind = None
        if mask is not None:
            blind = ~mask.any(dim=-1, keepdim=True)
            mask = mask | blind
        found = self._attend(q, k, v, mask)
        if blind is not None:
            found = found.masked_fill(blind, 0.0)
        if self.recording:
            weights = attention_weights(q, k, mask)
            self.record(weights if blind is None else weights.masked_fill(blind, 0.0))
        return self.to_output(found.transpose(1, 2).flatten(2))  # (B, n, Q, d) -> (B, Q, E)

    def _load_from_state_dict(self, state_dict: dict[str, th.Tensor], prefix: str, *rest: Any) -> None:
        bring_up_to_date(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A module that was pickled whole, then
        modules = {NEW_NAMES.get(name, name): module for name, module in state["_modules"].items()}
        super().__setstate__({**state, "_modules": modules})

    def _within(self, band: Band, q: th.Tensor, k: th.Tensor, v: th.Tensor) -> th.Tensor:
        """
        :param band: of T queries
        :param q: (B, n, T, d)
        :param k: (B, n, M + T, d)
        :param v: (B, n, M + T, d)
        :return: (B, n, T, d), what the queries find in their band
        """
        q, k = band.cut_queries(q), band.cut_keys(k)
        if self.recording:
            self.record(band.by_age(attention_weights(q, k, band.mask)))
        return band.join(self._attend(q, k, band.cut_keys(v), band.mask))

    def _attend(self, q: th.Tensor, k: th.Tensor, v: th.Tensor, mask: th.Tensor | None) -> th.Tensor:
        """:return: (B, n, Q, d), what the queries find"""
        dropout = self.dropout if self.training else 0.0
        wider = q.shape[-1] - v.shape[-1]
        if wider == 0:
            return attend(q, k, v, mask, dropout)
        # Positions made queries and keys wider; the fast kernels want values as wide
        return attend(q, k, F.pad(v, (0, wider)), mask, dropout)[..., : v.shape[-1]]

    def _place(
        self, q: th.Tensor, k: th.Tensor, query_positions: th.Tensor | None, context_positions: th.Tensor | None
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        :param q: (B, n, Q, d)
        :param k: (B, n, K, d)
        :param query_positions: as in :meth:`forward`
        :param context_positions: as in :meth:`forward`
        :return: both with their positions in them, equally wide
        """
        if self.rotary is None:
            return q, k
        return self.rotary(q, _positions(query_positions, q)), self.rotary(k, _positions(context_positions, k))

    def _split(self, features: th.Tensor) -> th.Tensor:
        # (B, L, E) -> (B, n, L, d)
        return features.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def _positions(positions: th.Tensor | None, heads: th.Tensor) -> th.Tensor:
    return th.arange(heads.shape[2], device=heads.device) if positions is None else positions
