"""How Stable-Baselines3 hands an image over: which axis holds the channels, and whether values are scaled."""

import warnings
from dataclasses import dataclass, field

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.common.checks import check_choice, check_flag

CHANNELS = ("auto", "first", "last")

#: fewer rows than this are taken for channels without a word: 1, 3 or 4 of them
FEWEST_ROWS = 5
#: stacked frames have no more channels than this; the last axis is then a side of the image
MOST_CHANNELS = 64
#: an image of so many pixels a side and 1, 3 or 4 channels is not one of so many channels, 1, 3 or 4 pixels wide
PHOTO_SIDE = 32


@dataclass(frozen=True)
class ImageShape:
    """
    The shape of an image, as observations bring it.

    :param channels: C
    :param height: pixels
    :param width: pixels
    :param channels_last: whether observations come as (B, height, width, C)
    :param doubt: why they may come otherwise; "" where it is certain
    """

    channels: int
    height: int
    width: int
    channels_last: bool
    doubt: str = field(default="", compare=False)

    def __str__(self) -> str:
        where = "last" if self.channels_last else "first"
        return f"{self.channels} channels ({where}) of {self.height}×{self.width} pixels"

    def channels_first(self, images: th.Tensor) -> th.Tensor:
        """
        Put the channels of a batch of images first.

        :param images: (B, C, height, width), or (B, height, width, C) with ``channels_last``
        :return: (B, C, height, width)
        """
        return images.permute(0, 3, 1, 2) if self.channels_last else images

    def warn_of_doubt(self) -> None:
        """Say what was assumed, where the axes could be read in two ways."""
        if self.doubt:
            right, wrong = ("last", "first") if self.channels_last else ("first", "last")
            warnings.warn(
                f"The image is read as {self}: {self.doubt}. If that is wrong, pass channels={wrong!r} to the features "
                f"extractor; channels={right!r} ends this warning.",
                stacklevel=2,
            )


def read_image_space(
    observation_space: spaces.Space,
    channels: str = "auto",
    normalized_image: bool = False,
    n_frames: int | None = None,
    as_made: bool = False,
) -> ImageShape:
    """
    Find the axis of the channels, as Stable-Baselines3 hands the image over.

    It divides uint8 images in [0, 255] by 255 and puts their channels first (``VecTransposeImage``), unless the first
    axis is the smallest. So these are read with their channels first, but for square ones with more channels than
    rows, which come as the environment made them, (7, 7, 12), and for those that nobody can have transposed, (7, 7, 3)
    and (210, 160, 3): grey or RGB that is square, or of at least 32 pixels a side.

    Other images (MinAtar's bool ones, float ones) come as the environment made them: their channels are the axis unlike
    the two others, else the smaller of first and last, else (the middle one is the smallest) the last.

    :param observation_space: a Box of 3 dimensions
    :param channels: which axis holds the channels: "first", "last", or "auto" for the rules above
    :param normalized_image: whether to trust the values as they come. Otherwise they must be uint8 in [0, 255],
        bool, or lie in [-1, 1].
    :param n_frames: frames that are stacked in the channels, which then are a multiple of it
    :param as_made: whether the axes are the environment's own even for uint8 images
    :return: the shape; its ``doubt`` says where the rules may be wrong
    :raises ValueError: when the space is no such image, or ``channels`` is "auto" and the shape does not tell
    """
    check_choice("channels", channels, CHANNELS)
    normalized_image = check_flag("normalized_image", normalized_image)
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 3:
        raise ValueError(
            f"An image is a Box of 3 dimensions (channels, height, width), got {observation_space}. For vectors use "
            "FrameAttention (stacked) or an MLP, for a set of vectors EntityAttention, for a Dict "
            "AttentionCombinedExtractor (with MultiInputPolicy)."
        )
    if not normalized_image:
        _check_values(observation_space)
    shape = observation_space.shape
    last, doubt = channels == "last", ""
    if channels == "auto":
        by_sb3 = is_image_space(observation_space) and not as_made
        last, doubt = _handed_over(shape) if by_sb3 else _as_made(shape)
        if doubt and n_frames is not None and (shape[0] % n_frames == 0) != (shape[2] % n_frames == 0):
            last, doubt = shape[2] % n_frames == 0, ""
    if last:
        return ImageShape(channels=shape[2], height=shape[0], width=shape[1], channels_last=True, doubt=doubt)
    return ImageShape(channels=shape[0], height=shape[1], width=shape[2], channels_last=False, doubt=doubt)


def _check_values(space: spaces.Box) -> None:
    if is_image_space(space) or space.dtype == np.bool_:
        return
    low, high = float(space.low.min()), float(space.high.max())
    if low < -1.0 or high > 1.0:
        raise ValueError(
            f"This image's values reach from {low} to {high} ({space.dtype}). Stable-Baselines3 divides by 255 only "
            "uint8 images whose bounds are 0 and 255. Make it one, or scale it into [-1, 1]; pass "
            "normalized_image=True to take the values as they come (for instance from VecNormalize)."
        )


def _handed_over(shape: tuple[int, ...]) -> tuple[bool, str]:
    """
    :param shape: of a uint8 image in [0, 255]. (height, width, C) arrives as (C, height, width), unless the height is
        the smallest (or one of two that are): that, Stable-Baselines3 takes for channels and leaves where they are
    :return: whether the channels are last, and the doubt
    """
    first, middle, last = shape
    if first == middle == last:
        raise _cube(shape)
    if first == middle < last:
        return True, "a square image with more channels than rows, which Stable-Baselines3 does not transpose"
    if (first == middle and last in (1, 3)) or (min(first, middle) >= PHOTO_SIDE and last in (1, 3, 4)):
        return True, "Stable-Baselines3 has not transposed it, or it would be far narrower than it has channels"
    if middle < min(first, last):
        return (
            False,
            "Stable-Baselines3 would have transposed it, had VecTransposeImage(skip=True) not kept it from that",
        )
    return False, _rows_or_channels(shape)


def _as_made(shape: tuple[int, ...]) -> tuple[bool, str]:
    """
    :param shape: of an image as the environment made it
    :return: whether the channels are last, and the doubt
    """
    first, middle, last = shape
    if (middle == last) != (first == middle):  # a square image: the channels are the odd one out
        return first == middle, ""
    if first == last:
        raise _cube(shape)
    if middle < min(first, last):
        return True, "neither the first axis nor the last is the smallest"
    return last < first, _rows_or_channels(shape)


def _rows_or_channels(shape: tuple[int, ...]) -> str:
    """:return: the doubt whether the first axis, the smallest, holds channels, or the rows of a low image with many"""
    first, middle, last = shape
    if FEWEST_ROWS <= first <= min(middle, last) and middle != last and last <= MOST_CHANNELS:
        return "its first axis is the smallest, as that of the channels is wherever Stable-Baselines3 looks for it"
    return ""


def _cube(shape: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"An image of shape {shape} does not tell which axis holds its channels; pass channels='first' or 'last'."
    )
