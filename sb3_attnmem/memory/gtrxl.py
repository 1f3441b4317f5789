"""Gated transformer-XL."""

from sb3_attnmem.attention import GatedTransformerBlock, RelativeAttention
from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.memory.banded import BandedTransformer
from sb3_attnmem.memory.steps import step_code


class RelativeGatedBlock(GatedTransformerBlock):
    """
    The block of the gated transformer-XL with the positions that the paper has.

    :param hidden_size: H
    :param n_heads: attention heads
    :param longest: the largest distance
    :param gate_bias: b of both gates at the start
    """

    def __init__(self, hidden_size: int, n_heads: int, longest: float, gate_bias: float) -> None:
        super().__init__(hidden_size, n_heads, gate_bias=gate_bias)
        self.attention = RelativeAttention(hidden_size, n_heads, longest)


class GTrXLMemory(BandedTransformer):
    """
    Gated transformer-XL (Parisotto et al., 2020, https://arxiv.org/abs/1910.06764): a transformer whose residual
    connections are GRU gates that begin near the identity, over the present and the last M inputs of each layer, with
    the relative positions of Transformer-XL.

    State and recorded weights: see :class:`~sb3_attnmem.memory.banded.BandedTransformer`.
    Reach: num_layers * M steps for information, and for gradients within the unroll.

    :param input_dim: D
    :param hidden_size: H; a multiple of twice ``n_heads``
    :param memory_length: M
    :param num_layers: transformer blocks
    :param n_heads: attention heads
    :param gate_bias: of the gates at the start; above 0 they begin near the identity
    :param positions: ``"distance"``; or ``"episode"``: each step says, too, which step of its episode it is
    :raises ValueError: when a size is not a positive integer, ``gate_bias`` is not finite, ``n_heads`` does not
        divide ``hidden_size`` into an even number, or ``positions`` is unknown
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        memory_length: int = 32,
        num_layers: int = 2,
        n_heads: int = 4,
        gate_bias: float = 2.0,
        positions: str = "distance",
    ) -> None:
        hidden_size, n_heads = check_integer("hidden_size", hidden_size), check_integer("n_heads", n_heads)
        memory_length = check_integer("memory_length", memory_length)
        gate_bias = check_number("gate_bias", gate_bias)
        blocks = [
            RelativeGatedBlock(hidden_size, n_heads, float(max(memory_length, 2)), gate_bias)
            for _ in range(check_integer("num_layers", num_layers))
        ]
        super().__init__(input_dim, hidden_size, blocks, n_cached=memory_length, code=step_code(positions, "distance"))
