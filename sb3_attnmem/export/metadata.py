"""What a file tells of itself, read and checked before anything is played. numpy only."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from sb3_attnmem.common.checks import check_choice, check_flag, check_integer
from sb3_attnmem.export import names

Description = dict[str, Any]

#: what a tensor's type is called in ONNX and in numpy
DTYPES = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
NEEDED = (names.FORMAT_KEY, names.OBSERVATION_SPACE_KEY, names.ACTION_SPACE_KEY)
#: type of a space -> what tells how many values it has
SPACES = {"Box": None, "Discrete": "n", "MultiDiscrete": "nvec", "MultiBinary": None}


def check_metadata(metadata: Mapping[str, str], path: object) -> None:
    """
    :param metadata: of an ONNX file
    :param path: of the file, for the message
    :raises ValueError: when it is not a file of ours, or one of another format
    """
    missing = [key for key in NEEDED if key not in metadata]
    if missing:
        raise ValueError(
            f"{path} is an ONNX file, but not one that sb3_attnmem.export.export_onnx wrote: its metadata says nothing "
            f"of {missing}."
        )
    if metadata[names.FORMAT_KEY] != names.FORMAT:
        raise ValueError(
            f"{path} has format {metadata[names.FORMAT_KEY]!r} (sb3_attnmem {metadata.get(names.VERSION_KEY)}), this "
            f"version reads format {names.FORMAT!r}. Export the agent again, or install that version here."
        )


def read_space(metadata: Mapping[str, str], key: str, path: object) -> Description:
    """
    :param metadata: of an ONNX file
    :param key: that holds the description of a space
    :param path: of the file, for the message
    :return: the space as :func:`~sb3_attnmem.export.spaces.describe` told it
    :raises ValueError: when it is cut off or changed
    """
    try:
        space = json.loads(metadata[key])
        if isinstance(space, dict) and space.get("type") == "Dict":
            parts = space.get("spaces")
            if not isinstance(parts, dict) or not parts:
                raise ValueError(f"spaces={parts!r} must hold a space for each key.")
            for part in parts.values():
                _check_space(part)
        else:
            _check_space(space)
    except (ValueError, TypeError) as error:  # json's are ValueErrors
        raise ValueError(_damaged(path, key, metadata[key], error)) from error
    return dict(space)


def read_flag(metadata: Mapping[str, str], key: str, path: object) -> bool:
    """
    :param metadata: of an ONNX file
    :param key: that holds "true" or "false"; False where it is missing
    :param path: of the file, for the message
    :return: the value
    :raises ValueError: when it is something else
    """
    text = metadata.get(key, "false")
    try:
        return check_flag("it", json.loads(text))
    except ValueError as error:
        raise ValueError(_damaged(path, key, text, error)) from error


def check_graph(
    session: Any, observation_space: Description, action_space: Description, path: object, branching: bool = False
) -> None:
    """
    :param session: onnxruntime's, of the file
    :param observation_space: that the file tells of
    :param action_space: that the file tells of
    :param path: of the file, for the message
    :param branching: whether each choice of a ``MultiDiscrete`` action has a Q-value, and not each combination
    :raises ValueError: when the graph is not one of such spaces
    """
    spaces = observation_space["spaces"] if observation_space["type"] == "Dict" else {None: observation_space}
    described = {names.observation_name(key): space for key, space in spaces.items()}
    inputs, outputs = session.get_inputs(), {one.name: one for one in session.get_outputs()}
    states = [one.name.removeprefix(names.STATE) for one in inputs if one.name.startswith(names.STATE)]
    wrong = []
    for one in inputs:
        if one.name in described:
            space = described[one.name]
            given = (list(one.shape[1:]), np.dtype(DTYPES.get(one.type, object)))
            if given != (space["shape"], np.dtype(space["dtype"])):
                wrong.append(
                    f"its input {one.name} is {given[1]} of shape {given[0]}, its metadata tells of {space['dtype']} "
                    f"of shape {space['shape']}"
                )
        elif one.name != names.EPISODE_START and not one.name.startswith(names.STATE):
            wrong.append(f"its input {one.name} is none that its metadata tells of ({', '.join(described)})")
        elif one.type not in DTYPES:
            wrong.append(f"its input {one.name} is a {one.type}")
    values = values_of(outputs)
    needed = [values, *(f"{names.NEXT_STATE}{name}" for name in states)]
    needed += [names.DEVIATIONS] if values == names.MEANS else []
    wrong += [f"it lacks the output {name}" for name in needed if name not in outputs]
    if values in outputs:
        wrong += _wrong_values(values, outputs, action_space, branching)
    if wrong:
        raise ValueError(f"{path} does not fit together: {'; '.join(wrong)}. Export the agent again.")


def values_of(outputs: Collection[str]) -> str:
    """
    Tell what a file's agent decides by.

    :param outputs: names of its graph's outputs
    :return: "logits", "means" or "q_values"
    """
    return next((name for name in (names.LOGITS, names.MEANS) if name in outputs), names.Q_VALUES)


def nvec_of(action_space: Description) -> list[int]:
    """
    Count the choices of each dimension.

    :param action_space: Discrete or MultiDiscrete
    :return: numbers of choices
    """
    return list(action_space["nvec"]) if action_space["type"] == "MultiDiscrete" else [action_space["n"]]


def _wrong_values(values: str, outputs: Mapping[str, Any], action_space: Description, branching: bool) -> Iterator[str]:
    """:return: what of the values does not go with the actions"""
    n_values, kind = outputs[values].shape[-1], action_space["type"]
    if (kind == "Box") != (values == names.MEANS) or kind not in ("Box", "Discrete", "MultiDiscrete"):
        allowed = "Box" if values == names.MEANS else "Discrete"
        yield f"its actions are a {kind}, not {allowed}"
        return
    if kind == "Box":
        n_numbers = int(np.prod(action_space["shape"]))
        if n_values != n_numbers:
            yield f"it has {n_values} means, its metadata tells of actions of {n_numbers} numbers"
        return
    nvec = nvec_of(action_space)
    n_actions = int(np.sum(nvec) if branching or values == names.LOGITS else np.prod(nvec))
    if n_values != n_actions:
        what = "logits" if values == names.LOGITS else "Q-values"
        yield f"it has {n_values} {what}, its metadata tells of {n_actions} actions"
    if names.QUANTILES in outputs and outputs[names.QUANTILES].shape[2:] != [n_values]:
        yield f"its quantiles are not those of {n_values} actions"


def _check_space(space: Any) -> None:
    """:raises ValueError, TypeError: when it is no description of a space that is no Dict"""
    if not isinstance(space, dict):
        raise ValueError(f"{space!r} is no space.")
    kind = check_choice("type", space.get("type"), SPACES)
    shape = space.get("shape")
    if not isinstance(shape, list):
        raise ValueError(f"shape={shape!r} must be a list.")
    for size in shape:
        check_integer("shape", size, least=0)
    if np.dtype(space.get("dtype") or "missing").kind not in "fiub":
        raise ValueError(f"dtype={space.get('dtype')!r} must be one of numbers.")
    if kind == "Discrete":
        check_integer("n", space.get("n"))
    elif kind == "MultiDiscrete":
        highest = np.asarray(space.get("nvec"))
        if list(highest.shape) != shape or highest.dtype.kind != "i" or (highest < 1).any():
            raise ValueError(f"nvec={space.get('nvec')!r} must be positive integers of shape {shape}.")


def _damaged(path: object, key: str, text: str, error: Exception) -> str:
    shown = text if len(text) <= 100 else f"{text[:100]}…"
    return f"The metadata {key} of {path} cannot be read ({error}): {shown!r}. Export the agent again."
