"""From a set of vectors to one, padding ignored."""

import torch as th
from torch import nn

from sb3_attnmem.attention.multi_head import MultiHeadAttention, check_heads
from sb3_attnmem.common.checks import check_choice


class AttentionPool(nn.Module):
    """
    Multi-head attention from one learned query (Lee et al., 2019, https://arxiv.org/abs/1810.00825).
    Its ``attention`` records (B, heads, 1, K).

    :param embed_dim: E
    :param n_heads: attention heads
    :param dropout: on the weights, while training
    :raises ValueError: when ``n_heads`` does not divide ``embed_dim``, or ``dropout`` is not in [0, 1)
    """

    def __init__(self, embed_dim: int, n_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        embed_dim, n_heads = check_heads(embed_dim, n_heads)
        self.attention = MultiHeadAttention(embed_dim, n_heads, dropout=dropout)
        self.query = nn.Parameter(th.empty(1, 1, embed_dim))
        # Spreads the first weights, so that the heads differ and learn to pick rather than to average
        nn.init.normal_(self.query, std=6.0)

    def forward(self, inputs: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
        """
        Pool by attention.

        :param inputs: (B, K, E)
        :param mask: (B, K) bool, True where there is something
        :return: (B, E); a constant where there is nothing at all
        """
        query = self.query.expand(inputs.shape[0], -1, -1)
        return self.attention(query, inputs, mask=None if mask is None else mask[:, None, None, :]).squeeze(1)


class MaxPool(nn.Module):
    """The largest value of each feature."""

    def forward(self, inputs: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
        """
        Pool by the maximum.

        :param inputs: (B, K, E)
        :param mask: (B, K) bool, True where there is something
        :return: (B, E); zeros where there is nothing at all
        """
        if mask is None:
            return inputs.amax(dim=1)
        largest = inputs.masked_fill(~mask[..., None], -th.inf).amax(dim=1)
        return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class MeanPool(nn.Module):
    """The mean of each feature."""

    def forward(self, inputs: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
        """
        Pool by the mean.

        :param inputs: (B, K, E)
        :param mask: (B, K) bool, True where there is something
        :return: (B, E); zeros where there is nothing at all
        """
        if mask is None:
            return inputs.mean(dim=1)
        total = inputs.masked_fill(~mask[..., None], 0.0).sum(dim=1)
        return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


POOLINGS = ("attention", "max", "mean")


def make_pool(pooling: str, embed_dim: int, n_heads: int = 4, dropout: float = 0.0) -> nn.Module:
    """
    Build the pool of a name.

    :param pooling: one of ``POOLINGS``
    :param embed_dim: E
    :param n_heads: of the attention pool
    :param dropout: of the attention pool
    :return: a module (B, K, E), optional mask (B, K) -> (B, E)
    :raises ValueError: for another name
    """
    check_choice("pooling", pooling, POOLINGS)
    if pooling == "attention":
        return AttentionPool(embed_dim, n_heads, dropout)
    return MaxPool() if pooling == "max" else MeanPool()
