"""What the page is told: everything that it draws, as JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_attnmem.inspection.drawing import printable
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, FilmStep
from sb3_attnmem.inspection.page.packing import pack, pack_coarsely, pack_pictures
from sb3_attnmem.inspection.page.remembered import Remembered

#: Rows of a heat map, and quantiles of a return, of which more are not told apart on a screen
MOST_UNITS, MOST_QUANTILES = 96, 50
#: Steps back that attention over the past is shown for
MOST_AGES = 128
#: Numbers of an observation that are drawn as lines
MOST_LINES = 8


def page_data(filmed: FilmedEpisodes, names: Sequence[str], remembered: Remembered | None) -> dict[str, Any]:
    """
    Gather what the page draws.

    :param filmed: what the agent did
    :param names: of its actions
    :param remembered: what its memory did; None where it has none of ours
    :return: dicts, lists, numbers and text
    """
    steps = filmed.steps
    estimates = [step.seen.estimate for step in steps]
    quantiles = [one.quantiles for one in estimates if one.quantiles is not None]
    values = [one.value for one in estimates]
    names = [printable(str(name)) for name in names]
    pictures = _pictures(filmed)
    return {
        "steps": len(steps),
        "actions": names or [str(i) for i in range(len(estimates[0].bars))],
        "taken": [list(step.bars) for step in steps],
        "action_text": [_text_of(step, names) for step in steps],
        "rewards": [step.reward for step in steps],
        "totals": [step.total for step in steps],
        "starts": [t for t, step in enumerate(steps) if step.starts],
        "episodes": _episodes(filmed),
        "unit": estimates[0].unit,
        "values": None if None in values else pack(np.array(values)),
        "bars": pack(np.stack([one.bars for one in estimates])) if len(estimates[0].bars) else None,
        "quantiles": pack_coarsely(_thinned(np.stack(quantiles), 1, MOST_QUANTILES)) if quantiles else None,
        "valid": _valid(filmed),
        "pictures": pictures,
        "table": _table([step.seen.table for step in steps]),
        "views": _views(filmed, [one["key"] for one in pictures], remembered is not None),
        "memory": None if remembered is None else _memory(remembered),
    }


def _text_of(step: FilmStep, names: Sequence[str]) -> str:
    """:return: the action, by its name where it has one"""
    if len(step.bars) == 1 and step.bars[0] < len(names):
        return names[step.bars[0]]
    return np.array2string(step.action, precision=2)


def _episodes(filmed: FilmedEpisodes) -> list[dict[str, Any]]:
    begins = [t for t, step in enumerate(filmed.steps) if t == 0 or step.n_episode != filmed.steps[t - 1].n_episode]
    ends = [*begins[1:], len(filmed.steps)]
    found = [
        {"begin": begin, "end": end, "return": total, "over": True}
        for begin, end, total in zip(begins, ends, filmed.returns, strict=True)
    ]
    found[-1]["over"] = filmed.over
    return found


def _valid(filmed: FilmedEpisodes) -> dict[str, Any] | None:
    masks = [step.seen.valid for step in filmed.steps if step.seen.valid is not None]
    return pack_coarsely(np.stack(masks), 0.0, 1.0) if masks else None


def _pictures(filmed: FilmedEpisodes) -> list[dict[str, Any]]:
    """:return: the environment's own pictures, and the images in the observations"""
    steps = filmed.steps
    found = []
    renders = [step.seen.render for step in steps if step.seen.render is not None]
    if len(renders) == len(steps) and len({picture.shape for picture in renders}) == 1:
        found.append({"key": None, "title": "environment", **pack_pictures(renders)})
    for key in steps[0].seen.pictures:
        frames = [step.seen.pictures[key] for step in steps]
        title = f"observation {printable(key)}" if key else "observation"
        if not (found and renders and all(map(np.array_equal, frames, renders))):
            found.append({"key": key, "title": title, **pack_pictures(frames)})
        else:
            found[0]["key"] = key
    return found


