"""An observation as something to look at."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn

from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.common.observations import named_arrays
from sb3_attnmem.extractors.combined import module_names
from sb3_attnmem.extractors.image_space import ImageShape, read_image_space

#: Okabe & Ito (2008), for images whose channels are kinds of things; the first is drawn on top
CHANNEL_COLOURS = np.array(
    [(86, 180, 233), (255, 255, 255), (0, 158, 115), (213, 94, 0), (230, 159, 0), (204, 121, 167), (240, 228, 66)],
    float,
)


def shapes_read(policy: nn.Module) -> dict[str, ImageShape]:
    """
    Find out how an agent's extractors read images.

    :param policy: of an agent
    :return: path of an extractor in it -> how that reads an image (of stacked ones: each)
    """
    found = {}
    for path, module in policy.named_modules():
        shape = getattr(getattr(module, "stack", None), "frame", getattr(module, "image", None))
        if isinstance(shape, ImageShape):
            found[path] = shape
    return found


class Observed:
    """
    The picture in an observation, or its numbers where there is none.

    :param space: of the observation
    :param shapes: how the agent's extractors read images, see :func:`shapes_read`
    """

    def __init__(self, space: spaces.Space, shapes: Mapping[str, ImageShape] | None = None) -> None:
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        self.shapes = shapes or {}
        #: key -> what our extractors call the module that reads it; then what others may
        self.names = [module_names(list(parts)), {key: key.replace(".", "_") for key in parts}]
        #: key ("" where the observation is no Dict) -> the space of an image, the last one of a stack
        self.images: dict[str, spaces.Box] = {}
        for key, part in parts.items():
            if isinstance(part, spaces.Box) and len(part.shape) in (3, 4):
                frame = part if len(part.shape) == 3 else spaces.Box(part.low[-1], part.high[-1], dtype=part.dtype.type)
                self.images[key] = frame
        # A set of entities tells more than a vector
        others = [key for key in parts if key not in self.images]
        self.table_key = max(others, key=lambda key: len(parts[key].shape or ()), default=None)

    def key_of(self, grid: PlaceGrid, layer: str) -> str | None:
        """
        Find the image that a grid lies over.

        :param grid: that lies over an image
        :param layer: whose grid it is
        :return: the key of that image; None where no image has its size
        """
        size = (grid.image_height, grid.image_width)
        fitting = [key for key, space in self.images.items() if size in (space.shape[:2], space.shape[1:])]
        return next((key for key in fitting if key in self._keys_read_in(layer)), next(iter(fitting), None))

    def _keys_read_in(self, path: str) -> list[str]:
        """:return: the keys that a module on this path is named for"""
        for names in self.names:
            found = [key for key, name in names.items() if name in path.split(".")]
            if found:
                return found
        return []

    def picture(self, observation: Any, key: str, grid: PlaceGrid | None = None, layer: str = "") -> np.ndarray:
        """
        Show an image.

        :param observation: one environment's
        :param key: of :attr:`images`
        :param grid: that lies over the image
        :param layer: whose grid it is
        :return: (height, width, 3) uint8, the newest frame of a stack
        """
        space, array = self.images[key], self.upright(observation, key, grid, layer)
        if is_image_space(space, check_channels=False):
            # Stacked frames: the newest colours, or the newest grey
            newest = 3 if array.shape[2] % 3 == 0 else 1
            shown = array[..., -newest:].repeat(3 // newest, axis=2)
            # Numbers of symbols (MiniGrid's 0 to 10) would all be black
            return shown * np.uint8(25) if shown.max() <= 10 else shown
        values = _scaled(array, space)
        if values.shape[2] in (1, 3):
            return np.rint(255 * values.repeat(3 // values.shape[2], axis=2)).astype(np.uint8)
        return _coloured(values)

    def upright(self, observation: Any, key: str, grid: PlaceGrid | None = None, layer: str = "") -> np.ndarray:
        """
        Turn an image so that its channels are last.

        :param observation: one environment's
        :param key: of :attr:`images`
        :param grid: that lies over the image
        :param layer: whose grid it is
        :return: (height, width, C), of stacked images the newest
        """
        array = np.asarray(_parts_of(observation)[key])
        if array.ndim == 4:
            array = array[-1]
        shape = self._shape_of(key, grid, layer)
        return (array if shape.channels_last else array.transpose(1, 2, 0))[..., -shape.channels :]

    def _shape_of(self, key: str, grid: PlaceGrid | None, layer: str) -> ImageShape:
        """:return: how the layer's extractor reads the image, else how any does, else what grid or space tell"""
        space = self.images[key]
        fitting = {path: shape for path, shape in self.shapes.items() if _fits(shape, space.shape, grid)}
        own = [path for path in fitting if f"{layer}.".startswith(f"{path}.")]
        named = [path for path in fitting if key in self._keys_read_in(path)]
        for path in (*sorted(own, key=len, reverse=True), *named, *fitting):
            return fitting[path]
        first, middle, last = space.shape
        if grid is not None and (first, middle) != (middle, last):
            channels_last = (first, middle) == (grid.image_height, grid.image_width)
            return ImageShape(last if channels_last else first, grid.image_height, grid.image_width, channels_last)
        try:
            return read_image_space(space, normalized_image=True)
        except ValueError:  # a cube
            return ImageShape(first, middle, last, channels_last=False)

    def table(self, observation: Any) -> np.ndarray:
        """
        Show numbers.

        :param observation: one environment's, without an image
        :return: (rows, columns), one row for a vector
        """
        assert self.table_key is not None
        array = np.array(_parts_of(observation)[self.table_key], float)
        return np.atleast_2d(array.reshape(-1) if array.ndim < 2 else array.reshape(len(array), -1))


