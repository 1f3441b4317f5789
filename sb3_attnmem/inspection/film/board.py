"""The picture of one step, all its panels."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from sb3_attnmem.inspection.drawing import plain
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes
from sb3_attnmem.inspection.film.panels import (
    LONGEST_NAME,
    BarsPanel,
    Panel,
    StripPanel,
    TablePanel,
    TimePanel,
    past_of,
    title_of,
)
from sb3_attnmem.inspection.film.picture_panels import MapPanel, PicturePanel
from sb3_attnmem.inspection.film.views import View

DPI = 100
#: Inches
CELL, BARS, HEAD, TIME = 2.8, 2.3, 0.4, 1.2
MOST_COLUMNS = 4


class Board:
    """
    A figure that is laid out once; each step redraws what changes and nothing else.

    :param filmed: to show
    :param names: of the actions
    """

    def __init__(self, filmed: FilmedEpisodes, names: Sequence[str]) -> None:
        self.filmed = filmed
        makers = _makers(filmed)
        n_columns = min(max(len(makers), 2), MOST_COLUMNS)
        n_rows = -(-len(makers) // n_columns)
        has_bars = len(filmed.steps[0].seen.estimate.bars) > 0
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
            self.panels.append(BarsPanel(self.figure.add_subplot(grid[:n_rows, -1]), filmed, names))
        self.panels.append(TimePanel(self.figure.add_subplot(grid[n_rows, :]), filmed))
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

    def draw(self, t: int) -> np.ndarray:
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
        steps = self.filmed.steps
        step = steps[t]
        action = plain(np.array2string(step.action, precision=2), 60)
        if len(step.bars) == 1 and step.bars[0] < len(self.names):
            action = plain(self.names[step.bars[0]], LONGEST_NAME)
        parts = [
            f"step {t} of {len(steps)}",
            f"action {action}",
            f"reward {step.reward:.4g}",
            f"return so far {step.total:.4g}",
        ]
        if step.n_episode:
            parts.insert(0, f"episode {step.n_episode}")
        if step.seen.estimate.value is not None:
            parts.append(f"value {step.seen.estimate.value:.3g}")
        self.headline.set_text("      ".join(parts))


Maker = Callable[[Axes], Panel]


def _makers(filmed: FilmedEpisodes) -> list[Maker]:
    """:return: axes -> panel, in the order of the panels"""
    steps = filmed.steps
    makers: list[Maker] = []
    pictures = {key: [step.seen.pictures[key] for step in steps] for key in steps[0].seen.pictures}
    renders = [step.seen.render for step in steps if step.seen.render is not None]
    if renders and not any(_same(renders[0], frames[0]) for frames in pictures.values()):
        makers.append(partial(PicturePanel, title="environment", pictures=renders))
    for key, frames in pictures.items():
        title = f"observation '{plain(key, 24)}'" if key else "observation"
        makers.append(partial(PicturePanel, title=title, pictures=frames))
    tables = [step.seen.table for step in steps if step.seen.table is not None]
    if tables:
        makers.append(partial(_observation_table, tables=tables))
    for view in filmed.views:
        weights = [step.seen.weights[view.layer] for step in steps]
        if view.kind == "strip":
            makers.append(partial(StripPanel, view=view, gates=weights))
        elif view.kind == "map" and view.layer in filmed.keys:
            frames = pictures[filmed.keys[view.layer]]
            makers.append(partial(MapPanel, view=view, pictures=frames, weights=weights))
        else:
            starts = [step.starts for step in steps]
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


def _same(render: np.ndarray, picture: np.ndarray) -> bool:
    return render.shape == picture.shape and bool(np.array_equal(render, picture))


def _even(inches: float) -> float:
    return 2 * round(inches * DPI / 2) / DPI
