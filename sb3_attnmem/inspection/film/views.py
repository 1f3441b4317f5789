"""What an attention layer recorded, in a form that can be drawn."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from sb3_attnmem.attention import AttentionRecord, KeyList, PlaceGrid

HEADS = ("max", "mean", "tile")
Heads = Literal["max", "mean", "tile"]


class View(NamedTuple):
    """
    How a layer's weights are drawn; the same at every step of an episode.

    :param layer: its name
    :param kind: "map" (tiles, H, W) over the picture of the observation; "table" (rows, columns); "strip" (C,) of gates
    :param grid: how a map lies over the picture
    :param rows: names, of a table
    :param columns: names, of a table
    :param asks: what the rows are
    :param seen: what the columns are
    :param note: what was averaged
    :param is_gate: whether a map holds gates in [0, 1] rather than shares of one
    """

    layer: str
    kind: Literal["map", "table", "strip"]
    grid: PlaceGrid | None = None
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    asks: str = ""
    seen: str = ""
    note: str = ""
    is_gate: bool = False

    @property
    def rolls(self) -> bool:
        """Whether the last steps are drawn below one another: attention over the past, asked by one query."""
        return self.kind == "table" and self.seen == "steps" and len(self.rows) == 1


def chosen_layers(recorded: list[str], wanted: Sequence[str] | None, most: int) -> list[str]:
    """
    Choose the layers that are shown.

    :param recorded: the layers that were called
    :param wanted: names, or parts of names; None for all
    :param most: where nothing is wanted in particular
    :return: the layers to show
    :raises ValueError: when a name is unknown, or no layer was called
    """
    if not recorded:
        raise ValueError("None of the model's attention layers was called when it acted: there is nothing to show.")
    return recorded[:most] if wanted is None else layers_named(recorded, wanted)


def layers_named(known: list[str], wanted: Sequence[str]) -> list[str]:
    """
    Find layers by names or parts of names.

    :param known: names of layers
    :param wanted: names, or parts of names
    :return: the layers that are meant
    :raises ValueError: when none is meant by one of them
    """
    found = []
    for word in wanted:
        fitting = [name for name in known if word == name] or [name for name in known if word in name]
        if not fitting:
            raise ValueError(f"The model has no attention layer '{word}'. Layers: {', '.join(known)}.")
        found += fitting
    return list(dict.fromkeys(found))


def view_of(record: AttentionRecord, layer: str, heads: Heads) -> tuple[View, np.ndarray]:
    """
    Decide how a layer is drawn, and take its numbers.

    :param record: in which the layer was called
    :param layer: its name
    :param heads: what becomes of several heads: the largest weight, the mean, or one beside the other
    :return: how it is drawn, and the numbers of the first environment
    """
    weights, layout = record[layer].float(), record.layouts[layer]
    if weights.dim() == 2:
        return View(layer, "strip", seen="gates"), weights[0].cpu().numpy()
    if isinstance(layout, PlaceGrid):
        maps = record.on_grid(layer)[0].float().cpu().numpy()  # (heads, H, W) or (heads, queries, H, W)
        note = ""
        if maps.ndim == 4:
            note = f"mean over {maps.shape[1]} askers"
            maps = maps.mean(axis=1)
        is_gate = len(maps) == 1 and abs(float(maps.sum()) - 1.0) > 1e-3
        return View(layer, "map", layout, note=note, is_gate=is_gate), _joined(maps, heads)
    return _table(layer, weights[0].flatten(0, -3).cpu().numpy(), layout, heads)


def _joined(weights: np.ndarray, heads: Heads) -> np.ndarray:
    """
    :param weights: (heads, ...)
    :return: (heads, ...), or (1, ...) of all heads
    """
    if heads == "tile":
        return weights
    return (weights.max(axis=0) if heads == "max" else weights.mean(axis=0))[None]


def _table(layer: str, weights: np.ndarray, layout: KeyList | None, heads: Heads) -> tuple[View, np.ndarray]:
    """
    :param weights: (heads, queries, keys)
    """
    n_queries, n_keys = weights.shape[1:]
    columns = layout.names if layout is not None else tuple(map(str, range(n_keys)))
    seen = layout.kind if layout is not None else "keys"
    joined = _joined(weights, heads)
    if n_queries == 1:
        rows = tuple(f"head {i}" for i in range(len(joined))) if len(joined) > 1 else ("",)
        return View(layer, "table", rows=rows, columns=columns, asks="", seen=seen), joined[:, 0]
    rows = columns if n_queries == n_keys else tuple(map(str, range(n_queries)))
    # Heads side by side, a gap between them
    gap = np.full((n_queries, 1), np.nan, weights.dtype)
    tiles = [part for tile in joined for part in (tile, gap)][:-1]
    note = f"heads 0 to {len(joined) - 1}, left to right" if len(joined) > 1 else ""
    columns = tuple(name for _ in joined for name in (*columns, ""))[:-1]
    view = View(layer, "table", rows=rows, columns=columns, asks=f"{seen} that ask", seen=seen, note=note)
    return view, np.concatenate(tiles, axis=1)
