"""The picture of one step, all its panels."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sb3_attnmem.inspection.episode import Episodes
from sb3_attnmem.inspection.observed import Picture
from sb3_attnmem.inspection.panels import (
    BarsPanel,
    Panel,
    StripPanel,
    TablePanel,
    TimePanel,
    past_of,
    title_of,
)
from sb3_attnmem.inspection.picture_panels import MapPanel, PicturePanel
from sb3_attnmem.inspection.views import View

DPI = 100
#: Inches
CELL, BARS, HEAD, TIME = 2.8, 2.3, 0.4, 1.2
MOST_COLUMNS = 4


class Board:
    """
    A figure that is laid out once; each step redraws what changes and nothing else.

    :param episode: to show
    :param names: of the actions
    """

    def __init__(self, episode: Episodes, names: Sequence[str]) -> None:
        self.episode = episode
        makers = _makers(episode)
        n_columns = min(max(len(makers), 2), MOST_COLUMNS)
        n_rows = -(-len(makers) // n_columns)
        has_bars = len(episode.looks[0].opinion.bars) > 0
        width, height = CELL * n_columns + (BARS if has_bars else 0.0), HEAD + CELL * n_rows + TIME
        layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEAD / height), wspace=0.04, hspace=0.05)
        self.figure = Figure(figsize=(_even(width), _even(height)), dpi=DPI, layout=layout)
        self.canvas = FigureCanvasAgg(self.figure)
        widths = [CELL] * n_columns + ([BARS] if has_bars else [])
        grid = self.figure.add_gridspec(
            n_rows + 1, len(widths), width_ratios=widths, height_ratios=[CELL] * n_rows + [TIME]
        )
        self.panels: list[Panel] = [
            make(self.figure.add_subplot(grid[divmod(i, n_columns)])) for i, make in enumerate(makers)
        ]
        if has_bars:
            self.panels.append(BarsPanel(self.figure.add_subplot(grid[:n_rows, -1]), episode, names))
        self.panels.append(TimePanel(self.figure.add_subplot(grid[n_rows, :]), episode))
        self.names = names
        self.headline = self.figure.text(0.01, 1 - 0.5 * HEAD / height, "", va="center", fontsize=10)
        self._lay_out()

    def _lay_out(self) -> None:
        self.show(0)
        self.canvas.draw()
        self.figure.set_layout_engine("none")
        for panel in self.panels:
            for artist in panel.moving:
                artist.set_animated(True)
        self.headline.set_animated(True)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, both even, as film formats want them"""
        return self.canvas.get_width_height()

    def draw(self, t: int) -> Picture:
        """
        :param t: step of the episode
        :return: (height, width, 3) uint8
        """
        self.show(t)
        self.canvas.restore_region(self.background)
        for panel in self.panels:
            for artist in panel.moving:
                panel.axes.draw_artist(artist)
        self.figure.draw_artist(self.headline)
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def show(self, t: int) -> None:
        """
        :param t: step of the episode
        """
        for panel in self.panels:
            panel.show(t)
        looks = self.episode.looks
        look = looks[t]
        action = np.array2string(look.action, precision=2)
        if look.action.ndim == 0 and int(look.action) < len(self.names):
            action = self.names[int(look.action)]
        parts = [
            f"step {t} of {len(looks)}",
            f"action {action}",
            f"reward {look.reward:.4g}",
            f"return so far {look.total:.4g}",
        ]
        if look.n_episode:
            parts.insert(0, f"episode {look.n_episode}")
        if look.opinion.value is not None:
            parts.append(f"value {look.opinion.value:.3g}")
        self.headline.set_text("      ".join(parts))


Maker = Callable[[Axes], Panel]


def _makers(episode: Episodes) -> list[Maker]:
    """:return: axes -> panel, in the order of the panels"""
    looks = episode.looks
    makers: list[Maker] = []
    pictures = {key: [look.pictures[key] for look in looks] for key in looks[0].pictures}
    renders = [look.render for look in looks if look.render is not None]
    if renders and not any(_same(renders[0], frames[0]) for frames in pictures.values()):
        makers.append(partial(PicturePanel, title="environment", pictures=renders))
    for key, frames in pictures.items():
        title = f"observation '{key}'" if key else "observation"
        makers.append(partial(PicturePanel, title=title, pictures=frames))
    tables = [look.table for look in looks if look.table is not None]
    if tables:
        makers.append(partial(_observation_table, tables=tables))
    for view in episode.views:
        weights = [look.weights[view.layer] for look in looks]
        if view.kind == "strip":
            makers.append(partial(StripPanel, view=view, gates=weights))
        elif view.kind == "map" and view.layer in episode.keys:
            frames = pictures[episode.keys[view.layer]]
            makers.append(partial(MapPanel, view=view, pictures=frames, weights=weights))
        else:
            starts = [look.starts for look in looks]
            makers.append(partial(_weight_table, view=view, weights=weights, starts=starts))
    return makers


def _observation_table(axes: Axes, tables: list[np.ndarray]) -> TablePanel:
    n_rows, n_columns = tables[0].shape
    rows = [str(i) for i in range(n_rows)] if n_rows > 1 else [""]
    return TablePanel(
        *(axes, "observation", tables, rows, [str(i) for i in range(n_columns)]),
        x="feature",
        y="entity (row)" if n_rows > 1 else "",
        label="value",
        at_least_zero=False,
    )


def _weight_table(axes: Axes, view: View, weights: list[np.ndarray], starts: list[bool]) -> TablePanel:
    if view.kind == "map":  # no picture of its size to lie over: the mean of its tiles
        weights = [weight.mean(axis=0) for weight in weights]
        rows, columns = (tuple(map(str, range(size))) for size in weights[0].shape)
        return TablePanel(axes, title_of(view), weights, rows, columns, "column", "row", "weight")
    x = {
        "frames": "frame (0: the newest)",
        "steps": "step that is looked at (0: the present)",
        "entities": "entity that is looked at (row)",
        "observation keys": "key that is looked at",
    }.get(view.seen, f"{view.seen} that are looked at")
    if view.rolls:
        tables = past_of(weights, starts)
        ages = tuple("now" if i == len(tables[0]) - 1 else str(i + 1 - len(tables[0])) for i in range(len(tables[0])))
        return TablePanel(axes, title_of(view), tables, ages, view.columns, x, "step that looks", "weight")
    return TablePanel(axes, title_of(view), weights, view.rows, view.columns, x, view.asks, "weight")


def _same(render: Picture, picture: Picture) -> bool:
    return render.shape == picture.shape and bool(np.array_equal(render, picture))


def _even(inches: float) -> float:
    return 2 * round(inches * DPI / 2) / DPI
