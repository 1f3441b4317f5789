"""How frame stackers lay frames in an observation."""

from dataclasses import dataclass, replace

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.common.checks import check_choice, check_flag
from sb3_attnmem.extractors.image_space import CHANNELS, ImageShape, read_image_space


@dataclass(frozen=True)
class StackShape:
    """
    How frames lie in a stack.

    :param n_frames: T
    :param frame: the shape of one: D features, or an image
    :param in_channels: whether images are stacked in their channels, rather than along an axis of their own
    :param scale: factor on the values
    """

    n_frames: int
    frame: int | ImageShape
    in_channels: bool = False
    scale: float = 1.0

    def cut(self, stacks: th.Tensor) -> th.Tensor:
        """
        Cut stacks into their frames.

        :param stacks: (B, ...) as Stable-Baselines3 hands them over
        :return: the frames (B, T, D), or (B, T, C, H, W), oldest first
        """
        if self.scale != 1.0:
            stacks = stacks * self.scale
        if isinstance(self.frame, int):
            return stacks.unflatten(1, (self.n_frames, -1)) if stacks.dim() == 2 else stacks
        if self.in_channels:
            return self.frame.channels_first(stacks).unflatten(1, (self.n_frames, -1))
        return self.frame.channels_first(stacks.flatten(0, 1)).unflatten(0, (-1, self.n_frames))


def read_stack_space(
    observation_space: spaces.Space, n_frames: int | None, channels: str = "auto", normalized_image: bool = False
) -> StackShape:
    """
    Find out how frames lie in an observation.

    :param observation_space: a Box of 1 (stacked vectors), 2 (T, D), 3 (images stacked in their channels)
        or 4 dimensions (T, image)
    :param n_frames: T, where the shape does not tell
    :param channels: which axis of a frame holds the channels: "auto", "first" or "last"
    :param normalized_image: whether to trust the values of images as they come
    :return: the shape
    :raises ValueError: when the space is no such stack, or ``n_frames`` does not divide it
    """
    check_choice("channels", channels, CHANNELS)
    normalized_image = check_flag("normalized_image", normalized_image)
    if not isinstance(observation_space, spaces.Box) or not 1 <= len(observation_space.shape) <= 4:
        raise ValueError(f"Stacked frames are a Box of 1 to 4 dimensions (vectors or images), got {observation_space}.")
    shape = observation_space.shape
    if len(shape) == 3:
        image = read_image_space(observation_space, channels, normalized_image, n_frames)
        image.warn_of_doubt()
        n_frames = n_frames or image.channels
        _check_divides(n_frames, image.channels, f"channels: it is read as {image}, see channels=")
        return StackShape(n_frames, replace(image, channels=image.channels // n_frames), in_channels=True)
    if len(shape) == 1:
        if n_frames is None:
            raise ValueError(f"A stack of shape {shape} does not tell how many frames it holds; pass n_frames.")
        _check_divides(n_frames, shape[0], "features")
        return StackShape(n_frames, shape[0] // n_frames)
    if n_frames not in (None, shape[0]):
        raise ValueError(
            f"n_frames={n_frames}, but a stack of shape {shape} holds {shape[0]} frames (its first axis); leave it out."
        )
    if len(shape) == 2:
        return StackShape(shape[0], shape[1])
    low, high = observation_space.low[0], observation_space.high[0]
    frame_space = spaces.Box(low, high, dtype=observation_space.dtype.type)
    # Stable-Baselines3 scales and transposes images of three dimensions only, so uint8 ones come here as they were made
    scale = 1 / 255 if is_image_space(frame_space) and not normalized_image else 1.0
    image = read_image_space(frame_space, channels, normalized_image, as_made=True)
    image.warn_of_doubt()
    return StackShape(shape[0], image, scale=scale)


def _check_divides(n_frames: int, size: int, what: str) -> None:
    if size % n_frames:
        raise ValueError(
            f"n_frames={n_frames} does not divide the stack's {size} {what}; pass the number of stacked frames."
        )
