"""Reads the Python expressions of settings without running them: data, and classes of a closed list."""

import ast
import inspect
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch as th
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common import torch_layers
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn

from sb3_attnmem.extractors import EXTRACTORS
from sb3_attnmem.memory import MEMORIES
from sb3_attnmem.replay import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer

#: names that rl_zoo3's YAML uses -> modules
MODULES = {"th": "torch", "torch": "torch", "nn": "torch.nn"}


def parse_literal(text: str, classes: Iterable[type] = ()) -> Any:
    """
    Read what rl_zoo3 would evaluate: numbers, strings, lists, tuples, dicts, ``dict(a=1)``, ``th.float16``, ``nn.ReLU``
    and ``get_class_by_name('…')``.

    :param text: an expression in Python
    :param classes: that may be named besides extractors, memories, replay buffers, optimisers and activations
    :return: its value
    :raises ValueError: for anything else; nothing of it has run then
    """
    known = {**_known_classes(), **{_path(cls): cls for cls in classes}}
    try:
        return _value(ast.parse(text.strip(), mode="eval").body, known)
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{_short(text)} is not an expression in Python.") from None


def _value(node: ast.expr, known: dict[str, type]) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.List(elts=items):
            return [_value(item, known) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, known) for item in items)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            read = [_value(key, known) for key in keys if key is not None]
            if all(isinstance(key, (str, int, float)) for key in read):
                return dict(zip(read, (_value(value, known) for value in values), strict=True))
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=words) if all(word.arg for word in words):
            return {str(word.arg): _value(word.value, known) for word in words}
        case ast.Call(func=ast.Name(id="get_class_by_name"), args=[ast.Constant(value=str() as path)], keywords=[]):
            return _class(path, known)
        case ast.Name(id=name) if name in ("HerReplayBuffer", "RMSpropTFLike"):
            return _class(name, known)
        case ast.Attribute():
            return _attribute(node, known)
    raise ValueError(
        f"{_short(ast.unparse(node))} is not data. Numbers, strings, lists, tuples, dicts, dict(a=1) and "
        "get_class_by_name('package.Class') are; nothing else is run."
    )


def _attribute(node: ast.Attribute, known: dict[str, type]) -> Any:
    """:return: ``th.float16``, or a class such as ``nn.ReLU``, ``th.optim.Adam``"""
    first, _, rest = ast.unparse(node).partition(".")
    path = f"{MODULES.get(first, first)}.{rest}"
    dtype = getattr(th, rest, None) if path == f"torch.{rest}" else None
    return dtype if isinstance(dtype, th.dtype) else _class(path, known)


def _class(path: str, known: dict[str, type]) -> type:
    if path not in known:
        raise ValueError(
            f"{_short(path)} is not a class that settings of others may name: extractors, memories, replay buffers, "
            "optimisers, activations and the classes of your own settings file are."
        )
    return known[path]


@cache
def _known_classes() -> dict[str, type]:
    """:return: name -> class, under the module that defines it and those that users import it from"""
    layers = [
        cls for cls in vars(torch_layers).values() if isinstance(cls, type) and cls.__module__ == torch_layers.__name__
    ]
    optimizers = [
        cls for cls in vars(th.optim).values() if isinstance(cls, type) and issubclass(cls, th.optim.Optimizer)
    ]
    activations = [
        cls for cls in vars(nn).values() if isinstance(cls, type) and cls.__module__ == "torch.nn.modules.activation"
    ]
    replay = [SequenceReplayBuffer, PrioritizedSequenceReplayBuffer, ReplayBuffer, DictReplayBuffer, HerReplayBuffer]
    known: dict[str, type] = {}
    for cls in (*EXTRACTORS.values(), *MEMORIES.values(), *layers, *optimizers, *activations, *replay, RMSpropTFLike):
        room = ".".join(cls.__module__.split(".")[:2])  # sb3_attnmem.extractors, torch.optim, torch.nn
        for module in (cls.__module__, room, cls.__module__.split(".", maxsplit=1)[0]):
            known[f"{module}.{cls.__qualname__}"] = cls
    return {**known, "HerReplayBuffer": HerReplayBuffer, "RMSpropTFLike": RMSpropTFLike}


def classes_in(value: Any) -> set[type]:
    """
    :param value: settings that the user wrote, nested
    :return: the classes that they name
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return set().union(*map(classes_in, value))
    return {value} if inspect.isclass(value) else set()


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _short(text: str) -> str:
    return f"'{text if len(text) <= 80 else text[:77] + '…'}'"
