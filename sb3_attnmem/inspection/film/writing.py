"""The files of a film: an .mp4 of its pictures, and a contact sheet of some of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from sb3_attnmem.common.files import replacing

#: Path, (width, height) and frames a second -> opens a film and gives the function that adds a picture to it
OpenFilm = Callable[[Path, tuple[int, int], float], Any]
#: Pixels between the pictures of a contact sheet
GAP = 6


def find_writer() -> OpenFilm:
    """
    Find what writes films.

    :return: what opens a film; one that was not finished leaves the file that was there before
    :raises ImportError: without moviepy
    """
    try:
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f'Films are written by moviepy: pip install "sb3_attnmem[zoo]" ({error})') from error

    @contextmanager
    def opened(path: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[np.ndarray], None]]:
        # Players want this pixel format, and one that can start before all is there
        options = ["-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        with replacing(path) as unfinished:
            # Absolute: what stands before a colon is a protocol to ffmpeg
            writer = FFMPEG_VideoWriter(str(unfinished.absolute()), size, fps, ffmpeg_params=options)
            try:
                yield writer.write_frame
                writer.close()
            except BaseException:
                with suppress(Exception):
                    writer.close()
                raise

    return opened


def write_sheet(path: Path, pictures: Sequence[np.ndarray]) -> None:
    """
    Write pictures side by side in one file.

    :param path: of the contact sheet, ``.png``
    :param pictures: (height, width, 3) uint8, all of one size
    """
    from PIL import Image  # comes with matplotlib

    height, width = pictures[0].shape[:2]
    n_columns = 1 if len(pictures) == 1 or width > 2.2 * height else 2
    n_rows = -(-len(pictures) // n_columns)
    sheet = np.full((n_rows * (height + GAP) - GAP, n_columns * (width + GAP) - GAP, 3), 160, np.uint8)
    for i in range(n_rows * n_columns):
        row, column = divmod(i, n_columns)
        top, left = row * (height + GAP), column * (width + GAP)
        sheet[top : top + height, left : left + width] = pictures[i] if i < len(pictures) else 255
    with replacing(path) as unfinished:
        Image.fromarray(sheet).save(unfinished, format="PNG", optimize=True)
