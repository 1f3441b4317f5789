"""The gates of a memory, step by step: computed beside the forward pass, which stays as it is."""

from collections.abc import Callable
from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention.blocks import GRUGate
from sb3_attnmem.memory import BaseMemory, GRUMemory, LSTMMemory, MemoryState
from sb3_attnmem.memory.matrix import MatrixMemory
from sb3_attnmem.memory.min_gru import MinGRULayer
from sb3_attnmem.memory.rnn import RNNMemory

LSTM_GATES = ("input gate i", "forget gate f", None, "output gate o")
GRU_GATES = ("reset gate r", "update gate z", None)


def gates_of(
    memory: BaseMemory, features: th.Tensor, starts: th.Tensor, before: list[MemoryState], after: list[MemoryState]
) -> dict[str, th.Tensor]:
    """
    Compute the gates of a memory over the steps that it ran.

    :param memory: that ran over the steps
    :param features: (1, T, ...)
    :param starts: (1, T) bool
    :param before: T states before each step, tensors (1, ...); initial ones where an episode starts
    :param after: T states after each step
    :return: name -> (T, units), in [0, 1]; empty for a memory without gates, or of a kind that is not known here
    """
    if isinstance(memory, (LSTMMemory, GRUMemory)):
        return _of_rnn(memory, features, before, after)
    if isinstance(memory, MatrixMemory):
        return {name: values.squeeze(0) for name, values in memory.strengths(features, starts).items()}
    return _by_hooks(memory, features, starts, before[0])


def _of_rnn(
    memory: RNNMemory, features: th.Tensor, before: list[MemoryState], after: list[MemoryState]
) -> dict[str, th.Tensor]:
    names = LSTM_GATES if isinstance(memory, LSTMMemory) else GRU_GATES
    h_before, h_after = (th.cat([state[0] for state in states]) for states in (before, after))  # (T, layers, H)
    latents, found = features.squeeze(0), {}
    for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(memory.rnn.all_weights):
        inputs = memory.layer_inputs(layer, latents)
        pre = nn.functional.linear(inputs, weight_ih, bias_ih) + nn.functional.linear(
            h_before[:, layer], weight_hh, bias_hh
        )
        prefix = f"layer {layer + 1} " if memory.num_layers > 1 else ""
        found.update(_named(prefix, names, pre))
        latents = memory.layer_latents(layer, latents, h_after[:, layer])
    return found


def _by_hooks(memory: BaseMemory, features: th.Tensor, starts: th.Tensor, state: MemoryState) -> dict[str, th.Tensor]:
    """:return: the gates of the layers that are known, as one pass over the episode calls them"""
    calls: dict[str, list[th.Tensor]] = {}

    def keep(prefix: str, gates: Callable[[Any, Any, Any], dict[str, th.Tensor]]) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            for name, values in gates(module, inputs, output).items():
                calls.setdefault(prefix + name, []).append(values.reshape(-1, values.shape[-1]))

        return hook

    handles = []
    for path, module in memory.named_modules():
        number = next((f"layer {int(word) + 1} " for word in path.split(".") if word.isdigit()), "")
        if isinstance(module, nn.LSTMCell):
            handles.append(module.register_forward_hook(keep("", _of_lstm_cell)))
        elif isinstance(module, MinGRULayer):
            prefix = number if len(memory.layers) > 1 else ""  # type: ignore[arg-type]
            handles.append(module.linear.register_forward_hook(keep(prefix, _of_min_gru)))
        elif isinstance(module, GRUGate):
            part = "attention" if "attention" in path else "feed-forward"
            handles.append(module.register_forward_hook(keep(f"{number}{part} ", _of_gru_gate)))
    try:
        if handles:
            memory(features, state, starts)
    finally:
        for handle in handles:
            handle.remove()
    return {name: th.cat(values) for name, values in calls.items()}


def _of_lstm_cell(cell: nn.LSTMCell, inputs: Any, output: Any) -> dict[str, th.Tensor]:
    features, (h, _) = inputs
    pre = nn.functional.linear(features, cell.weight_ih, cell.bias_ih) + nn.functional.linear(
        h, cell.weight_hh, cell.bias_hh
    )
    return _named("", LSTM_GATES, pre)


def _of_min_gru(linear: nn.Linear, inputs: Any, output: th.Tensor) -> dict[str, th.Tensor]:
    return {"update gate z": output.chunk(2, dim=-1)[0].sigmoid()}


def _of_gru_gate(gate: GRUGate, inputs: Any, output: th.Tensor) -> dict[str, th.Tensor]:
    stream, layer = inputs
    layer_z = gate.from_layer(layer).chunk(3, dim=-1)[0]
    stream_z = gate.from_stream(stream).chunk(2, dim=-1)[0]
    return {"gate z": (layer_z + stream_z - gate.bias).sigmoid()}


def _named(prefix: str, names: tuple[str | None, ...], pre: th.Tensor) -> dict[str, th.Tensor]:
    parts = zip(names, pre.chunk(len(names), dim=-1), strict=True)
    return {prefix + name: part.sigmoid() for name, part in parts if name is not None}
