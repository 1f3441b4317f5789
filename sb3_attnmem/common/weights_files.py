"""Files of weights, read without executing anything that they hold."""

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch as th

#: keys under which training scripts put the weights among other things
WRAPPINGS = ("state_dict", "model_state_dict", "model")
#: tensors that an error lists
LISTED = 5
#: parts of names that weights had in older versions -> what they are now
NEW_NAMES = {"to_keys_values": "to_kv"}


def read_weights(path: str | Path) -> dict[str, th.Tensor]:
    """
    :param path: a safetensors file, or what ``torch.save(module.state_dict(), path)`` wrote
    :return: name -> tensor, on the CPU
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it holds something else than tensors; nothing of it is executed
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {path}.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        loaded: Any = th.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no state dict: it was not read, since it holds more than tensors or is no file of torch's. "
            "Write one with torch.save(module.state_dict(), path), or safetensors.torch.save_file(module.state_dict(), "
            f"path) ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
        ) from error
    for key in WRAPPINGS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, th.Tensor) for v in loaded.values()):
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


def _what(loaded: Any) -> str:
    if isinstance(loaded, Mapping):
        return f"a dictionary of {', '.join(map(str, list(loaded)[:LISTED])) or 'nothing'}"
    return f"a {type(loaded).__name__}"


def with_new_names(there: Mapping[str, th.Tensor], here: Iterable[str]) -> dict[str, th.Tensor]:
    """
    :param there: what a file holds, perhaps of an older version
    :param here: the names of what it should fill
    :return: the same tensors in the same order, an old name exchanged where only the new one is known here
    """
    here = set(here)
    renamed = {}
    for name, tensor in there.items():
        new = ".".join(NEW_NAMES.get(part, part) for part in name.split("."))
        renamed[new if new in here and name not in here else name] = tensor
    return renamed


def differences(there: Mapping[str, th.Tensor], here: Mapping[str, th.Tensor], extras: bool = False) -> str:
    """
    :param there: what a file holds
    :param here: what it should fill
    :param extras: whether tensors of the file that have no place here count
    :return: which tensors do not fit and why, a line each; "" where all do
    """
    lines = []
    for name, tensor in here.items():
        if name not in there:
            lines.append(f"{name}: missing there, {tuple(tensor.shape)} here")
        elif there[name].shape != tensor.shape:
            lines.append(f"{name}: {tuple(there[name].shape)} there, {tuple(tensor.shape)} here")
    if extras:
        lines += [f"{name}: {tuple(there[name].shape)} there, missing here" for name in there if name not in here]
    more = [f"and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return "\n".join(f"  {line}" for line in [*lines[:LISTED], *more])