def _parts_of(observation: Any) -> dict[str, np.ndarray]:
    """:return: key -> array; "" for an observation that is no Dict"""
    return {key or "": array for key, array in named_arrays(observation)}


def _fits(shape: ImageShape, axes: tuple[int, ...], grid: PlaceGrid | None) -> bool:
    """
    :param shape: as an extractor reads an image, or one frame of a stack
    :param axes: of an image
    :param grid: that lies over it
    :return: whether the extractor reads such an image
    """
    size = (shape.height, shape.width)
    if grid is not None and size != (grid.image_height, grid.image_width):
        return False
    channels, sides = (axes[2], axes[:2]) if shape.channels_last else (axes[0], axes[1:])
    return sides == size and channels % shape.channels == 0


def _scaled(array: np.ndarray, space: spaces.Box) -> np.ndarray:
    """:return: in [0, 1], by the bounds of the space or, where they do not hold (VecNormalize), of the array"""
    values = np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(np.min(space.low)), float(np.max(space.high))
    if not np.isfinite([low, high]).all() or values.min() < low or values.max() > high:
        low, high = values.min(), values.max()
    return (values - low) / max(high - low, 1e-12)


def _coloured(values: np.ndarray) -> np.ndarray:
    """
    :param values: (height, width, C) in [0, 1], each channel a kind of thing
    :return: (height, width, 3), each channel in a colour of its own
    """
    shown = np.zeros((*values.shape[:2], 3))
    for channel in range(values.shape[2] - 1, -1, -1):
        share = values[..., channel, None]
        # More channels than colours: the same again, darker
        dark = 0.6 ** (channel // len(CHANNEL_COLOURS))
        shown = (1 - share) * shown + share * dark * CHANNEL_COLOURS[channel % len(CHANNEL_COLOURS)]
    return np.rint(shown).astype(np.uint8)


def shrunk(picture: np.ndarray, largest: int) -> np.ndarray:
    """
    Make a picture smaller where it is too large.

    :param picture: (height, width, 3) uint8
    :param largest: pixels along a side
    :return: the same, not larger than that
    """
    factor = max(picture.shape[:2]) / largest
    if factor <= 1.0:
        return picture
    size = [max(round(side / factor), 1) for side in picture.shape[:2]]
    image = th.as_tensor(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    small = th.nn.functional.interpolate(image, size=size, mode="area")[0].permute(1, 2, 0)
    return small.round().to(th.uint8).numpy()
