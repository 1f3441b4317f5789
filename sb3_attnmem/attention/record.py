"""What an attention layer looked at, on request."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention.layout import Layout, PlaceGrid
from sb3_attnmem.common.checks import check_integer

Calls = deque[th.Tensor]


class AttentionLayer(nn.Module):
    """
    A module whose weights :func:`record_attention` can read.

    A subclass calls :meth:`record` with its weights, and computes them for that purpose only when :attr:`recording`.
    Their shape is one of, with B the batch:

    - (B, heads, queries, keys): softmax over the keys;
    - (B, heads, H, W): softmax over the H×W places;
    - (B, C) or (B, 1, H, W): gates in [0, 1] on channels or places.

    :ivar layout: how the keys (or places) lie over the observation; set by whoever knows the observation
    """

    layout: Layout | None = None
    # One deque for each `record_attention` that is open now. On the class and empty, so that a layer costs
    # one comparison outside the `with`, and carries nothing into `state_dict`, `deepcopy` or a pickle.
    _open_records: tuple[Calls, ...] = ()

    @property
    def recording(self) -> bool:
        """Whether somebody wants the weights of this call."""
        return bool(self._open_records)

    def record(self, weights: th.Tensor) -> None:
        """
        Keep the weights of a call for whoever records.

        :param weights: of this call, in one of the shapes above
        """
        for calls in self._open_records:
            calls.append(weights.detach())


class AttentionRecord(Mapping[str, th.Tensor]):
    """
    Layer name -> the weights of its last call; only layers that were called are in it.

    :param layers: name -> layer
    :param keep: how many of a layer's newest calls are kept, None for all
    """

    def __init__(self, layers: dict[str, AttentionLayer], keep: int | None = 1) -> None:
        self._calls: dict[str, Calls] = {name: deque(maxlen=keep) for name in layers}
        #: how the keys of each layer lie over the observation; None where that has no meaning (channel gates)
        self.layouts: dict[str, Layout | None] = {name: layer.layout for name, layer in layers.items()}

    def __getitem__(self, name: str) -> th.Tensor:
        return self.calls(name)[-1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, calls in self._calls.items() if calls)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"AttentionRecord({ {name: tuple(weights.shape) for name, weights in self.items()} })"

    def calls(self, name: str) -> list[th.Tensor]:
        """
        Read the weights of every call of a layer that was kept.

        :param name: of a layer
        :return: the weights of the calls that were kept, oldest first
        :raises KeyError: when there is no such layer, or it was not called
        """
        if not self._calls.get(name):
            why = "was not called" if name in self._calls else "is not an attention layer"
            raise KeyError(f"'{name}' {why} while recording. Recorded: {', '.join(self) or 'nothing'}.")
        return list(self._calls[name])

    def on_grid(self, name: str) -> th.Tensor:
        """
        The weights of a layer's last call as maps, ready for ``attention_overlay``.

        :param name: of a layer that attends to places
        :return: (B, heads, H, W), or (B, heads, queries, H, W) when the layer has more queries than one;
            the gate of places (B, 1, H, W) comes as it is
        :raises ValueError: when the keys of the layer are not places of an image
        """
        weights, layout = self[name], self.layouts[name]
        if not isinstance(layout, PlaceGrid):
            raise ValueError(f"The keys of '{name}' are not places of an image; its layout is {layout}.")
        if weights.shape[2:] == (layout.height, layout.width):
            return weights
        maps = weights.unflatten(-1, (layout.height, layout.width))  # (B, heads, queries, H, W)
        return maps.squeeze(2) if maps.shape[2] == 1 else maps


@contextmanager
def record_attention(model: Any, keep: int | None = 1) -> Iterator[AttentionRecord]:
    """
    Record what the attention layers of a model look at, inside the ``with`` only::

        with record_attention(model) as record:
            model.predict(obs, deterministic=True)
        record["q_net.features_extractor.pool"]  # (B, heads, queries, keys) or another shape of AttentionLayer

    Recording changes no output; weights are those before dropout. The names are those of ``named_modules()``,
    so the target network of a DQN (``q_net_target...``) stays apart from the online one (``q_net...``).
    It may be nested, and ends with the ``with`` even when that raises.

    :param model: an ``nn.Module``, or anything whose ``policy`` is one (every Stable-Baselines3 algorithm)
    :param keep: how many of each layer's newest calls to keep, None for all; see :meth:`AttentionRecord.calls`
    :return: a mapping from layer name to the weights of its last call, filled while the ``with`` is open;
        it keeps what it has after that
    :raises ValueError: when the model is no module and has none, or has no attention layers, or ``keep`` is below 1
    """
    keep = None if keep is None else check_integer("keep", keep)
    layers = _attention_layers(model)
    record = AttentionRecord(layers, keep)
    try:
        for name, layer in layers.items():
            layer._open_records = (*layer._open_records, record._calls[name])
        yield record
    finally:
        for name, layer in layers.items():
            _close(layer, record._calls[name])


def _attention_layers(model: Any) -> dict[str, AttentionLayer]:
    module = model if isinstance(model, nn.Module) else getattr(model, "policy", None)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"record_attention got {type(model).__name__}, which is no nn.Module and has none as its `policy`; "
            "pass a Stable-Baselines3 model, its policy or a features extractor."
        )
    layers = {name or "attention": m for name, m in module.named_modules() if isinstance(m, AttentionLayer)}
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no attention layers to record; give it an extractor that has some, e.g. "
            "policy_kwargs=dict(features_extractor_class=sb3_attnmem.extractors.SpatialAttentionCNN)."
        )
    return layers


def _close(layer: AttentionLayer, calls: Calls) -> None:
    left = tuple(other for other in layer._open_records if other is not calls)
    if left:
        layer._open_records = left
    else:
        layer.__dict__.pop("_open_records", None)


def set_layout(module: nn.Module, layout: Layout) -> None:
    """
    Tell all attention layers of a module how their keys lie over the observation.

    :param module: whose layers all attend to the same keys
    :param layout: of these
    """
    for layer in module.modules():
        if isinstance(layer, AttentionLayer):
            layer.layout = layout
