"""Reads the files of a run's folder, ``config.yml`` and ``args.yml``, without building the objects that they name."""

import importlib
import importlib.util
import inspect
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3.common.vec_env import VecEnvWrapper

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
    :raises RunFileError: a ValueError: when one asks for a Python object, ``normalize``, which rl_zoo3 would evaluate,
        is an expression that is not data, or what it would wrap environments in is no wrapper
    """
    for name in ("args.yml", "config.yml"):
        path = Path(folder) / name
        if not path.is_file():
            continue
        options = read_run_file(path)
        if not isinstance(options, dict):
            raise RunFileError(f"{path} must hold options by name, not {type(options).__name__}.")
        if name == "config.yml":
            try:
                _check_settings(options, path.parent.parent)
            except ValueError as error:
                raise RunFileError(f"{path}: {error}") from None


def _check_settings(settings: dict[str, Any], run: Path) -> None:
    """
    :raises ValueError: for what rl_zoo3 would evaluate or call, and is neither data nor a wrapper of environments
    """
    if isinstance(settings.get("normalize"), str):
        try:
            parse_literal(settings["normalize"])
        except ValueError as error:
            raise ValueError(f"normalize: {error}") from None
    for key, base in (("env_wrapper", gym.Wrapper), ("vec_env_wrapper", VecEnvWrapper)):
        wrappers = settings.get(key) or []
        for wrapper in wrappers if isinstance(wrappers, list) else [wrappers]:
            path = next(iter(wrapper), None) if isinstance(wrapper, dict) else wrapper
            if not _is_wrapper(str(path), base, run):
                raise ValueError(
                    f"{key}: '{path}' is no wrapper of environments that is installed here. Wrappers are classes that "
                    f"derive from {base.__name__}, or functions; none that lie in the run's folder are taken."
                )


def _is_wrapper(path: str, base: type, run: Path) -> bool:
    module, _, name = path.rpartition(".")
    if not module or module.split(".")[0] in {*sys.stdlib_module_names, "__main__"}:
        return False
    try:
        parts = module.split(".")
        for n_parts in range(1, len(parts) + 1):  # looking for a module imports the packages that it lies in
            spec = importlib.util.find_spec(".".join(parts[:n_parts]))
            if spec is None or (spec.origin and Path(spec.origin).resolve().is_relative_to(run.resolve())):
                return False
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, base))
