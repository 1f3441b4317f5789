"""The pictures of a memory report, with colours that the colour-blind can tell apart."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from sb3_attnmem.inspection.drawing import COLOURS
from sb3_attnmem.inspection.memory.contamination import CLEAN, Contaminated
from sb3_attnmem.inspection.memory.history import SURE, HistoryScore
from sb3_attnmem.inspection.memory.reach import SHARE, GradientReach
from sb3_attnmem.inspection.memory.trace import mean_by_age

WIDTH = 9.0  # inches
DPI = 110
#: Gradients are shown down to this share of the largest
FAINT = 1e-3


def as_png(figure: Figure) -> str:
    """:return: a data URL"""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white")
    return "data:image/png;base64," + b64encode(buffer.getvalue()).decode("ascii")


def history_picture(score: HistoryScore) -> Figure:
    """:return: mean return over k, with two standard errors, beside full memory's"""
    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    ks = [point.k for point in score.points]
    error = np.nan_to_num(SURE * score.error)
    axes.axhspan(score.mean - error, score.mean + error, color=COLOURS[6], alpha=0.12, lw=0)
    axes.axhline(score.mean, color=COLOURS[6], lw=1.5, label="full memory")
    axes.axhline(score.mean - score.allowed, color=COLOURS[6], lw=1, ls=":", label="loss that is tolerated")
    if ks:
        axes.errorbar(
            ks,
            [point.mean for point in score.points],
            yerr=np.nan_to_num([SURE * point.error for point in score.points]),
            fmt="o-",
            color=COLOURS[0],
            capsize=3,
            label="state rebuilt from the last k observations",
        )
    if score.needed is not None:
        axes.axvline(score.needed, color=COLOURS[1], lw=1.5, ls="--", label=f"enough: k = {score.needed}")
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.9, max(score.searched, 2) * 1.1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("k, observations that the state is rebuilt from (the present one included)")
    axes.set_ylabel("mean return\n(sum of rewards an episode)")
    _legend_above(axes)
    axes.grid(alpha=0.25)
    return figure


def reach_picture(reach: GradientReach) -> Figure:
    """:return: mean gradient over the lag, logarithmic"""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    lags = np.arange(len(reach.means))
    positive = reach.means > 0
    largest = reach.means.max()
    if positive.any():
        style: dict[str, Any] = dict(marker="o", ms=4) if len(lags) <= 64 else {}
        axes.plot(lags[positive], reach.means[positive], color=COLOURS[0], **style)
        axes.set_yscale("log")
        axes.set_ylim(max(reach.means[positive].min(), FAINT * largest) / 2, largest * 2)
        _plain(axes.yaxis)
        axes.axhline(SHARE * largest, color=COLOURS[6], lw=1, ls=":", label=f"{100 * SHARE:g} % of the largest")
        axes.axvline(
            reach.observations - 1,
            color=COLOURS[1],
            lw=1.5,
            ls="--",
            label=f"reached: a lag of {reach.observations - 1}",
        )
        _legend_above(axes)
    seen = np.flatnonzero(reach.means >= FAINT * largest)[-1] if largest > 0 else 0
    axes.set_xlim(-0.5, max(seen, 1) + 0.5)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("lag k (steps back from the present)")
    axes.set_ylabel("mean $|\\partial Q_t / \\partial x_{t-k}|$\n(Q per unit of feature)")
    axes.grid(alpha=0.25)
    return figure


def contamination_picture(contaminated: Sequence[Contaminated]) -> Figure:
    """:return: mean ΔQ by the step of the episode, a line for each length of foreign history, logarithmic"""
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    for i, one in enumerate(contaminated):
        style = ("-", "--", ":", "-.")[i % 4]
        name = f"{one.k} foreign steps"
        axes.plot(np.maximum(one.gaps, FAINT * CLEAN), style, color=COLOURS[i % len(COLOURS)], label=name)
    axes.axhline(CLEAN, color=COLOURS[6], lw=1, ls=":", label=f"clean: {100 * CLEAN:g} %")
    axes.set_yscale("log")
    _plain(axes.yaxis)
    _legend_above(axes)
    whole_numbers(axes.xaxis)
    axes.set_xlabel("step of the episode")
    axes.set_ylabel("mean ΔQ\n(share of the largest Q-value)")
    axes.grid(alpha=0.25)
    return figure


def map_picture(values: np.ndarray, label: str, x: str, y: str, log: bool = False, square: bool = True) -> Figure:
    """
    Draw a heat map.

    :param values: (rows, columns), nan where there is nothing
    :param label: of the colours
    :param x: what the columns are
    :param y: what the rows are
    :param log: colours by powers of ten, three of them at most
    :param square: pixels as high as wide
    :return: a heat map
    """
    height = 4.6 if square else min(1.4 + 0.12 * len(values), 5.0)
    figure = Figure(figsize=(6.2 if square else WIDTH, height), layout="constrained")
    axes = figure.subplots()
    finite = values[np.isfinite(values)]
    top = finite.max(initial=0.0)
    options: dict[str, Any] = {"vmin": 0.0}
    if log and top > 0:
        least = max(FAINT * top, np.quantile(finite, 0.02))
        values = np.maximum(values, least)
        options = {"norm": LogNorm(least, max(top, 1.01 * least))}
    axes.set_facecolor("#e8e8e8")
    image = axes.imshow(
        values, cmap="viridis", aspect="equal" if square else "auto", interpolation="nearest", **options
    )
    bar = figure.colorbar(image, ax=axes, label=label, shrink=0.9)
    if "norm" in options:
        _plain(bar.ax.yaxis)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    for axis in (axes.xaxis, axes.yaxis):
        whole_numbers(axis)
    return figure


def age_picture(weights: np.ndarray) -> Figure:
    """
    Draw attention weights by age.

    :param weights: (heads, T, T), row t column s, nan where a step cannot look
    :return: mean weight by age, a line a head
    """
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    axes = figure.subplots()
    for head, by_age in enumerate(mean_by_age(weights)):
        axes.plot(by_age, color=COLOURS[head % len(COLOURS)], label=f"head {head}", lw=1.3)
    axes.set_xlabel("age (steps back from the present)")
    axes.set_ylabel("mean attention weight")
    axes.set_ylim(0, None)
    whole_numbers(axes.xaxis)
    _legend_above(axes)
    axes.grid(alpha=0.25)
    return figure


def _legend_above(axes: Axes) -> None:
    axes.legend(fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0), frameon=False, borderaxespad=0.2)


def _plain(axis: Axis) -> None:
    """:param axis: logarithmic, its limits set: is marked with plain numbers, and with some between powers of ten"""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_locator(LogLocator(subs=(2, 5) if high / low < 300 else (1,)))
    axis.set_minor_formatter(lambda value, _: f"{value:g}")


def whole_numbers(axis: Axis) -> None:
    """:param axis: is marked with whole numbers only"""
    axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
