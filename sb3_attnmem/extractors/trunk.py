"""Convolutional trunks for images from 3×3 to 84×84 pixels and more."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.common.names import did_you_mean
from sb3_attnmem.extractors.image_space import ImageShape

#: builds the gate that follows a stage, from its channels and its grid
GateMaker = Callable[[int, PlaceGrid], nn.Module]


class Conv(NamedTuple):
    """One stage: a square convolution and a ReLU."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0


TRUNKS: dict[str, tuple[Conv, ...]] = {
    # Mnih et al., 2015: 84×84 -> 7×7 places
    "nature": (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3)),
    # a quarter of the image's side: 56×56 -> 14×14 places
    "medium": (Conv(32, 4, 2, 1), Conv(64, 4, 2, 1), Conv(64, 3, 1, 1)),
    # a place a pixel, for symbolic images: MiniGrid's 7×7, MinAtar's 10×10
    "small": (Conv(32, 3, 1, 1), Conv(64, 3, 1, 1)),
}

TrunkChoice = str | Sequence[Sequence[int]]


class ConvTrunk(nn.Module):
    """
    A stack of convolutions with ReLUs, and optionally a gate after each.

    :param image: the shape it reads
    :param trunk: a name of ``TRUNKS``, "auto" (by the shorter side: "nature" from 64 pixels on, "medium" from 20 on,
        else "small"), or your own stages as (channels, kernel_size, stride, padding), the last two optional
    :param make_gate: builds what follows each stage; nothing by default
    :raises ValueError: for an unknown trunk, or an image that leaves it fewer than 2×2 places
    """

    def __init__(self, image: ImageShape, trunk: TrunkChoice = "auto", make_gate: GateMaker | None = None) -> None:
        super().__init__()
        name, stages = _choose(image, trunk)
        _check_size(image, name, stages)
        channels, grid = image.channels, PlaceGrid.of_pixels(image.height, image.width)
        self.stages = nn.Sequential()
        for conv in stages:
            stage = nn.Sequential(OrderedDict(conv=nn.Conv2d(channels, *conv), relu=nn.ReLU()))
            channels, grid = conv.channels, grid.after_conv(conv.kernel_size, conv.stride, conv.padding)
            if make_gate is not None:
                stage.add_module("gate", make_gate(channels, grid))
            self.stages.append(stage)
        #: of the map it gives
        self.channels = channels
        #: the places of the map it gives
        self.grid = grid

    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        Compute the feature maps.

        :param images: (B, C, height, width)
        :return: (B, channels, H, W)
        """
        return self.stages(images)


def places_of(maps: th.Tensor) -> th.Tensor:
    """
    List the places of feature maps row by row.

    :param maps: (B, C, H, W)
    :return: (B, P, C), the places row by row
    """
    return maps.flatten(2).transpose(1, 2)


def check_trunk(trunk: Any) -> str | tuple[Conv, ...]:
    """
    Check a trunk's name, or the numbers of its stages.

    :param trunk: a name, or stages (channels, kernel_size, stride, padding)
    :return: the name, or the stages
    :raises ValueError: for an unknown name, or stages whose numbers make no convolution
    """
    if isinstance(trunk, str):
        if trunk not in ("auto", *TRUNKS):
            near = did_you_mean(trunk, ["auto", *TRUNKS])
            raise ValueError(
                f"trunk={trunk!r} is unknown; choose 'auto', one of {list(TRUNKS)}, or give your own stages.{near}"
            )
        return trunk
    try:
        stages = tuple(Conv(*stage) for stage in trunk)
    except TypeError:
        raise ValueError(
            f"trunk={trunk!r}: pass stages (channels, kernel_size, stride, padding), the last two optional."
        ) from None
    if not stages:
        raise ValueError(f"trunk={trunk!r}: pass at least one stage.")
    try:
        return tuple(
            Conv(*(check_integer(name, size, int(name != "padding")) for name, size in conv._asdict().items()))
            for conv in stages
        )
    except ValueError as error:
        raise ValueError(f"trunk={trunk!r}: {error}") from None


def _choose(image: ImageShape, trunk: TrunkChoice) -> tuple[str, tuple[Conv, ...]]:
    """:return: the trunk's name, "given" for stages of the user's, and its stages"""
    checked = check_trunk(trunk)
    if not isinstance(checked, str):
        return "given", checked
    if checked == "auto":
        side = min(image.height, image.width)
        checked = "nature" if side >= 64 else "medium" if side >= 20 else "small"
    return checked, TRUNKS[checked]


def _check_size(image: ImageShape, name: str, stages: tuple[Conv, ...]) -> None:
    smallest = next(size for size in range(2, 10_000) if _places_along(size, stages) >= 2)
    if min(image.height, image.width) < smallest:
        raise ValueError(
            f"The image is read as {image}, too few for the {name} trunk: the smallest image that leaves 2×2 places to "
            f"attend to is {smallest}×{smallest}. Pass larger images or another trunk of {list(TRUNKS)}, or "
            "channels='first' or 'last' where its axes are misread."
        )


def _places_along(size: int, stages: tuple[Conv, ...]) -> int:
    for conv in stages:
        size = (size + 2 * conv.padding - conv.kernel_size) // conv.stride + 1
        if size < 1:
            return 0
    return size
