"""Reads the files of a run's folder, ``config.yml`` and ``args.yml``, without building the objects that they name."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import yaml

from sb3_attnmem.zoo.literals import parse_literal
from sb3_attnmem.zoo.refusals import Refusal

PYTHON = "tag:yaml.org,2002:python/"


class RunFileError(Refusal):
    """A file of a run's folder that is not data."""


class RunLoader(yaml.SafeLoader):
    """
    YAML as rl_zoo3 writes it: plain data, ``OrderedDict`` and tuples.

    A class or a function (``!!python/name:``) becomes its name, a string; what would be called or built is an error.
    """


def _ordered(loader: RunLoader, node: yaml.Node) -> OrderedDict[Any, Any]:
    if not isinstance(node, yaml.SequenceNode):
        raise RunFileError(f"An OrderedDict must be a list of pairs{node.start_mark}.")
    arguments = loader.construct_sequence(node, deep=True)
    return OrderedDict((key, value) for key, value in (arguments[0] if arguments else ()))


def _tuple(loader: RunLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


def _name(loader: RunLoader, suffix: str, node: yaml.Node) -> str:
    return suffix


def _refuse(loader: RunLoader, suffix: str, node: yaml.Node) -> Any:
    raise RunFileError(
        f"The file asks for a Python object, '{suffix}'{node.start_mark}. Files of a run are read as data and build "
        "none. If you wrote it yourself, replace the object there by plain values."
    )


RunLoader.add_constructor(f"{PYTHON}object/apply:collections.OrderedDict", _ordered)
RunLoader.add_constructor(f"{PYTHON}tuple", _tuple)
RunLoader.add_multi_constructor(f"{PYTHON}name:", _name)
RunLoader.add_multi_constructor(PYTHON, _refuse)


def read_run_file(path: str | Path) -> Any:
    """
    :param path: of ``config.yml`` or ``args.yml`` in a run's folder
    :return: what it holds; nothing in it is run
    :raises RunFileError: a ValueError: when it asks for a Python object, or is no YAML
    :raises OSError: when it cannot be read
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        return yaml.load(text, Loader=RunLoader)  # a SafeLoader
    except RunFileError as error:
        raise RunFileError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise RunFileError(f"{path} is no YAML: {error}") from None


def check_run_folder(folder: str | Path) -> None:
    """
    :param folder: with a run's ``config.yml`` and ``args.yml``, if they are there
    :raises RunFileError: a ValueError: when one asks for a Python object, or its ``normalize``, which rl_zoo3 would
        evaluate, is an expression that is not data
    """
    for name in ("args.yml", "config.yml"):
        path = Path(folder) / name
        if not path.is_file():
            continue
        options = read_run_file(path)
        if not isinstance(options, dict):
            raise RunFileError(f"{path} must hold options by name, not {type(options).__name__}.")
        if name == "config.yml" and isinstance(options.get("normalize"), str):
            try:
                parse_literal(options["normalize"])
            except ValueError as error:
                raise RunFileError(f"{path}: normalize: {error}") from None
