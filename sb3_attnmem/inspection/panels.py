"""One part of a film's picture each: built once, then told the step."""

from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, MaxNLocator

from sb3_attnmem.extractors import attention_overlay
from sb3_attnmem.inspection.episode import Episodes
from sb3_attnmem.inspection.memory_pictures import COLOURS
from sb3_attnmem.inspection.observed import Picture
from sb3_attnmem.inspection.views import View

BLUE, ORANGE = COLOURS[0], COLOURS[1]
#: Pixels that an overlay is about as wide as
WIDE = 280
#: Names along an axis, rows of the past, steps that a glimpse is followed back
MOST_NAMES, N_PAST, N_TRAIL = 14, 24, 8


class Panel(Protocol):
    """
    :ivar axes: that it draws into
    :ivar moving: what changes from step to step, back to front
    """

    axes: Axes
    moving: list[Artist]

    def show(self, t: int) -> None:
        """
        :param t: step of the episode
        """


class PicturePanel:
    """
    A picture as it is.

    :param axes: to draw into
    :param title: above it
    :param pictures: one a step
    """

    def __init__(self, axes: Axes, title: str, pictures: Sequence[Picture]) -> None:
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

    def __init__(self, axes: Axes, view: View, pictures: Sequence[Picture], weights: Sequence[np.ndarray]) -> None:
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
            (self.trail,) = axes.plot([], [], "-", color="#56B4E9", lw=1.5)
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
            past = [self.grid.centre(*_strongest(self.weights[s][0])) for s in range(max(t - N_TRAIL, 0), t + 1)]
            self.trail.set_data(np.array(past).T[::-1] * self.zoom - 0.5)

    def _overlay(self, t: int) -> Picture:
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


