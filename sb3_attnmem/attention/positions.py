"""Where and when a key is: position codes for sequences and for maps."""

import math

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_integer, check_integers, check_number


class LearnedPositions(nn.Module):
    """
    A learned vector for each of ``length`` positions, added to the inputs.

    :param length: L
    :param embed_dim: E
    :raises ValueError: when one is no integer of at least 1
    """

    def __init__(self, length: int, embed_dim: int) -> None:
        super().__init__()
        length, embed_dim = check_integers(length=length, embed_dim=embed_dim)
        self.weight = nn.Parameter(th.empty(length, embed_dim))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        Add the vector of each position.

        :param inputs: (B, L, E)
        :return: (B, L, E)
        """
        return inputs + self.weight


class RotaryPositions(nn.Module):
    """
    Rotary position embedding: turns the pairs of a query's or key's features by angles proportional to its position,
    so that the product of a query and a key depends on their *distance* only
    (Su et al., 2021, https://arxiv.org/abs/2104.09864).

    :param head_dim: d, features of one head; even
    :param base: the slowest pair turns by about 1/base radians a position
    :raises ValueError: when ``head_dim`` is odd or no size, or ``base`` is not above 0
    """

    frequencies: th.Tensor

    def __init__(self, head_dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        head_dim, base = check_integer("head_dim", head_dim), check_number("base", base, above=0)
        if head_dim % 2:
            raise ValueError(
                f"Rotary positions turn pairs of features, but a head has {head_dim}; "
                "make embed_dim / n_heads an even number."
            )
        exponents = th.arange(0, head_dim, 2, dtype=th.float32) / head_dim
        self.register_buffer("frequencies", base**-exponents, persistent=False)  # (d/2,)

    def forward(self, heads: th.Tensor, positions: th.Tensor) -> th.Tensor:
        """
        Turn the features of each position.

        :param heads: queries or keys (B, n, L, d)
        :param positions: (L,) or (B, L), integer or float
        :return: (B, n, L, d)
        """
        angles = positions[..., None].to(heads.dtype) * self.frequencies  # (L, d/2) or (B, L, d/2)
        if positions.dim() == 2:
            angles = angles[:, None]  # one for all heads
        cos, sin = angles.cos(), angles.sin()
        first, second = heads.chunk(2, dim=-1)
        return th.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def spatial_basis(height: int, width: int, n_frequencies: int = 4) -> th.Tensor:
    """
    A fixed code of each place of a map: the products of ``n_frequencies`` cosines along the rows and as many along
    the columns, the constant left out. The lowest two rise steadily along the map, the higher ones tell neighbours
    apart (a Fourier basis as in Mott et al., 2019, https://arxiv.org/abs/1906.02500).

    :param height: H
    :param width: W
    :param n_frequencies: F along each side, the constant included; at least 2
    :return: (P, F * F - 1), P = H * W places row by row, values in [-1, 1]
    :raises ValueError: when ``n_frequencies`` is below 2, or a size below 1
    """
    height, width, n_frequencies = check_integers(height=height, width=width, n_frequencies=n_frequencies)
    if n_frequencies < 2:
        raise ValueError(f"A spatial basis of n_frequencies={n_frequencies} tells no place apart; pass 2 or more.")

    def waves(size: int) -> th.Tensor:
        middles = (th.arange(size, dtype=th.float32) + 0.5) / size
        return th.cos(math.pi * middles[:, None] * th.arange(n_frequencies))  # (size, F)

    basis = waves(height)[:, None, :, None] * waves(width)[None, :, None, :]  # (H, W, F, F)
    return basis.reshape(height * width, -1)[:, 1:]
