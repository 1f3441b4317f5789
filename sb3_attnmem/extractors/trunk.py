"""Convolutional trunks for images from 3×3 to 84×84 pixels and more."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch as th
from torch import nn

from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.common.checks import check_choice, check_integer, check_number
from sb3_attnmem.common.names import did_you_mean
from sb3_attnmem.extractors.base import PRECISIONS, computing_in
from sb3_attnmem.extractors.image_space import ImageShape

#: builds the gate that follows a stage, from its channels and its grid
GateMaker = Callable[[int, PlaceGrid], nn.Module]


class Conv(NamedTuple):
    """One stage: a square convolution and a ReLU."""

    channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Kernel size, stride and padding of each layer that looks at neighbours."""
        return [(self.kernel_size, self.stride, self.padding)]

    def make(self, in_channels: int) -> nn.Sequential:
        """:return: its layers"""
        return nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, *self), relu=nn.ReLU()))


class ImpalaStage(NamedTuple):
    """One stage of the large network of Espeholt et al. (2018): a convolution, a pool, residual blocks."""

    channels: int
    n_blocks: int = 2

    @property
    def windows(self) -> list[tuple[int, int, int]]:
        """Kernel size, stride and padding of each layer that looks at neighbours."""
        return [(3, 1, 1), (3, 2, 1), *[(3, 1, 1)] * 2 * self.n_blocks]

    def make(self, in_channels: int) -> nn.Sequential:
        """:return: its layers"""
        blocks = nn.Sequential(*(ResidualBlock(self.channels) for _ in range(self.n_blocks)))
        conv, pool = nn.Conv2d(in_channels, self.channels, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)
        return nn.Sequential(OrderedDict(conv=conv, pool=pool, blocks=blocks))


class ResidualBlock(nn.Module):
    """
    Two convolutions beside the way past them (Espeholt et al., 2018, https://arxiv.org/abs/1802.01561, figure 3).

    :param channels: in and out
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: th.Tensor) -> th.Tensor:
        """
        :param maps: (B, channels, H, W)
        :return: the same shape
        """
        return maps + self.layers(maps)


Stage = Conv | ImpalaStage

TRUNKS: dict[str, tuple[Stage, ...]] = {
    # Mnih et al., 2015: 84×84 -> 7×7 places
    "nature": (Conv(32, 8, 4), Conv(64, 4, 2), Conv(64, 3)),
    # a quarter of the image's side: 56×56 -> 14×14 places
    "medium": (Conv(32, 4, 2, 1), Conv(64, 4, 2, 1), Conv(64, 3, 1, 1)),
    # a place a pixel, for symbolic images: MiniGrid's 7×7, MinAtar's 10×10
    "small": (Conv(32, 3, 1, 1), Conv(64, 3, 1, 1)),
    # Espeholt et al., 2018: 84×84 -> 11×11 places
    "impala": (ImpalaStage(16), ImpalaStage(32), ImpalaStage(32)),
}

TrunkChoice = str | Sequence[Sequence[int]]


class ConvTrunk(nn.Module):
    """
    A stack of convolutions with ReLUs, or of residual blocks, and optionally a gate after each stage.

    :param image: the shape it reads
    :param trunk: a name of ``TRUNKS``, "auto" (by the shorter side: "nature" from 64 pixels on, "medium" from 20 on,
        else "small"), or your own stages as (channels, kernel_size, stride, padding), the last two optional
    :param make_gate: builds what follows each stage; nothing by default
    :param width: factor on the channels of all stages
    :param precision: in which it computes, "float32" or "bfloat16"; what comes out is of the type that came
    :raises ValueError: for an unknown trunk, an image that leaves it fewer than 2×2 places, a ``width`` that is not
        positive, or an unknown precision
    """

    def __init__(
        self,
        image: ImageShape,
        trunk: TrunkChoice = "auto",
        make_gate: GateMaker | None = None,
        width: float = 1.0,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        check_choice("precision", precision, PRECISIONS)
        self.precision = precision
        width = check_number("trunk_width", width, least=1e-3)
        name, stages = _choose(image, trunk)
        _check_size(image, name, stages)
        channels, grid = image.channels, PlaceGrid.of_pixels(image.height, image.width)
        self.stages = nn.Sequential()
        for narrow in stages:
            spec = narrow._replace(channels=max(round(narrow.channels * width), 1))
            stage = spec.make(channels)
            channels, grid = spec.channels, reduce(lambda grid, window: grid.after_conv(*window), spec.windows, grid)
            if make_gate is not None:
                stage.add_module("gate", make_gate(channels, grid))
            self.stages.append(stage)
        # Residual blocks end without one
        self.last = nn.ReLU() if isinstance(stages[-1], ImpalaStage) else nn.Identity()
        #: of the map it gives
        self.channels = channels
        #: the places of the map it gives
        self.grid = grid
        # Faster so on CPUs; where each pixel keeps its place, flattening the map costs what it saves
        self._channels_last = grid.n_places < image.height * image.width

    def forward(self, images: th.Tensor) -> th.Tensor:
        """
        Compute the feature maps.

        :param images: (B, C, height, width)
        :return: (B, channels, H, W)
        """
        if self._channels_last and images.device.type == "cpu":
            images = _store_channels_last(images)
        with computing_in(self.precision, images):
            return self.last(self.stages(images)).to(images.dtype)


def _store_channels_last(images: th.Tensor) -> th.Tensor:
    """:return: the same (B, C, height, width), the channels of a pixel side by side in memory"""
    if images.shape[1] == 1:  # without these strides torch takes it for the other order, and stays with that
        return images.flatten(1).view(len(images), *images.shape[2:], 1).permute(0, 3, 1, 2)
    return images.contiguous(memory_format=th.channels_last)


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


def _choose(image: ImageShape, trunk: TrunkChoice) -> tuple[str, tuple[Stage, ...]]:
    """:return: the trunk's name, "given" for stages of the user's, and its stages"""
    checked = check_trunk(trunk)
    if not isinstance(checked, str):
        return "given", checked
    if checked == "auto":
        side = min(image.height, image.width)
        checked = "nature" if side >= 64 else "medium" if side >= 20 else "small"
    return checked, TRUNKS[checked]


def _check_size(image: ImageShape, name: str, stages: tuple[Stage, ...]) -> None:
    smallest = next(size for size in range(2, 10_000) if _places_along(size, stages) >= 2)
    if min(image.height, image.width) < smallest:
        raise ValueError(
            f"The image is read as {image}, too few for the {name} trunk: the smallest image that leaves 2×2 places to "
            f"attend to is {smallest}×{smallest}. Pass larger images or another trunk of {list(TRUNKS)}, or "
            "channels='first' or 'last' where its axes are misread."
        )


def _places_along(size: int, stages: tuple[Stage, ...]) -> int:
    for kernel_size, stride, padding in [window for stage in stages for window in stage.windows]:
        size = (size + 2 * padding - kernel_size) // stride + 1
        if size < 1:
            return 0
    return size
