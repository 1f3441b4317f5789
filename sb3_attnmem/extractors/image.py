"""Convolutional extractors: the plain control, and soft attention over its places."""

import torch as th
from gymnasium import spaces

from sb3_attnmem.attention import LocatedPlaces, SpatialAttention
from sb3_attnmem.common.checks import check_choice, check_integers
from sb3_attnmem.extractors.base import OUTPUTS, AttentionExtractor, Dense
from sb3_attnmem.extractors.image_space import read_image_space
from sb3_attnmem.extractors.trunk import ConvTrunk, GateMaker, TrunkChoice, places_of


class ConvExtractor(AttentionExtractor):
    """
    What extractors over a convolutional map share: reading the image, and the trunk.

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param trunk: "auto", "nature", "medium", "small", "impala" or your own stages,
        see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: factor on the channels of the trunk's stages
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which trunk and dense layers compute: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :param make_gate: what follows each stage of the trunk
    :raises ValueError: when the space is no image, or too small for the trunk
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int,
        trunk: TrunkChoice,
        channels: str,
        normalized_image: bool,
        trunk_width: float,
        precision: str,
        make_gate: GateMaker | None = None,
    ) -> None:
        image = read_image_space(observation_space, channels, normalized_image)
        image.warn_of_doubt()
        super().__init__(observation_space, features_dim)
        self.image = image
        self.trunk = ConvTrunk(image, trunk, make_gate, trunk_width, precision)

    def maps(self, observations: th.Tensor) -> th.Tensor:
        """
        Compute the feature maps of the trunk.

        :param observations: (B, C, height, width) or (B, height, width, C)
        :return: the trunk's (B, channels, H, W)
        """
        return self.trunk(self.image.channels_first(observations))


class PlainCNN(ConvExtractor):
    """
    The control without attention: a trunk that fits the image's size, then one dense layer over the whole map.
    At 84×84 it is Stable-Baselines3's ``NatureCNN`` (Mnih et al., 2015, https://doi.org/10.1038/nature14236).

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param output: "vector" (B, features_dim), or "map" (B, P, C + 15): the trunk's places, each with the 15 numbers of
        a spatial basis that tell where it is, for a memory that attends by itself (no dense layer, no features_dim)
    :param trunk: "auto", "nature", "medium", "small", "impala" or your own stages,
        see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: factor on the channels of the trunk's stages
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which trunk and dense layers compute: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :param make_gate: builds a module that follows each stage of the trunk, from its channels and grid
    :raises ValueError: when the space is no image, or too small for the trunk, or ``output`` is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        output: str = "vector",
        trunk: TrunkChoice = "auto",
        channels: str = "auto",
        normalized_image: bool = False,
        make_gate: GateMaker | None = None,
        trunk_width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        check_choice("output", output, OUTPUTS)
        super().__init__(
            observation_space, features_dim, trunk, channels, normalized_image, trunk_width, precision, make_gate
        )
        self.output = output
        grid = self.trunk.grid
        if output == "map":
            self.located = LocatedPlaces(grid.height, grid.width, self.trunk.channels)
            self._give_map(grid, self.located.output_dim)
        else:
            self.linear = Dense(self.trunk.channels * grid.n_places, features_dim, precision)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, C, height, width) or (B, height, width, C)
        :return: (B, features_dim), or (B, P, C + 15) when ``output`` is "map"
        """
        maps = self.maps(observations)
        if self.output == "vector":
            return self.linear(maps.flatten(1))
        return self.located(places_of(maps))


class ImpalaCNN(PlainCNN):
    """
    The residual network of IMPALA (Espeholt et al., 2018, https://arxiv.org/abs/1802.01561): more layers than
    ``NatureCNN``'s, fewer channels. The attention extractors take it as ``trunk="impala"``.

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param output: "vector" or "map", as in :class:`~sb3_attnmem.extractors.image.PlainCNN`
    :param trunk_width: factor on the channels of the stages, 16, 32 and 32
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which trunk and dense layers compute: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :raises ValueError: when the space is no image, or too small, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 256,
        output: str = "vector",
        trunk_width: float = 1.0,
        channels: str = "auto",
        normalized_image: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__(
            observation_space, features_dim, output, "impala", channels, normalized_image, None, trunk_width, precision
        )


class SpatialAttentionCNN(ConvExtractor):
    """
    Soft attention over the places of a convolutional map: each head picks a place and reports what is there *and where
    it is*; a dense layer reads the reports. The feed-forward half of Sorokin et al. (2015,
    https://arxiv.org/abs/1512.01693) with the spatial basis of Mott et al. (2019, https://arxiv.org/abs/1906.02500).

    Its layer ``attention`` records (B, heads, H, W).

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param n_heads: places that are picked
    :param embed_dim: length of the queries and keys that pick them
    :param n_frequencies: of the spatial basis along each side; more tell near places better apart
    :param trunk: "auto", "nature", "medium", "small", "impala" or your own stages,
        see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: factor on the channels of the trunk's stages
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which the trunk computes: "float32", or "bfloat16", which is faster where the processor has it;
        weights and features stay float32
    :raises ValueError: when the space is no image, or too small for the trunk, or a size is not positive
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        n_heads: int = 8,
        embed_dim: int = 64,
        n_frequencies: int = 4,
        trunk: TrunkChoice = "auto",
        channels: str = "auto",
        normalized_image: bool = False,
        trunk_width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        n_heads, embed_dim = check_integers(n_heads=n_heads, embed_dim=embed_dim)
        super().__init__(observation_space, features_dim, trunk, channels, normalized_image, trunk_width, precision)
        self.attention = SpatialAttention(
            self.trunk.channels, self.trunk.grid, n_heads, embed_dim, n_frequencies=n_frequencies
        )
        # In float32: what a small thing changes in its inputs is of the size of bfloat16's rounding
        self.linear = Dense(self.attention.output_dim, features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, C, height, width) or (B, height, width, C)
        :return: (B, features_dim)
        """
        return self.linear(self.attention(places_of(self.maps(observations))))
