"""Transformer blocks."""

import torch as th
from torch import nn

from sb3_attnmem.attention.band import Band
from sb3_attnmem.attention.multi_head import MultiHeadAttention, check_dropout, check_heads
from sb3_attnmem.common.checks import check_integer, check_number


class FeedForward(nn.Sequential):
    """
    The position-wise half of a transformer block.

    :param embed_dim: E
    :param hidden_dim: of the one hidden layer; 2 * E by default
    :param dropout: after the hidden layer, while training
    :raises ValueError: when a size is no integer of at least 1, or ``dropout`` is not in [0, 1)
    """

    def __init__(self, embed_dim: int, hidden_dim: int | None = None, dropout: float = 0.0) -> None:
        embed_dim = check_integer("embed_dim", embed_dim)
        hidden_dim = 2 * embed_dim if hidden_dim is None else check_integer("hidden_dim", hidden_dim)
        dropout = check_dropout(dropout)
        super().__init__(
            nn.Linear(embed_dim, hidden_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden_dim, embed_dim)
        )


class TransformerBlock(nn.Module):
    """
    A transformer block that normalises before its layers, so that its residual path is an identity
    (Xiong et al., 2020, https://arxiv.org/abs/2002.04745). Its ``attention`` records (B, heads, Q, K).

    :param embed_dim: E
    :param n_heads: attention heads
    :param hidden_dim: of the feed-forward layer; 2 * E by default
    :param dropout: on the attention weights and in the feed-forward layer, while training
    :param rotary: whether the attention uses rotary positions
    :raises ValueError: when ``n_heads`` does not divide ``embed_dim``, or ``dropout`` is not in [0, 1)
    """

    def __init__(
        self,
        embed_dim: int,
        n_heads: int = 4,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        embed_dim, n_heads = check_heads(embed_dim, n_heads)
        self.attention_norm = nn.LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, n_heads, dropout=dropout, rotary=rotary)
        self.feed_forward_norm = nn.LayerNorm(embed_dim)
        self.feed_forward = FeedForward(embed_dim, hidden_dim, dropout)

    def forward(
        self,
        inputs: th.Tensor,
        context: th.Tensor | None = None,
        mask: th.Tensor | Band | None = None,
        query_positions: th.Tensor | None = None,
        context_positions: th.Tensor | None = None,
    ) -> th.Tensor:
        """
        Attend, then pass the feed-forward layer.

        :param inputs: (B, Q, E)
        :param context: (B, K, E), what the inputs look at; the inputs themselves by default.
            It passes the same normalisation, so it is one of this layer's inputs (older ones, or more of them).
        :param mask: bool, broadcastable to (B, heads, Q, K), True where an input may look; or a band
        :param query_positions: (Q,) or (B, Q), for rotary positions; 0, 1, … by default
        :param context_positions: (K,) or (B, K), for rotary positions; 0, 1, … by default
        :return: (B, Q, E)
        """
        attended = self._attend(inputs, context, mask, query_positions, context_positions)
        hidden = inputs + attended
        return hidden + self.feed_forward(self.feed_forward_norm(hidden))

    def _attend(
        self,
        inputs: th.Tensor,
        context: th.Tensor | None,
        mask: th.Tensor | Band | None,
        query_positions: th.Tensor | None,
        context_positions: th.Tensor | None,
    ) -> th.Tensor:
        normed_context = None if context is None else self.attention_norm(context)
        return self.attention(self.attention_norm(inputs), normed_context, mask, query_positions, context_positions)


class GRUGate(nn.Module):
    """
    A residual connection with a GRU as its gate (Parisotto et al., 2019, https://arxiv.org/abs/1910.06764):
    z = σ(W_z y + U_z x − b), r = σ(W_r y + U_r x), ĥ = tanh(W_g y + U_g (r ⊙ x)), x' = (1 − z) ⊙ x + z ⊙ ĥ.

    :param embed_dim: E
    :param bias: b at the start; above 0 the gate begins near the identity
    :raises ValueError: when ``embed_dim`` is no integer of at least 1, or ``bias`` no number
    """

    def __init__(self, embed_dim: int, bias: float = 2.0) -> None:
        super().__init__()
        embed_dim, bias = check_integer("embed_dim", embed_dim), check_number("bias", bias)
        self.from_layer = nn.Linear(embed_dim, 3 * embed_dim, bias=False)  # W_z, W_r, W_g
        self.from_stream = nn.Linear(embed_dim, 2 * embed_dim, bias=False)  # U_z, U_r
        self.from_reset = nn.Linear(embed_dim, embed_dim, bias=False)  # U_g
        # A parameter, not the bias of a Linear: PPO's orthogonal initialisation sets those to zero
        self.bias = nn.Parameter(th.full((embed_dim,), bias))

    def forward(self, stream: th.Tensor, layer: th.Tensor) -> th.Tensor:
        """
        Join what the residual path carries with what a layer would add.

        :param stream: x (..., E), what the residual path carries
        :param layer: y (..., E), what a layer would add
        :return: (..., E)
        """
        layer_z, layer_r, layer_g = self.from_layer(layer).chunk(3, dim=-1)
        stream_z, stream_r = self.from_stream(stream).chunk(2, dim=-1)
        update = (layer_z + stream_z - self.bias).sigmoid()
        reset = (layer_r + stream_r).sigmoid()
        candidate = (layer_g + self.from_reset(reset * stream)).tanh()
        return (1.0 - update) * stream + update * candidate


class GatedTransformerBlock(TransformerBlock):
    """
    The block of the gated transformer-XL (Parisotto et al., 2019, https://arxiv.org/abs/1910.06764): both residual
    connections are GRU gates, and each layer passes a ReLU before its gate. Here positions are absolute or rotary;
    the paper's are those of Transformer-XL.

    :param embed_dim: E
    :param n_heads: attention heads
    :param hidden_dim: of the feed-forward layer; 2 * E by default
    :param dropout: on the attention weights and in the feed-forward layer, while training
    :param rotary: whether the attention uses rotary positions
    :param gate_bias: b of both gates at the start
    :raises ValueError: when ``n_heads`` does not divide ``embed_dim``, or ``dropout`` is not in [0, 1)
    """

    def __init__(
        self,
        embed_dim: int,
        n_heads: int = 4,
        hidden_dim: int | None = None,
        dropout: float = 0.0,
        rotary: bool = False,
        gate_bias: float = 2.0,
    ) -> None:
        gate_bias = check_number("gate_bias", gate_bias)
        super().__init__(embed_dim, n_heads, hidden_dim, dropout, rotary)
        self.attention_gate = GRUGate(embed_dim, gate_bias)
        self.feed_forward_gate = GRUGate(embed_dim, gate_bias)

    def forward(
        self,
        inputs: th.Tensor,
        context: th.Tensor | None = None,
        mask: th.Tensor | Band | None = None,
        query_positions: th.Tensor | None = None,
        context_positions: th.Tensor | None = None,
    ) -> th.Tensor:
        """As :meth:`TransformerBlock.forward`, with gates in place of the residual sums."""
        attended = self._attend(inputs, context, mask, query_positions, context_positions)
        hidden = self.attention_gate(inputs, attended.relu())
        return self.feed_forward_gate(hidden, self.feed_forward(self.feed_forward_norm(hidden)).relu())
