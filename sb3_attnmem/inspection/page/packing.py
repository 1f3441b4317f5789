"""Arrays and pictures as text, as small as what is shown of them allows."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

#: Colours that a palette can hold
PALETTE = 256
#: Of pictures with more colours: JPEG's quality
QUALITY = 80


def pack(values: np.ndarray) -> dict[str, Any]:
    """
    Pack numbers as they are, in single precision.

    :param values: of any shape
    :return: what player.js unpacks
    """
    array = np.ascontiguousarray(values, dtype="<f4")
    return {"shape": list(array.shape), "type": "f4", "data": b64encode(array.tobytes()).decode("ascii")}


def pack_coarsely(values: np.ndarray, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """
    Pack numbers that become colours or bars: 255 levels from the lowest to the highest, a byte each.

    :param values: of any shape; nan where there is nothing
    :param low: of the lowest level; the lowest value by default
    :param high: of the highest level; the highest value by default
    :return: what player.js unpacks
    """
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    low = float(finite.min(initial=np.inf)) if low is None else low
    high = float(finite.max(initial=-np.inf)) if high is None else high
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        low, high = (low, low + 1.0) if np.isfinite(low) else (0.0, 1.0)
    levels = np.full(array.shape, 255, np.uint8)  # nothing
    there = np.isfinite(array)
    levels[there] = np.rint(254 * np.clip((array[there] - low) / (high - low), 0, 1))
    data = b64encode(levels.tobytes()).decode("ascii")
    return {"shape": list(array.shape), "type": "u1", "low": low, "high": high, "data": data}


def check_pillow(what: str) -> None:
    """
    Check that pictures can be written.

    :param what: needs it, for the message
    :raises ImportError: where Pillow is missing
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'The pictures of {what} are written by Pillow: pip install "sb3_attnmem[plots]" ({error})'
        ) from error


def pack_pictures(pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """
    Pack the pictures of an episode, those that are alike once.

    :param pictures: (height, width, 3) uint8 of one size
    :return: their size, the data URL of each that differs, and which of them each step shows
    """
    urls: list[str] = []
    known: dict[bytes, int] = {}
    index = []
    for picture in pictures:
        content = picture.tobytes()
        if content not in known:
            known[content] = len(urls)
            urls.append(_as_url(picture))
        index.append(known[content])
    height, width = pictures[0].shape[:2]
    return {"width": width, "height": height, "urls": urls, "index": index}


def _as_url(picture: np.ndarray) -> str:
    """:return: a PNG with a palette where the colours are few (most games), else a JPEG"""
    from PIL import Image  # comes with matplotlib

    image, buffer = Image.fromarray(np.ascontiguousarray(picture)), BytesIO()
    if image.getcolors(PALETTE) is not None:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=PALETTE).save(buffer, format="PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, format="JPEG", quality=QUALITY)
        kind = "jpeg"
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode('ascii')}"