class TablePanel:
    """
    Numbers as colours, rows and columns labelled.

    :param axes: to draw into
    :param title: above it
    :param tables: (rows, columns), one a step; nan where there is nothing
    :param rows: names
    :param columns: names
    :param x: what the columns are
    :param y: what the rows are
    :param label: of the colours
    :param at_least_zero: whether the colours begin at 0
    """

    def __init__(
        self,
        axes: Axes,
        title: str,
        tables: Sequence[np.ndarray],
        rows: Sequence[str],
        columns: Sequence[str],
        x: str,
        y: str,
        label: str,
        at_least_zero: bool = True,
    ) -> None:
        self.axes, self.tables = axes, tables
        top = max(float(np.nanmax(table)) for table in tables)
        bottom = 0.0 if at_least_zero else min(float(np.nanmin(table)) for table in tables)
        colours = matplotlib.colormaps["viridis" if at_least_zero else "cividis"].with_extremes(bad="#dddddd")
        self.image = axes.imshow(
            tables[0], aspect="auto", interpolation="nearest", cmap=colours, vmin=bottom, vmax=max(top, bottom + 1e-12)
        )
        self.moving: list[Artist] = [self.image]
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(x, fontsize=8)
        axes.set_ylabel(y, fontsize=8)
        for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
            shown = [i for i in range(0, len(names), -(-len(names) // MOST_NAMES)) if names[i]]
            axis.set_ticks(shown, [names[i] for i in shown])
        axes.tick_params(labelsize=8, length=2)
        if max(map(len, columns)) > 4 and len(columns) > 2:
            axes.tick_params(axis="x", rotation=30)
        bar = axes.figure.colorbar(self.image, ax=axes, fraction=0.06, pad=0.03)
        bar.ax.tick_params(labelsize=7)
        bar.set_label(label, fontsize=8)

    def show(self, t: int) -> None:
        self.image.set_data(self.tables[t])


class StripPanel:
    """
    Gates as a strip of bars.

    :param axes: to draw into
    :param view: of the layer
    :param gates: (C,), one a step
    """

    def __init__(self, axes: Axes, view: View, gates: Sequence[np.ndarray]) -> None:
        self.axes, self.gates = axes, gates
        self.bars = axes.stairs(gates[0], np.arange(len(gates[0]) + 1) - 0.5, fill=True, color=BLUE)
        self.moving: list[Artist] = [self.bars]
        axes.set_ylim(0, 1)
        axes.set_xlim(-0.5, len(gates[0]) - 0.5)
        axes.set_title(title_of(view), fontsize=9)
        axes.set_xlabel("channel", fontsize=8)
        axes.set_ylabel("gate (0: shut, 1: open)", fontsize=8)
        axes.tick_params(labelsize=8, length=2)

    def show(self, t: int) -> None:
        self.bars.set_data(self.gates[t])


class BarsPanel:
    """
    What the agent expects of each action; the action that it took is marked.

    :param axes: to draw into
    :param episode: of an agent with such numbers
    :param names: of the actions
    """

    def __init__(self, axes: Axes, episode: Episodes, names: Sequence[str]) -> None:
        self.axes, self.looks = axes, episode.looks
        bars = np.stack([look.opinion.bars for look in episode.looks])
        self.unit = episode.looks[0].opinion.unit
        self.bars = axes.barh(range(bars.shape[1]), bars[0], color=BLUE, height=0.7)
        low, high = min(bars.min(), 0.0), max(bars.max(), 0.0)
        room = max(high - low, 1e-6)
        self.decimals = int(np.clip(2 - np.floor(np.log10(room)), 0, 4))
        # Room for the numbers at the right
        axes.set_xlim(low - 0.04 * room, high + 0.55 * room)
        axes.set_ylim(bars.shape[1] - 0.4, -0.6)
        axes.axvline(0, color="#888888", lw=0.8)
        size = 8 if bars.shape[1] <= 10 else 6
        axes.set_yticks(range(bars.shape[1]), names, fontsize=size)
        axes.tick_params(axis="x", labelsize=8, length=2)
        discrete = self.unit != "action"
        title = {"Q-value": "Q-values", "probability": "probabilities"}.get(self.unit, "action taken")
        axes.set_title(f"{title}\n(striped: taken)" if discrete else title, fontsize=9)
        axes.set_xlabel(
            {"Q-value": "expected return", "probability": "probability"}.get(self.unit, "value"), fontsize=8
        )
        axes.xaxis.set_major_locator(MaxNLocator(4))
        right: dict[str, Any] = dict(transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=size)
        self.numbers = [axes.text(0.98, i, "", **right) for i in range(bars.shape[1])]
        self.moving: list[Artist] = [*self.bars, *self.numbers]

    def show(self, t: int) -> None:
        look = self.looks[t]
        for i, (bar, number, value) in enumerate(zip(self.bars, self.numbers, look.opinion.bars, strict=True)):
            taken = self.unit != "action" and i == int(look.action)
            bar.set_width(value)
            bar.set(facecolor=ORANGE if taken else BLUE, hatch="///" if taken else "", edgecolor="white")
            number.set_text(f"{'◀ ' if taken else ''}{round(float(value), self.decimals) + 0.0:.{self.decimals}f}")


class TimePanel:
    """
    The value over the whole episode, where rewards came, and where we are.

    :param axes: to draw into
    :param episode: to draw
    """

    def __init__(self, axes: Axes, episode: Episodes) -> None:
        self.axes = axes
        looks = episode.looks
        values = [look.opinion.value for look in looks if look.opinion.value is not None]
        if values:
            name = "largest Q" if looks[0].opinion.unit == "Q-value" else "value"
            axes.plot(values, "-" if len(values) > 1 else "o", color=BLUE, lw=1.3, label=name)
            axes.set_ylabel(name, fontsize=8)
        for sign, style, label in ((1, "^", "reward > 0"), (-1, "v", "reward < 0")):
            steps = [t for t, look in enumerate(looks) if sign * look.reward > 0]
            if steps:
                height = [0.06 if sign < 0 else 0.94] * len(steps)
                axes.plot(
                    *(steps, height, style), color="#009E73" if sign > 0 else "#CC79A7", ms=5, label=label,
                    transform=axes.get_xaxis_transform(),
                )  # fmt: skip
        for t, look in enumerate(looks):
            if look.starts and t:
                axes.axvline(t - 0.5, color="#888888", lw=1, ls=":")
        axes.set_xlim(-0.5, max(len(looks) - 0.5, 0.5))
        axes.set_xlabel("step", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True) if len(looks) > 1 else FixedLocator([0]))
        axes.tick_params(labelsize=8, length=2)
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=3, frameon=False)
        self.now = axes.axvline(0, color=ORANGE, lw=1.5)
        self.moving: list[Artist] = [self.now]

    def show(self, t: int) -> None:
        self.now.set_xdata([t, t])


def past_of(rows: Sequence[np.ndarray], starts: Sequence[bool]) -> list[np.ndarray]:
    """
    :param rows: (1, K), one a step
    :param starts: whether an episode begins at a step
    :return: (N_PAST or fewer, K), one a step: the last rows of the same episode, the newest at the bottom
    """
    n, n_keys = min(N_PAST, len(rows)), rows[0].shape[1]
    found, begin = [], 0
    for t in range(len(rows)):
        begin = t if starts[t] else begin
        recent = np.concatenate(rows[max(begin, t + 1 - n) : t + 1])
        found.append(np.concatenate([np.full((n - len(recent), n_keys), np.nan), recent]))
    return found


def title_of(view: View, width: int = 30) -> str:
    """:return: the layer's name and what was averaged, in lines that are not wider than a panel"""
    name = view.layer.removeprefix("q_net.").removeprefix("quantile_net.")
    while len(name) > width and "." in name:
        name = "…" + name.partition(".")[2].lstrip("…")
    return f"{name}\n({view.note})" if view.note else name


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])


def _strongest(weights: Any) -> tuple[int, int]:
    i, j = np.unravel_index(int(weights.argmax()), weights.shape)
    return int(i), int(j)