def _table(tables: list[np.ndarray | None]) -> dict[str, Any] | None:
    there = [table for table in tables if table is not None]
    if not there or len({table.shape for table in there}) > 1:
        return None
    values = np.stack(there)
    is_lines = values.shape[1] == 1 and values.shape[2] <= MOST_LINES
    return {"lines": is_lines, "values": pack(values) if values[0].size <= 4 * MOST_UNITS else pack_coarsely(values)}


def _views(filmed: FilmedEpisodes, keys: list[str | None], past_is_shown: bool) -> list[dict[str, Any]]:
    found = []
    for view in filmed.views:
        if past_is_shown and (view.seen == "steps" or view.layer.endswith("fusion.alpha")):
            continue  # they stand among what the memory did
        weights = np.stack([step.seen.weights[view.layer] for step in filmed.steps])
        one: dict[str, Any] = {
            "layer": view.layer,
            "kind": view.kind,
            "note": view.note,
            "rows": [printable(name) for name in view.rows],
            "columns": [printable(name) for name in view.columns],
            "asks": view.asks,
            "seen": view.seen,
            "weights": pack_coarsely(weights, 0.0, 1.0 if view.kind == "strip" else None),
        }
        key = filmed.keys.get(view.layer)
        if view.kind == "map" and view.grid is not None and view.layer in filmed.keys and key in keys:
            grid = view.grid
            one["picture"] = keys.index(key)
            one["grid"] = {
                "height": grid.image_height,
                "width": grid.image_width,
                "stride": grid.stride,
                "field": grid.field,
                "start": grid.start,
            }
        found.append(one)
    return found


def _memory(remembered: Remembered) -> dict[str, Any]:
    trace, gradients = remembered.trace, remembered.gradients
    top = float(np.nanmax(gradients, initial=0.0))
    rows = [_rows(f"state {name}", values, None, "signed") for name, values in trace.states.items()]
    rows += [_rows(name, values, (0.0, 1.0), "share") for name, values in trace.gates.items()]
    if trace.alpha is not None:
        rows.append(_rows("fusion α (1: the present alone)", trace.alpha, (0.0, 1.0), "share"))
    for name, weights in {**trace.slots, **trace.places}.items():
        for head, by_step in enumerate(weights):
            rows.append(_rows(f"{name}, head {head}", by_step, (0.0, float(np.nanmax(by_step, initial=1e-9))), "share"))
    return {
        "rows": rows,
        "past": [
            {"layer": layer, "weights": pack_coarsely(_by_age(weights), 0.0)} for layer, weights in trace.past.items()
        ],
        "ks": remembered.ks,
        "cut": remembered.cut_actions,
        "gradients": pack_coarsely(gradients / max(top, 1e-30), 0.0, 1.0),
        "largest_gradient": top,
    }


def _rows(name: str, values: np.ndarray, limits: tuple[float, float] | None, kind: str) -> dict[str, Any]:
    """:return: (T, units) as a heat map; of many units some, spread evenly"""
    shown = _thinned(values, 1, MOST_UNITS)
    if limits is None:  # nothing is white
        most = float(np.abs(values).max(initial=1e-9))
        limits = -most, most
    return {
        "name": printable(name),
        "kind": kind,
        "units": int(values.shape[1]),
        "values": pack_coarsely(shown, *limits),
        "means": pack((np.abs(values) if kind == "signed" else values).mean(axis=1)),
    }


def _by_age(weights: np.ndarray) -> np.ndarray:
    """
    Lay weights by step out by age.

    :param weights: (heads, T, T), row t column s; nan where a step cannot look
    :return: (heads, T, ages), the present first; no more ages than any step sees
    """
    n_heads, n_steps, _ = weights.shape
    found = np.full((n_heads, n_steps, min(n_steps, MOST_AGES)), np.nan)
    for age in range(found.shape[2]):
        found[:, age:, age] = np.diagonal(weights, -age, axis1=1, axis2=2)
    seen = np.flatnonzero(np.nan_to_num(found).max(axis=(0, 1)) > 0)
    return found[:, :, : seen[-1] + 1 if len(seen) else 1]


def _thinned(values: np.ndarray, axis: int, most: int) -> np.ndarray:
    n = values.shape[axis]
    if n <= most:
        return values
    return values.take(np.linspace(0, n - 1, most).round().astype(int), axis=axis)
