"""A small vision transformer."""

import math

import torch as th
from gymnasium import spaces
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.attention import POOLINGS, LearnedPositions, PlaceGrid, TransformerBlock, make_pool, set_layout
from sb3_attnmem.common.checks import check_choice, check_integer, check_integers
from sb3_attnmem.extractors.base import OUTPUTS, AttentionExtractor, Dense
from sb3_attnmem.extractors.image_space import ImageShape, read_image_space
from sb3_attnmem.extractors.trunk import places_of

LIKED_PATCHES = 49  # 7×7, the places of the Nature trunk
MOST_PATCHES = 400  # attention costs the square of their number


class PatchTransformer(AttentionExtractor):
    """
    A small vision transformer: the image is cut into square patches that attend to each other
    (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929). It knows nothing of neighbourhood at the start, so
    expect it to need more samples than a CNN. The largest value of each feature stands where the paper has its class
    token.

    Its layers ``blocks.<i>.attention`` record (B, heads, P, P), with ``pooling="attention"`` also
    ``pool.attention`` (B, heads, 1, P).

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param patch_size: pixels on a side. None picks, of those that divide both sides of the image, the one that comes
        nearest to 49 patches (12 at 84×84, 1 at 7×7), and of all where none does. Where it does not divide a side, the
        last patches hang over the image's right or lower edge, and see zeros there (7 at 50×41: 8×6 patches)
    :param embed_dim: features of a patch
    :param n_heads: attention heads; divides ``embed_dim``
    :param n_layers: blocks of self-attention
    :param pooling: "max", "attention" from a learned query, or "mean"; the last two average, which loses a small thing
    :param dropout: in the blocks and the attention pool, while training
    :param output: "vector" (B, features_dim), or "map" (B, P, embed_dim) for a memory that attends by itself
        (nothing is pooled then)
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :raises ValueError: when the space is no image, or ``patch_size`` leaves fewer than 2 or more than 400 patches, or
        ``n_heads`` does not divide ``embed_dim``, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        patch_size: int | None = None,
        embed_dim: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        pooling: str = "max",
        dropout: float = 0.0,
        output: str = "vector",
        channels: str = "auto",
        normalized_image: bool = False,
    ) -> None:
        embed_dim, n_heads, n_layers = check_integers(embed_dim=embed_dim, n_heads=n_heads, n_layers=n_layers)
        check_choice("output", output, OUTPUTS)
        check_choice("pooling", pooling, POOLINGS)
        image = read_image_space(observation_space, channels, normalized_image)
        image.warn_of_doubt()
        patch_size = _fit_patches(image, patch_size)
        super().__init__(observation_space, features_dim)
        self.image = image
        self.output = output
        # Of the last patches in a row or column, what lies beyond the image is zeros
        self.margin = (0, -image.width % patch_size, 0, -image.height % patch_size)
        rows, columns = -(-image.height // patch_size), -(-image.width // patch_size)
        self.grid = PlaceGrid(rows, columns, image.height, image.width, stride=patch_size, field=patch_size)
        self.embed = nn.Conv2d(image.channels, embed_dim, patch_size, stride=patch_size)
        self.positions = LearnedPositions(self.grid.n_places, embed_dim)
        self.blocks = nn.Sequential(
            *(TransformerBlock(embed_dim, n_heads, dropout=dropout) for _ in range(n_layers)), nn.LayerNorm(embed_dim)
        )
        if output == "map":
            self._give_map(self.grid, embed_dim)
        else:
            self.pool = make_pool(pooling, embed_dim, n_heads, dropout)
            self.linear = Dense(embed_dim, features_dim)
        set_layout(self, self.grid)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, C, height, width) or (B, height, width, C)
        :return: (B, features_dim), or (B, P, embed_dim) when ``output`` is "map"
        """
        images = self.image.channels_first(observations)
        if any(self.margin):
            images = F.pad(images, self.margin)
        patches = places_of(self.embed(images))  # (B, P, E)
        patches = self.blocks(self.positions(patches))
        return patches if self.output == "map" else self.linear(self.pool(patches))


def _fit_patches(image: ImageShape, patch_size: int | None) -> int:
    """
    :param image: to be cut
    :param patch_size: that the user asked for
    :return: the pixels on a patch's side
    :raises ValueError: when no patches fit, or these do not
    """
    sides = (image.height, image.width)
    counts = {size: math.prod(-(-side // size) for side in sides) for size in range(1, max(sides) + 1)}
    fitting = {size: count for size, count in counts.items() if 2 <= count <= MOST_PATCHES}
    if not fitting:
        raise ValueError(f"The image is read as {image}: one pixel makes no two patches. Pass larger images.")
    if patch_size is None:
        whole = {size: count for size, count in fitting.items() if not any(side % size for side in sides)} or fitting
        return min(whole, key=lambda size: abs(math.log(whole[size] / LIKED_PATCHES)))
    patch_size = check_integer("patch_size", patch_size)
    if patch_size not in fitting:
        raise ValueError(
            f"patch_size={patch_size} does not fit an image read as {image}: it makes {counts.get(patch_size, 1)} "
            f"patches, not 2 to {MOST_PATCHES}. Pass one from {min(fitting)} to {max(fitting)}."
        )
    return patch_size
