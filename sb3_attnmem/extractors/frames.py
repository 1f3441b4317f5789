"""Attention over stacked frames."""

import torch as th
from gymnasium import spaces
from torch import nn

from sb3_attnmem.attention import KeyList, LearnedPositions, TransformerBlock, set_layout
from sb3_attnmem.common.checks import check_choice, check_integer, check_integers
from sb3_attnmem.extractors.base import PRECISIONS, AttentionExtractor, Dense
from sb3_attnmem.extractors.image_space import ImageShape
from sb3_attnmem.extractors.stack_space import read_stack_space
from sb3_attnmem.extractors.trunk import ConvTrunk, TrunkChoice, check_trunk

POSITIONS = ("learned", "rotary", "none")


class FrameAttention(AttentionExtractor):
    """
    Attention over the last T observations: each is encoded by itself, then the newest asks what the others hold.
    What one frame shows and what has changed since stay apart, where a plain CNN mixes the frames in its first layer.

    It reads what ``VecFrameStack`` and gymnasium's ``FrameStackObservation`` make, oldest first:

    ==================================  ==========================================================
    Box (T * D,)                        ``VecFrameStack`` of vectors; ``n_frames`` must be given
    Box (T, D)                          ``FrameStackObservation`` of vectors
    Box (T * C, H, W), (H, W, T * C)    stacked images; each channel is a frame unless ``n_frames`` is given
    Box (T, C, H, W), (T, H, W, C)      ``FrameStackObservation`` of colour images
    ==================================  ==========================================================

    Its layers ``blocks.<i>.attention`` record (B, heads, 1, T). Each image passes the trunk by itself: T times the
    work of a plain CNN, less what a narrower first convolution saves.

    :param observation_space: stacked observations
    :param features_dim: length of the vector that comes out
    :param n_frames: T
    :param embed_dim: features of a frame
    :param n_heads: attention heads; divides ``embed_dim``
    :param n_layers: blocks in which the newest frame attends to all
    :param positions: how a frame's age is known: "learned" (a vector for each age), "rotary" (by distance),
        or "none" (the older frames are a set)
    :param dropout: in the blocks, while training
    :param trunk: for images, see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: for images, factor on the channels of the trunk's stages
    :param channels: for images, which axis of a frame holds the channels: "auto", "first" or "last"
    :param normalized_image: for images, whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: for images, in which the trunk computes: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :raises ValueError: when the space is no stack of vectors or images, ``n_frames`` does not divide it,
        ``n_heads`` does not divide ``embed_dim``, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        n_frames: int | None = None,
        embed_dim: int = 128,
        n_heads: int = 4,
        n_layers: int = 1,
        positions: str = "learned",
        dropout: float = 0.0,
        trunk: TrunkChoice = "auto",
        channels: str = "auto",
        normalized_image: bool = False,
        trunk_width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        embed_dim, n_heads, n_layers = check_integers(embed_dim=embed_dim, n_heads=n_heads, n_layers=n_layers)
        check_choice("positions", positions, POSITIONS)
        check_trunk(trunk)
        check_choice("precision", precision, PRECISIONS)  # also where frames are vectors, which have no trunk
        if n_frames is not None:
            n_frames = check_integer("n_frames", n_frames)
        stack = read_stack_space(observation_space, n_frames, channels, normalized_image)
        super().__init__(observation_space, features_dim)
        self.stack = stack
        self.encoder = _make_encoder(stack.frame, embed_dim, trunk, trunk_width, precision)
        self.positions = LearnedPositions(stack.n_frames, embed_dim) if positions == "learned" else nn.Identity()
        self.blocks = nn.ModuleList(
            TransformerBlock(embed_dim, n_heads, dropout=dropout, rotary=positions == "rotary") for _ in range(n_layers)
        )
        self.linear = nn.Sequential(nn.LayerNorm(embed_dim), Dense(embed_dim, features_dim))
        set_layout(self, KeyList("frames", tuple(str(age) for age in range(1 - stack.n_frames, 1))))

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, ...) a batch of stacks
        :return: (B, features_dim)
        """
        frames = self.stack.cut(observations)  # (B, T, ...)
        encoded = self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B, T, E)
        encoded = self.positions(encoded)
        newest = encoded[:, -1:]  # (B, 1, E)
        now = th.tensor([frames.shape[1] - 1], device=encoded.device)
        for block in self.blocks:
            newest = block(newest, encoded, query_positions=now)
        return self.linear(newest.squeeze(1))


def _make_encoder(
    frame: int | ImageShape, embed_dim: int, trunk: TrunkChoice, trunk_width: float, precision: str
) -> nn.Module:
    if isinstance(frame, int):
        return nn.Sequential(Dense(frame, embed_dim), nn.Linear(embed_dim, embed_dim))
    conv = ConvTrunk(frame, trunk, width=trunk_width, precision=precision)
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(conv.channels * conv.grid.n_places, embed_dim))
