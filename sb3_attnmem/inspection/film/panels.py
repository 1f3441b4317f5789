"""Tables, bars and lines in a film's picture: each built once, then told the step."""

from collections.abc import Sequence
from typing import Any, Protocol

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import FixedLocator, MaxNLocator

from sb3_attnmem.inspection.drawing import COLOURS, plain
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes
from sb3_attnmem.inspection.film.views import View

BLUE, ORANGE, GREEN, PINK = COLOURS[:4]
#: Names along an axis, rows of the past
MOST_NAMES, N_PAST = 14, 24
#: Numbers from here on are written with a power of ten
MANY = 1e7
#: Letters of a name
LONGEST_NAME = 16
#: So that ticks that lie on one another are darker than one alone
TICK_ALPHA = 0.45


class Panel(Protocol):
    """
    Something that is drawn anew at each step.

    :ivar axes: that it draws into
    :ivar moving: what changes from step to step, back to front
    """

    axes: Axes
    moving: list[Artist]

    def show(self, t: int) -> None:
        """
        :param t: step of the episode
        """


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
        values = np.concatenate([table[np.isfinite(table)] for table in tables])
        top = float(values.max(initial=0.0 if at_least_zero else -np.inf))
        bottom = 0.0 if at_least_zero else float(values.min(initial=np.inf))
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
            axis.set_ticks(shown, [plain(names[i], LONGEST_NAME) for i in shown])
        axes.tick_params(labelsize=8, length=2)
        longest = max(map(len, columns))
        if (longest > 4 and len(columns) > 2) or longest > 12:
            axes.tick_params(axis="x", rotation=30 if longest <= 12 else 90)
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
    What the agent expects of each action; the action that it took is marked. Where it knows the distribution of each
    return, a tick for each of its equally probable quantiles lies behind the bar, which ends at their mean: ticks are
    dense where the return is likely to be.

    :param axes: to draw into
    :param filmed: of an agent with such numbers
    :param names: of the actions
    """

    def __init__(self, axes: Axes, filmed: FilmedEpisodes, names: Sequence[str]) -> None:
        self.axes, self.steps = axes, filmed.steps
        bars = np.stack([step.seen.estimate.bars for step in filmed.steps])
        self.unit = filmed.steps[0].seen.estimate.unit
        self.ticks = [
            LineCollection([], colors="#222222", linewidths=0.9, alpha=TICK_ALPHA)
            for _ in range(0 if self.steps[0].seen.estimate.quantiles is None else bars.shape[1])
        ]
        # Under ticks the bars are thin
        self.bars = axes.barh(range(bars.shape[1]), bars[0], color=BLUE, height=0.3 if self.ticks else 0.7)
        for ticks in self.ticks:
            axes.add_collection(ticks)
        all_values = [step.seen.estimate.quantiles for step in self.steps] if self.ticks else [bars]
        low = min(min(float(np.min(values)) for values in all_values), 0.0)  # type: ignore[arg-type]
        high = max(max(float(np.max(values)) for values in all_values), 0.0)  # type: ignore[arg-type]
        room = max(high - low, 1e-6)
        self.decimals = int(np.clip(2 - np.floor(np.log10(room)), 0, 4))
        # Room for the numbers at the right
        axes.set_xlim(low - 0.04 * room, high + 0.55 * room)
        axes.set_ylim(bars.shape[1] - 0.4, -0.6)
        axes.axvline(0, color="#888888", lw=0.8)
        size = 8 if bars.shape[1] <= 10 else 6
        axes.set_yticks(range(bars.shape[1]), [plain(name, LONGEST_NAME) for name in names], fontsize=size)
        axes.tick_params(axis="x", labelsize=8, length=2)
        discrete = self.unit != "action"
        title = {"Q-value": "Q-values", "probability": "probabilities"}.get(self.unit, "action taken")
        title = "quantiles; bar: mean" if self.ticks else title
        axes.set_title(f"{title}\n(striped: taken)" if discrete else title, fontsize=9)
        names_of_x = {"Q-value": "return" if self.ticks else "expected return", "probability": "probability"}
        axes.set_xlabel(names_of_x.get(self.unit, "value"), fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        right: dict[str, Any] = dict(transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=size)
        self.numbers = [axes.text(0.98, i, "", **right) for i in range(bars.shape[1])]
        self.moving: list[Artist] = [*self.ticks, *self.bars, *self.numbers]

    def show(self, t: int) -> None:
        step = self.steps[t]
        quantiles = step.seen.estimate.quantiles
        if quantiles is not None:
            for i, ticks in enumerate(self.ticks):
                ticks.set_segments([[(x, i - 0.35), (x, i + 0.35)] for x in quantiles[:, i].tolist()])
        for i, (bar, number, value) in enumerate(zip(self.bars, self.numbers, step.seen.estimate.bars, strict=True)):
            taken = i in step.bars
            bar.set_width(value)
            bar.set(facecolor=ORANGE if taken else BLUE, hatch="///" if taken else "", edgecolor="white")
            digits = (
                f"{round(float(value), self.decimals) + 0.0:.{self.decimals}f}" if abs(value) < MANY else f"{value:.3g}"
            )
            number.set_text(f"{'◀ ' if taken else ''}{digits}")


class TimePanel:
    """
    The value over the whole episode, where rewards came, and where we are.

    :param axes: to draw into
    :param filmed: to draw
    """

    def __init__(self, axes: Axes, filmed: FilmedEpisodes) -> None:
        self.axes = axes
        steps = filmed.steps
        values = [step.seen.estimate.value for step in steps if step.seen.estimate.value is not None]
        if values:
            name = "largest Q" if steps[0].seen.estimate.unit == "Q-value" else "value"
            axes.plot(values, "-" if len(values) > 1 else "o", color=BLUE, lw=1.3, label=name)
            axes.set_ylabel(name, fontsize=8)
        for sign, style, label in ((1, "^", "reward > 0"), (-1, "v", "reward < 0")):
            when = [t for t, step in enumerate(steps) if sign * step.reward > 0]
            if when:
                height = [0.06 if sign < 0 else 0.94] * len(when)
                axes.plot(
                    *(when, height, style), color=GREEN if sign > 0 else PINK, ms=5, label=label,
                    transform=axes.get_xaxis_transform(),
                )  # fmt: skip
        for t, step in enumerate(steps):
            if step.starts and t:
                axes.axvline(t - 0.5, color="#888888", lw=1, ls=":")
        axes.set_xlim(-0.5, max(len(steps) - 0.5, 0.5))
        axes.set_xlabel("step", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True) if len(steps) > 1 else FixedLocator([0]))
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
    Put the last rows below one another, for each step.

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
    name = plain(name, max(width, 40))
    return f"{name}\n({view.note})" if view.note else name
