"""Attention painted over what the agent saw."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.common.checks import check_integer, check_number

#: By which floats may leave [0, 1]: rounding
NEARLY = 1e-3


def attention_overlay(
    frame: Any,
    weights: Any,
    layout: PlaceGrid | None = None,
    strength: float = 0.7,
    zoom: int = 1,
    top: float | None = None,
) -> npt.NDArray[np.uint8]:
    """
    Paint attention weights over a frame: what was looked at is lit in warm colours, the rest keeps its look, dimmed.

    :param frame: (height, width), (height, width, 1) or (height, width, 3), uint8, or bool or float in [0, 1]; array
        or tensor. It may be larger than the observation (a rendered frame over an 84×84 one): it is taken to show
        the same scene.
    :param weights: (H, W), or (heads, H, W), none below 0; of several heads the largest weight at each place is shown,
        so that a head that looks at one place is not drowned by heads that look everywhere; array or tensor
    :param layout: how the places lie over the observation, from ``record.layouts[name]``: each weight is then painted
        at the middle of what its place sees. Without it, the H×W places are spread evenly over the frame.
    :param strength: 0 shows the frame alone, 1 hides it where the weight is largest
    :param zoom: each pixel of the frame becomes zoom × zoom
    :param top: the weight that is painted brightest, above 0; the largest one by default, so that pictures of different
        frames are not to the same scale unless it is given
    :return: (height * zoom, width * zoom, 3) uint8
    :raises ValueError: when a shape, a type or a value is none of these
    """
    strength = check_number("strength", strength, least=0, most=1)
    zoom = check_integer("zoom", zoom)
    if top is not None:
        top = check_number("top", top, above=0)
    if layout is not None and not isinstance(layout, PlaceGrid):
        raise ValueError(f"layout={layout!r} must be a PlaceGrid, as record.layouts[name] is of places, or None.")
    picture = np.kron(_as_rgb(frame), np.ones((zoom, zoom, 1)))
    heat = _upscale(_as_heat(weights, layout, top), picture.shape[:2], layout)[..., None]
    # black - red - orange - pale yellow
    colour = np.clip(np.concatenate([3 * heat, 3 * heat - 1.2, 3 * heat - 2.2], axis=-1), 0, 1)
    dimmed = picture * (1 - 0.5 * strength * (1 - heat))
    mixed = dimmed * (1 - strength * heat) + strength * heat * colour
    return np.rint(mixed * 255).astype(np.uint8)


def _as_array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor, wherever it lies
        values = values.detach().cpu()
        values = (values.float() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16
    return np.asarray(values)


def _as_rgb(frame: Any) -> npt.NDArray[np.float64]:
    """
    :return: (height, width, 3) in [0, 1]
    """
    array = _as_array(frame)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3):
        raise ValueError(
            f"A frame is (height, width), (height, width, 1) or (height, width, 3), got {array.shape}. Of stacked "
            "frames pass one (the newest of channels-first ones is stack[-1])."
        )
    if array.size == 0 or (array.dtype.kind not in "bf" and array.dtype != np.uint8):
        raise ValueError(f"A frame is uint8, or bool or float in [0, 1], got {array.dtype} of shape {array.shape}.")
    values = array.astype(np.float64) / (255.0 if array.dtype == np.uint8 else 1.0)
    if not (-NEARLY <= values.min() and values.max() <= 1 + NEARLY):  # NaN, too
        raise ValueError(
            f"A frame of {array.dtype} has values in [0, 1], got {values.min():g} to {values.max():g}. Scale it, or "
            "pass uint8."
        )
    return np.clip(values, 0.0, 1.0).repeat(3 // array.shape[-1], axis=-1)


def _as_heat(weights: Any, layout: PlaceGrid | None, top: float | None) -> npt.NDArray[np.float64]:
    """
    :return: (H, W) in [0, 1]
    """
    array = _as_array(weights)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Weights to paint are numbers, got {type(weights).__name__} of {array.dtype}.")
    array = array.astype(np.float64)
    if (
        array.ndim not in (2, 3)
        or array.size == 0
        or (layout is not None and array.shape[-2:] != (layout.height, layout.width))
    ):
        places = "" if layout is None else f", with H×W = {layout.height}×{layout.width} as its layout says"
        raise ValueError(
            f"Weights to paint are (H, W) or (heads, H, W){places}, got {array.shape}. "
            "record.on_grid(name)[b] gives one observation's."
        )
    if not np.isfinite(array).all() or array.min(initial=0.0) < 0:
        raise ValueError("Weights to paint are finite and not negative; these are not.")
    largest = array.reshape(-1, *array.shape[-2:]).max(axis=0)
    return np.clip(largest / max(largest.max() if top is None else top, 1e-12), 0.0, 1.0)


def _upscale(heat: npt.NDArray[np.float64], size: tuple[int, ...], layout: PlaceGrid | None) -> npt.NDArray[np.float64]:
    """
    :param heat: (H, W)
    :param size: (height, width) of the picture
    :return: (height, width), between the middles of the places linear, beyond the outermost ones constant
    """
    for axis in (0, 1):
        pixels, places = size[axis], heat.shape[axis]
        middles = (np.arange(pixels) + 0.5) / pixels  # of the picture's pixels, in [0, 1]
        if layout is None:
            position = middles * places - 0.5
        else:
            image = (layout.image_height, layout.image_width)[axis]
            position = (middles * image - layout.start - layout.field / 2) / layout.stride
            if layout.field <= layout.stride:  # places that do not overlap (patches, pixels) have sharp edges
                position = np.rint(position)
        position = np.clip(position, 0, places - 1)
        below = np.minimum(position.astype(int), max(places - 2, 0))
        share = (position - below).reshape(-1, *[1] * (1 - axis))
        upper = np.take(heat, np.minimum(below + 1, places - 1), axis=axis)
        heat = np.take(heat, below, axis=axis) * (1 - share) + upper * share
    return heat
