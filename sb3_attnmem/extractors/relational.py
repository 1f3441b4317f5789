"""Places that attend to each other."""

import torch as th
from gymnasium import spaces
from torch import nn

from sb3_attnmem.attention import POOLINGS, LocatedPlaces, TransformerBlock, make_pool, set_layout
from sb3_attnmem.common.checks import check_choice, check_integers
from sb3_attnmem.extractors.base import OUTPUTS, Dense
from sb3_attnmem.extractors.image import ConvExtractor
from sb3_attnmem.extractors.trunk import TrunkChoice, places_of


class RelationalCNN(ConvExtractor):
    """
    The places of a convolutional map attend to each other, so that a place's features come to tell how it relates to
    the others; then all are pooled into one vector (Zambaldi et al., 2019, https://arxiv.org/abs/1806.01830).
    The blocks normalise before their layers, and each place carries a spatial basis instead of two coordinates.

    Its layers ``blocks.<i>.attention`` record (B, heads, P, P), with ``pooling="attention"`` also
    ``pool.attention`` (B, heads, 1, P).

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param embed_dim: features of a place
    :param n_heads: attention heads; divides ``embed_dim``
    :param n_layers: blocks of self-attention
    :param pooling: "max" as in the paper, "attention" from a learned query, or "mean"; the last two average, which
        loses a small thing
    :param dropout: in the blocks and the attention pool, while training
    :param output: "vector" (B, features_dim), or "map" (B, P, embed_dim) for a memory that attends by itself
        (nothing is pooled then)
    :param trunk: "auto", "nature", "medium", "small", "impala" or your own stages,
        see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: factor on the channels of the trunk's stages
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which trunk and dense layers compute: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :raises ValueError: when the space is no image, or too small for the trunk, or ``n_heads`` does not divide
        ``embed_dim``, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        embed_dim: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        pooling: str = "max",
        dropout: float = 0.0,
        output: str = "vector",
        trunk: TrunkChoice = "auto",
        channels: str = "auto",
        normalized_image: bool = False,
        trunk_width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        embed_dim, n_heads, n_layers = check_integers(embed_dim=embed_dim, n_heads=n_heads, n_layers=n_layers)
        check_choice("output", output, OUTPUTS)
        check_choice("pooling", pooling, POOLINGS)
        super().__init__(observation_space, features_dim, trunk, channels, normalized_image, trunk_width, precision)
        grid = self.trunk.grid
        self.output = output
        self.located = LocatedPlaces(grid.height, grid.width, self.trunk.channels)
        self.embed = nn.Linear(self.located.output_dim, embed_dim)
        self.blocks = nn.Sequential(
            *(TransformerBlock(embed_dim, n_heads, dropout=dropout) for _ in range(n_layers)), nn.LayerNorm(embed_dim)
        )
        if output == "map":
            self._give_map(grid, embed_dim)
        else:
            self.pool = make_pool(pooling, embed_dim, n_heads, dropout)
            self.linear = Dense(embed_dim, features_dim, precision)
        set_layout(self, grid)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, C, height, width) or (B, height, width, C)
        :return: (B, features_dim), or (B, P, embed_dim) when ``output`` is "map"
        """
        places = self.located(places_of(self.maps(observations)))  # (B, P, C + S)
        places = self.blocks(self.embed(places))  # (B, P, E)
        return places if self.output == "map" else self.linear(self.pool(places))
