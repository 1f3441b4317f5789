"""How the keys of an attention layer lie over the observation."""

from __future__ import annotations

from dataclasses import dataclass

from sb3_attnmem.common.checks import check_integers


@dataclass(frozen=True)
class PlaceGrid:
    """
    Keys that are the places of an H×W grid laid over an image, row by row.

    Place (i, j) sees the square of ``field`` × ``field`` pixels whose top left pixel is
    (``start + i * stride``, ``start + j * stride``); with padding the square may hang over the image's edge.

    :param height: H, rows of places
    :param width: W, columns of places
    :param image_height: pixels
    :param image_width: pixels
    :param stride: pixels from one place to the next
    :param field: pixels on a side of what one place sees (its receptive field)
    :param start: first pixel row (and column) of place (0, 0); negative with padding
    :raises ValueError: when a size is no integer of at least 1
    """

    height: int
    width: int
    image_height: int
    image_width: int
    stride: int = 1
    field: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        check_integers(height=self.height, width=self.width, stride=self.stride, field=self.field)
        check_integers(image_height=self.image_height, image_width=self.image_width)

    @classmethod
    def of_pixels(cls, height: int, width: int) -> PlaceGrid:
        """
        Build the grid in which every pixel is a place.

        :param height: pixels
        :param width: pixels
        :return: the grid in which every pixel is a place
        """
        return cls(height, width, height, width)

    @property
    def n_places(self) -> int:
        """P = H * W"""
        return self.height * self.width

    def after_conv(self, kernel_size: int, stride: int = 1, padding: int = 0) -> PlaceGrid:
        """
        Compute the grid of a convolution's output.

        :param kernel_size: of a square convolution that reads this grid
        :param stride: of that convolution
        :param padding: of that convolution
        :return: the grid of its output
        """
        return PlaceGrid(
            height=(self.height + 2 * padding - kernel_size) // stride + 1,
            width=(self.width + 2 * padding - kernel_size) // stride + 1,
            image_height=self.image_height,
            image_width=self.image_width,
            stride=self.stride * stride,
            field=self.field + (kernel_size - 1) * self.stride,
            start=self.start - padding * self.stride,
        )

    def box(self, i: int, j: int) -> tuple[int, int, int, int]:
        """
        Find the pixels that a place sees.

        :param i: row of the place
        :param j: column of the place
        :return: the pixels it sees as (top, left, bottom, right), bottom and right exclusive, cut at the image's edge
        """
        top, left = self.start + i * self.stride, self.start + j * self.stride
        return (
            max(top, 0),
            max(left, 0),
            min(top + self.field, self.image_height),
            min(left + self.field, self.image_width),
        )

    def centre(self, i: int, j: int) -> tuple[float, float]:
        """
        Find the middle of what a place sees.

        :param i: row of the place
        :param j: column of the place
        :return: the middle of its receptive field in pixels (row, column); the middle of pixel 0 is 0.5
        """
        middle = self.start + self.field / 2
        return middle + i * self.stride, middle + j * self.stride


@dataclass(frozen=True)
class KeyList:
    """
    Keys that are listed rather than laid over an image.

    :param kind: what a key is: "frames", "entities" or "observation keys"
    :param names: one a key, in the order of the last dimension of the weights.
        Frames are named by their age ("-3", "-2", "-1", "0": the newest is "0"), entities by their row.
    """

    kind: str
    names: tuple[str, ...]


Layout = PlaceGrid | KeyList
