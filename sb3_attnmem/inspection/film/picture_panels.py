"""Pictures in a film's picture: what was seen, and where the agent looked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sb3_attnmem.inspection.drawing import COLOURS
from sb3_attnmem.inspection.film.panels import title_of
from sb3_attnmem.inspection.film.views import View
from sb3_attnmem.inspection.overlay import attention_overlay

#: Pixels that an overlay is about as wide as; steps that a glimpse is followed back
WIDE, N_TRAIL = 280, 8


class PicturePanel:
    """
    A picture as it is.

    :param axes: to draw into
    :param title: above it
    :param pictures: one a step
    """

    def __init__(self, axes: Axes, title: str, pictures: Sequence[np.ndarray]) -> None:
        self.axes, self.pictures = axes, pictures
        _bare(axes, title)
        # Small pictures in whole pixels; large ones are shrunk smoothly
        style = "nearest" if max(pictures[0].shape[:2]) < WIDE else "antialiased"
        self.image = axes.imshow(pictures[0], interpolation=style)
        self.moving: list[Artist] = [self.image]

    def show(self, t: int) -> None:
        self.image.set_data(self.pictures[t])


class MapPanel:
    """
    Attention over the picture of the observation: lit where it looked, a frame around what the place of the largest
    weight sees; the glimpse of a memory leaves a trail.

    :param axes: to draw into
    :param view: of the layer
    :param pictures: of the observation, one a step
    :param weights: (tiles, H, W), one a step
    """

    def __init__(self, axes: Axes, view: View, pictures: Sequence[np.ndarray], weights: Sequence[np.ndarray]) -> None:
        assert view.grid is not None
        self.axes, self.view, self.grid = axes, view, view.grid
        self.pictures, self.weights = pictures, weights
        self.n_tiles = len(weights[0])
        self.n_columns = int(np.ceil(np.sqrt(self.n_tiles)))
        height, width = pictures[0].shape[:2]
        self.zoom = max(round(WIDE / (max(height, width) * self.n_columns)), 1)
        self.top = max(float(max(weight.max() for weight in weights)), 1e-12)
        # Gates may all be half open: what tells is where they differ
        self.bottom = float(min(weight.min() for weight in weights)) if view.is_gate else 0.0
        _bare(axes, title_of(view))
        self.image = axes.imshow(self._overlay(0), interpolation="nearest")
        self.text = axes.text(0.5, -0.02, "", transform=axes.transAxes, ha="center", va="top", fontsize=8)
        self.moving: list[Artist] = [self.image, self.text]
        if self.n_tiles == 1:
            self.box = Rectangle((0, 0), 1, 1, fill=False, ec="white", lw=1.5)
            self.box.set_visible(not view.is_gate)
            axes.add_patch(self.box)
            (self.trail,) = axes.plot([], [], "-", color=COLOURS[5], lw=1.5)
            self.moving += [self.trail, self.box]
        else:
            for head in range(self.n_tiles):
                row, column = divmod(head, self.n_columns)
                place = (column * (width * self.zoom + 2) + 3, row * (height * self.zoom + 2) + 3)
                label: dict[str, Any] = dict(
                    color="white", va="top", fontsize=7, bbox=dict(fc="black", ec="none", alpha=0.6, pad=1)
                )
                self.moving.append(axes.text(*place, f"head {head}", **label))

    def show(self, t: int) -> None:
        self.image.set_data(self._overlay(t))
        weights = self.weights[t]
        if self.view.is_gate:
            self.text.set_text(f"gate, dark: {self.bottom:.2f}, bright: {self.top:.2f} open")
        else:
            uniform = f"{1 / self.grid.n_places:.2g}"
            self.text.set_text(f"largest {weights.max():.2f}, brightest: {self.top:.2g}; uniform: {uniform}")
        if self.n_tiles > 1:
            return
        top, left, bottom, right = self.grid.box(*_strongest(weights[0]))
        self.box.set_bounds(
            left * self.zoom - 0.5, top * self.zoom - 0.5, (right - left) * self.zoom, (bottom - top) * self.zoom
        )
        if ".memory." in f".{self.view.layer}":
            past = [self._middle(_strongest(self.weights[s][0])) for s in range(max(t - N_TRAIL, 0), t + 1)]
            self.trail.set_data(np.array(past).T[::-1] * self.zoom - 0.5)

    def _middle(self, place: tuple[int, int]) -> tuple[float, float]:
        """:return: row and column, in pixels of the image, of what the place sees"""
        row, column = self.grid.centre(*place)
        # The middle of a patch that hangs over the edge may lie beyond it
        return min(row, self.grid.image_height - 0.5), min(column, self.grid.image_width - 0.5)

    def _overlay(self, t: int) -> np.ndarray:
        picture = self.pictures[t]
        tiles = [
            attention_overlay(
                picture, weight - self.bottom, self.grid, zoom=self.zoom, top=max(self.top - self.bottom, 1e-12)
            )
            for weight in self.weights[t]
        ]
        if len(tiles) == 1:
            return tiles[0]
        height, width = tiles[0].shape[:2]
        n_rows = -(-len(tiles) // self.n_columns)
        sheet = np.full((n_rows * (height + 2) - 2, self.n_columns * (width + 2) - 2, 3), 255, np.uint8)
        for i, tile in enumerate(tiles):
            row, column = divmod(i, self.n_columns)
            top, left = row * (height + 2), column * (width + 2)
            sheet[top : top + height, left : left + width] = tile
        return sheet


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _strongest(weights: Any) -> tuple[int, int]:
    i, j = np.unravel_index(int(weights.argmax()), weights.shape)
    return int(i), int(j)
