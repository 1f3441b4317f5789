"""How Stable-Baselines3 hands an image over: which axis holds the channels, and whether values are scaled."""

from dataclasses import dataclass

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.common.checks import check_choice

CHANNELS = ("auto", "first", "last")


@dataclass(frozen=True)
class ImageShape:
    """
    :param channels: C
    :param height: pixels
    :param width: pixels
    :param channels_last: whether observations come as (B, height, width, C)
    """

    channels: int
    height: int
    width: int
    channels_last: bool

    def channels_first(self, images: th.Tensor) -> th.Tensor:
        """
        :param images: (B, C, height, width), or (B, height, width, C) with ``channels_last``
        :return: (B, C, height, width)
        """
        return images.permute(0, 3, 1, 2) if self.channels_last else images


def read_image_space(
    observation_space: spaces.Space, channels: str = "auto", normalized_image: bool = False
) -> ImageShape:
    """
    Stable-Baselines3 puts the channels of uint8 images in [0, 255] first and divides them by 255. Other images
    (MinAtar's bool ones, float ones) come as the environment made them, so here their channels may be last.

    :param observation_space: a Box of 3 dimensions
    :param channels: which axis holds the channels: "first", "last", or "auto" — the axis unlike the two others,
        else the smaller of first and last
    :param normalized_image: whether to trust the values as they come. Otherwise they must be uint8 in [0, 255],
        bool, or lie in [-1, 1].
    :return: the shape
    :raises ValueError: when the space is no such image, or ``channels`` is "auto" and the shape does not tell
    """
    check_choice("channels", channels, CHANNELS)
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 3:
        raise ValueError(
            f"An image is a Box of 3 dimensions (channels, height, width), got {observation_space}. For vectors use "
            "FrameAttention (stacked) or an MLP, for a set of vectors EntityAttention, for a Dict "
            "AttentionCombinedExtractor (with MultiInputPolicy)."
        )
    if not normalized_image:
        _check_values(observation_space)
    shape = observation_space.shape
    last = channels == "last" or (channels == "auto" and _channels_are_last(shape))
    if last:
        return ImageShape(channels=shape[2], height=shape[0], width=shape[1], channels_last=True)
    return ImageShape(channels=shape[0], height=shape[1], width=shape[2], channels_last=False)


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


def _channels_are_last(shape: tuple[int, ...]) -> bool:
    first, middle, last = shape
    if (middle == last) != (first == middle):  # a square image: the channels are the odd one out
        return first == middle
    if first == last:
        raise ValueError(
            f"An image of shape {shape} does not tell which axis holds its channels; pass channels='first' or 'last'."
        )
    return last < first
