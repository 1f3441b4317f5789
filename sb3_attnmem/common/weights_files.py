"""Files of weights, read without executing anything that they hold."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch as th

#: keys under which training scripts put the weights among other things
WRAPPINGS = ("state_dict", "model_state_dict", "model")
#: tensors that an error lists
LISTED = 5
#: parts of names that weights had in older versions -> what they are now
NEW_NAMES = {"to_keys_values": "to_kv", "map_scaling": "located.map_scaling"}
#: tensors that older versions did not have -> the value with which a module computes as it did then
NEW_TENSORS = {"map_scaling": 0.0}


def read_weights(path: str | Path) -> dict[str, th.Tensor]:
    """
    Read a file of tensors; nothing that it holds is executed.

    :param path: a safetensors file, or what ``torch.save(module.state_dict(), path)`` wrote
    :return: name -> tensor, on the CPU
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it holds something else than named tensors, or is broken
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        loaded: Any = th.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file can raise anything: zlib's error, struct's, NotImplementedError, …
        raise ValueError(
            f"{path} is no state dict: it was not read, since it holds more than tensors or is no file of torch's. "
            "Write one with torch.save(module.state_dict(), path), or safetensors.torch.save_file(module.state_dict(), "
            f"path) ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
        ) from error
    for key in WRAPPINGS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not _is_state_dict(loaded):
        raise ValueError(f"{path} holds {_what(loaded)} instead of a state dict, name -> tensor.")
    return dict(loaded)


def _read_safetensors(path: Path) -> dict[str, th.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f"{path} needs the safetensors library: pip install safetensors.") from error
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file ({error}).") from error


def _is_state_dict(loaded: Any) -> bool:
    if not isinstance(loaded, Mapping) or not loaded:
        return False
    return all(isinstance(name, str) and isinstance(tensor, th.Tensor) for name, tensor in loaded.items())


def _what(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return f"a dictionary of {', '.join(map(str, list(loaded)[:LISTED])) or 'nothing'}"
    return f"a {type(loaded).__name__}"


def with_new_names(there: Mapping[str, th.Tensor], here: Iterable[str]) -> dict[str, th.Tensor]:
    """
    Rename tensors that were saved when weights had other names.

    :param there: what a file holds, perhaps of an older version
    :param here: the names of what it should fill
    :return: the same tensors in the same order, an old name exchanged where only the new one is known here, and what
        older versions did not have
    """
    here = set(here)
    renamed = {}
    for name, tensor in there.items():
        new = ".".join(NEW_NAMES.get(part, part) for part in name.split("."))
        renamed[new if new in here and name not in here else name] = tensor
    for name in here - renamed.keys():
        if name.rpartition(".")[2] in NEW_TENSORS:
            renamed[name] = th.tensor(NEW_TENSORS[name.rpartition(".")[2]])
    return renamed


def bring_up_to_date(state_dict: dict[str, th.Tensor], prefix: str, module: th.nn.Module) -> None:
    """
    Change what a module is about to load, if an older version saved it, into what it would be today.

    :param state_dict: as ``_load_from_state_dict`` gets it; changed
    :param prefix: of the module's names in it
    :param module: that is to be filled
    """
    renamed = with_new_names(state_dict, {f"{prefix}{name}" for name in module.state_dict()})
    state_dict.clear()
    state_dict.update(renamed)


def differences(there: Mapping[str, Any], here: Mapping[str, Any], extras: bool = False) -> str:
    """
    Compare tensors of a file with those that they are to fill, before any of them is filled.

    :param there: what a file holds
    :param here: what it should fill; what is no tensor here (a module's extra state) is left out
    :param extras: whether tensors of the file that have no place here count
    :return: which tensors do not fit and why, a line each; "" where all do
    """
    lines = []
    for name, tensor in here.items():
        if isinstance(tensor, th.Tensor):
            problem = misfit(there[name], tensor) if name in there else f"missing there, {_shape(tensor)} here"
            lines += [f"{name}: {problem}"] if problem else []
    if extras:
        lines += [f"{name}: {_shape(there[name])} there, missing here" for name in there if name not in here]
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:LISTED], *more])


def misfit(there: Any, here: th.Tensor) -> str | None:
    """
    Say why a tensor cannot be filled with the values of another, if it cannot.

    :param there: what a file holds
    :param here: what it should fill
    :return: the reason, or None. Other precision of the same kind of number is no reason, as long as no value is lost
    """
    for tensor, side in ((there, "there"), (here, "here")):
        kind = _unusual_kind(tensor)
        if kind is not None:
            return f"{kind} {side}"
    if there.shape != here.shape:
        return f"{_shape(there)} there, {_shape(here)} here"
    if _number_kind(there) != _number_kind(here):
        return f"{there.dtype} there, {here.dtype} here"
    values = there.to(here.device, here.dtype)
    if here.is_floating_point() or here.is_complex():
        # A mask may hold infinities, but then it holds the same here
        broken = ~th.isfinite(values) & (values != here)
        return f"not finite there ({int(broken.sum())} of {broken.numel()} values)" if bool(broken.any()) else None
    return None if th.equal(values.to(there), there) else f"{there.dtype} there, too large for {here.dtype} here"


def _unusual_kind(tensor: Any) -> str | None:
    """:return: what it is, if it is no tensor whose values can be read and written one by one"""
    if not isinstance(tensor, th.Tensor):
        return f"a {type(tensor).__name__} instead of a tensor"
    if th.nn.parameter.is_lazy(tensor):
        return "a lazy tensor (it has no shape yet)"
    if tensor.is_meta:
        return "a tensor of the meta device (it has no values)"
    if tensor.is_quantized:
        return f"a quantised tensor ({tensor.dtype})"
    if tensor.is_nested or tensor.layout is not th.strided:
        return f"a sparse or nested tensor ({tensor.layout})"
    return None


def _number_kind(tensor: th.Tensor) -> str:
    if tensor.is_floating_point():
        return "float"
    return "complex" if tensor.is_complex() else "bool" if tensor.dtype is th.bool else "integer"


def _shape(tensor: Any) -> str:
    """:return: the shape, in words where there is none"""
    return _unusual_kind(tensor) or str(tuple(tensor.shape))
