"""Channel attention inside the convolutional trunk."""

from functools import partial

from gymnasium import spaces
from torch import nn

from sb3_attnmem.attention import CBAM, PlaceGrid, SqueezeExcitation
from sb3_attnmem.common.checks import check_choice, check_integer
from sb3_attnmem.extractors.image import PlainCNN
from sb3_attnmem.extractors.trunk import TrunkChoice

KINDS = ("se", "cbam")


class ChannelAttentionCNN(PlainCNN):
    """
    The plain CNN with gates after each stage of its trunk: squeeze-and-excitation on channels (Hu et al., 2018,
    https://arxiv.org/abs/1709.01507), or CBAM on channels and then places (Woo et al., 2018,
    https://arxiv.org/abs/1807.06521).

    The layers ``trunk.stages.<i>.gate`` (SE), or ``trunk.stages.<i>.gate.channel`` and ``.place`` (CBAM), record gates,
    (B, C) and (B, 1, H, W).

    :param observation_space: an image, channels first or last
    :param features_dim: length of the vector that comes out
    :param kind: "se" or "cbam"
    :param reduction: channels for each unit of the gates' hidden layer (which has at least 8)
    :param output: "vector" (B, features_dim), or "map" (B, P, C + 15) as in
        :class:`~sb3_attnmem.extractors.image.PlainCNN`
    :param trunk: "auto", "nature", "medium", "small", "impala" or your own stages,
        see :class:`~sb3_attnmem.extractors.trunk.ConvTrunk`
    :param trunk_width: factor on the channels of the trunk's stages
    :param channels: which axis holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values as they come, like ``NatureCNN``'s
    :param precision: in which trunk and dense layers compute: "float32", or "bfloat16", which is faster where the
        processor has it; weights and features stay float32
    :raises ValueError: when the space is no image, or too small for the trunk, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 512,
        kind: str = "se",
        reduction: int = 4,
        output: str = "vector",
        trunk: TrunkChoice = "auto",
        channels: str = "auto",
        normalized_image: bool = False,
        trunk_width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        check_choice("kind", kind, KINDS)
        reduction = check_integer("reduction", reduction)
        make_gate = partial(_make_gate, kind, reduction)
        super().__init__(
            observation_space,
            features_dim,
            output,
            trunk,
            channels,
            normalized_image,
            make_gate,
            trunk_width,
            precision,
        )


def _make_gate(kind: str, reduction: int, channels: int, grid: PlaceGrid) -> nn.Module:
    return SqueezeExcitation(channels, reduction) if kind == "se" else CBAM(channels, reduction, grid)
