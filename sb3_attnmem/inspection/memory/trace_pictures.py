"""One episode, step by step, in panels over one another."""

from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sb3_attnmem.common.observations import map_observation, named_arrays
from sb3_attnmem.inspection.drawing import COLOURS, plain
from sb3_attnmem.inspection.memory.pictures import WIDTH, whole_numbers
from sb3_attnmem.inspection.memory.trace import EpisodeTrace

#: Lines in a panel beyond which a heat map is drawn
MAX_LINES = 8
#: Letters of a name
LONGEST_NAME = 24
#: Images in a strip
N_FRAMES = 8


def trace_picture(trace: EpisodeTrace, value_name: str = "Q-value") -> Figure:
    """:return: observations, actions, rewards and Q-values beside what the memory does, over the steps of an episode"""
    panels: list[tuple[float, Any]] = [
        (1.4, lambda axes: _observations(axes, trace)),
        (0.9, lambda axes: _actions(axes, trace)),
        (0.9, lambda axes: _rewards(axes, trace)),
        (1.3, lambda axes: _lines(axes, value_name, _q_lines(trace))),
    ]
    if trace.state_norms:
        panels.append((1.3, lambda axes: _lines(axes, "norm of the\nstate", trace.state_norms)))
    for name, values in trace.gates.items():
        panels.append((1.1, lambda axes, name=name, values=values: _band(axes, name, values)))
    if trace.alpha is not None:
        panels.append((1.1, lambda axes: _band(axes, "fusion α\n(1: the present)", trace.alpha)))
    figure = Figure(figsize=(WIDTH, sum(height for height, _ in panels) + 0.5), layout="constrained")
    grid = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=[height for height, _ in panels])
    for axes, (_, draw) in zip(grid[:, 0], panels, strict=True):
        draw(axes)
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.5, trace.n_steps - 0.5)
        for begin in np.flatnonzero(trace.episode.starts[: trace.n_steps])[1:]:
            axes.axvline(begin - 0.5, color="#888888", lw=1, ls=":")
    grid[-1, 0].set_xlabel("step of the episode")
    whole_numbers(grid[-1, 0].xaxis)
    return figure


def film_picture(trace: EpisodeTrace) -> Figure | None:
    """:return: some of the images that the agent saw; None where there are none"""
    steps = np.unique(np.linspace(0, trace.n_steps - 1, N_FRAMES).round().astype(int))
    frames = [
        (key, [_as_image(trace.observed.upright(trace.episode.observations[t], key)) for t in steps])
        for key in trace.observed.images
    ]
    if not frames:
        return None
    figure = Figure(figsize=(WIDTH, 1.4 * len(frames)), layout="constrained")
    grid = figure.subplots(len(frames), len(steps), squeeze=False)
    for row, (key, images) in zip(grid, frames, strict=True):
        for axes, step, image in zip(row, steps, images, strict=True):
            axes.imshow(image, cmap="gray")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(f"step {step}", fontsize=8)
        row[0].set_ylabel(plain(key or "observation", LONGEST_NAME), fontsize=8)
    return figure


def _as_image(frame: np.ndarray) -> np.ndarray:
    """
    :param frame: (height, width, C)
    :return: (height, width, 3), or (height, width) of the newest of stacked or of the only channel
    """
    return frame if frame.shape[2] == 3 else frame[..., -1]


def _lines(axes: Axes, label: str, lines: dict[str, np.ndarray], marker: str = "") -> None:
    for i, (name, values) in enumerate(lines.items()):
        axes.plot(
            values,
            marker=marker,
            color=COLOURS[i % len(COLOURS)],
            lw=1.3,
            label=plain(name, LONGEST_NAME),
            ls=" " if marker else "-" if i < len(COLOURS) else "--",
        )
    axes.set_ylabel(label, fontsize=8)
    axes.grid(alpha=0.25)
    if len(lines) > 1 or next(iter(lines), "state") != "state":
        _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, borderaxespad=0.3)


def _q_lines(trace: EpisodeTrace) -> dict[str, np.ndarray]:
    q_values = trace.episode.q_values[: trace.n_steps]
    if q_values.shape[1] <= MAX_LINES:
        what = "action" if trace.episode.actions.ndim == 1 else "choice"
        return {f"Q, {what} {i}": column for i, column in enumerate(q_values.T)}
    return {"largest Q": q_values.max(axis=1), "mean Q": q_values.mean(axis=1), "least Q": q_values.min(axis=1)}


def _actions(axes: Axes, trace: EpisodeTrace) -> None:
    actions = trace.episode.actions[: trace.n_steps]
    top = trace.episode.q_values.shape[1] - 1
    if actions.ndim == 1:
        axes.plot(actions, "|", color=COLOURS[0], ms=7)
    else:
        _lines(axes, "", {f"dimension {i}": column for i, column in enumerate(actions.T)}, marker="|")
        top = int(actions.max())
    axes.set_ylabel("action", fontsize=8)
    whole_numbers(axes.yaxis)
    axes.set_ylim(-0.5, top + 0.5)
    axes.grid(alpha=0.25)


def _rewards(axes: Axes, trace: EpisodeTrace) -> None:
    rewards = trace.episode.rewards[: trace.n_steps]
    axes.fill_between(np.arange(len(rewards)), rewards, step="mid", color=COLOURS[2], alpha=0.3, lw=0)
    axes.step(np.arange(len(rewards)), rewards, where="mid", color=COLOURS[2], lw=1.3)
    axes.axhline(0, color="#888888", lw=0.8)
    axes.set_ylabel("reward", fontsize=8)


def _band(axes: Axes, label: str, values: Any) -> None:
    """The mean over units, and where four of five of them lie."""
    low, high = np.quantile(values, [0.1, 0.9], axis=1)
    steps = np.arange(len(values))
    axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.25, lw=0, label="80 % of units")
    axes.plot(steps, values.mean(axis=1), color=COLOURS[0], lw=1.3, label="mean")
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(label if "\n" in label else fill(label, 13), fontsize=8)
    axes.grid(alpha=0.25)
    _legend(axes)


def _observations(axes: Axes, trace: EpisodeTrace) -> None:
    observations = trace.episode.observations[: trace.n_steps]
    stacked = map_observation(lambda *arrays: np.stack(arrays), *observations)
    columns = {}
    for key, values in named_arrays(stacked):
        if values.ndim > 2:
            continue
        flat = values.reshape(len(values), -1)
        columns.update(
            {f"{key or 'x'}[{i}]" if flat.shape[1] > 1 else key or "x": flat[:, i] for i in range(flat.shape[1])}
        )
    if not columns:  # images: what the memory reads of them stands for them
        features = trace.episode.features[: trace.n_steps].flatten(1).cpu().numpy()
        _heat(axes, features.T, "features\n(of images)")
    elif len(columns) <= MAX_LINES:
        _lines(axes, "observation", columns)
        _legend(axes)
    else:
        _heat(axes, np.stack(list(columns.values())), "observation\n(element)")


def _heat(axes: Axes, values: np.ndarray, label: str) -> None:
    axes.imshow(values, aspect="auto", cmap="cividis", interpolation="nearest")
    axes.set_ylabel(label, fontsize=8)
