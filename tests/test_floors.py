"""
Imports only point down the floors.

Read from the syntax tree, so that an import inside a function, or under ``TYPE_CHECKING``, counts like any other. So
does a string that is a module's name, "sb3_attnmem.memory": it is there for ``importlib.import_module``.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import stable_baselines3

PACKAGE = "sb3_attnmem"
ROOT = "(root)"  # the package's own __init__.py: the public names

# Which floors each floor may import, besides itself. A new folder needs a line here.
GROUND = {"common"}
FLOOR_1 = {*GROUND, "attention", "replay", "memory", "extractors"}
FLOOR_2 = {*FLOOR_1, "dqn_recurrent"}
MAY_IMPORT = {
    "common": set(),  # the ground floor
    "attention": GROUND,  # floor 0
    "replay": GROUND,  # floor 0
    "memory": {*GROUND, "attention"},  # floor 1
    "extractors": {*GROUND, "attention"},  # floor 1
    "envs": GROUND,  # aside
    "dqn_recurrent": FLOOR_1,  # floor 2
    "distributed": FLOOR_2,  # floor 3
    "transfer": {*FLOOR_2, ROOT},  # floor 3
    "export": {*FLOOR_2, ROOT},  # floor 3
    "inspection": {*FLOOR_2, "envs", ROOT},  # floor 4
    "doctor": {*FLOOR_2, "envs", "inspection", ROOT},  # floor 4, above inspection
    ROOT: {*FLOOR_2, "envs", "inspection"},
    "zoo": {*FLOOR_2, "distributed", "transfer", "envs", "inspection", "doctor", "export", "zoo_configs", ROOT},
}
# Floors that name the packages they need besides the standard library; the others are free.
THIRD_PARTY = {"common": {"numpy", "torch", "safetensors"}, "attention": {"torch"}, "memory": {"torch"}}
MODULE_NAME = re.compile(rf"{PACKAGE}(\.\w+)+")


def imported_modules(path: Path, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """
    Line and absolute name of every import in a file, and of every string that names a module of the package.

    :param path: The file
    :param package: The package the file lies in, e.g. ``("sb3_attnmem", "memory")``, for its relative imports
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from package import name` may name a module as well as an object.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            yield node.lineno, node.value


def violations(package_folder: Path) -> list[str]:
    """Every import that does not point down, as ``file:line: what``."""
    found = []
    folders = {path.name for path in package_folder.iterdir() if path.is_dir()} | {"zoo_configs"}
    for path in sorted(package_folder.rglob("*.py")):
        place = path.relative_to(package_folder).parts
        # `python -m sb3_attnmem` is the command line
        floor = place[0] if len(place) > 1 else "zoo" if place[0] == "__main__.py" else ROOT
        if floor not in MAY_IMPORT or (floor == ROOT and place != ("__init__.py",)):
            found.append(f"{'/'.join(place)}:1: on no floor, add it to MAY_IMPORT")
            continue
        for line, module in imported_modules(path, (PACKAGE, *place[:-1])):
            top, *rest = module.split(".")
            if top == PACKAGE:
                target = rest[0] if rest and rest[0] in folders else ROOT
                allowed = target == floor or target in MAY_IMPORT[floor]
            else:
                target = top
                allowed = top in sys.stdlib_module_names or top in THIRD_PARTY.get(floor, {top})
            if not allowed:
                found.append(f"{'/'.join(place)}:{line}: {floor} may not import {target}")
    return found


def module_name(path: Path, package_folder: Path) -> str:
    """:return: "replay.buffer"; of a package's ``__init__.py`` the package, of the root's """ ""
    parts = path.relative_to(package_folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(package_folder: Path) -> list[str]:
    """
    Modules that import one another, in a circle of any length, imports for types included: one line for each set. A
    package's ``__init__.py`` that imports its own modules is none: it comes first.
    """
    files = {module_name(path, package_folder): path for path in package_folder.rglob("*.py")}
    imports: dict[str, set[str]] = {}
    for name, path in files.items():
        place = path.relative_to(package_folder).parts
        imports[name] = set()
        for _, module in imported_modules(path, (PACKAGE, *place[:-1])):
            if not module.startswith(f"{PACKAGE}."):
                continue
            target = module.removeprefix(f"{PACKAGE}.")
            while target not in files and "." in target:
                target = target.rpartition(".")[0]
            if target in files and target != name:
                imports[name].add(target)
    reach: dict[str, set[str]] = {}
    for name in imports:
        seen, todo = set(), [name]
        while todo:
            new = imports[todo.pop()] - seen
            seen |= new
            todo += new
        reach[name] = seen
    sets = {
        frozenset(other for other in reach[name] if name in reach[other]) for name in imports if name in reach[name]
    }
    return sorted(" <-> ".join(sorted(members)) for members in sets)


def own_underscore_names(tree: ast.AST) -> set[str]:
    """:return: the underscore names that a file makes: of functions, classes, variables and attributes of ``self``"""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def private_touches(package_folder: Path, of_sb3: frozenset[str] = frozenset()) -> list[str]:
    """
    Underscore names of one room that another room uses, as ``file:line: what``. Names that SB3 has as well are SB3's:
    tests/test_seams.py watches those.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package_folder.rglob("*.py"))}
    rooms: dict[str, set[str]] = {}
    for path, tree in trees.items():
        rooms.setdefault(room_of(path, package_folder), set()).update(own_underscore_names(tree) - of_sb3)
    found = []
    for path, tree in trees.items():
        room = room_of(path, package_folder)
        foreign = set().union(*(names for other, names in rooms.items() if other != room)) - rooms[room]
        for node in ast.walk(tree):
            used = []
            if isinstance(node, ast.Attribute) and not is_self(node.value):
                used = [node.attr]
            elif isinstance(node, ast.ImportFrom):
                used = [alias.name for alias in node.names]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and "attr" in node.func.id:
                used = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            place = path.relative_to(package_folder).as_posix()
            found += [f"{place}:{node.lineno}: {name}" for name in used if name in foreign]
    return found


def room_of(path: Path, package_folder: Path) -> str:
    place = path.relative_to(package_folder).parts
    return place[0] if len(place) > 1 else ROOT


def is_self(node: ast.expr) -> bool:
    """:return: whether an attribute's owner is ``self``, ``cls`` or ``super()``"""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def names_of_sb3() -> frozenset[str]:
    """:return: the underscore names that SB3's algorithms, policies and environments have"""
    folder = Path(stable_baselines3.__file__).parent
    files = [
        *(folder / "common").glob("*.py"),
        *(folder / "common/vec_env").glob("*.py"),
        *(folder / "dqn").glob("*.py"),
    ]
    return frozenset().union(*(own_underscore_names(ast.parse(path.read_text(encoding="utf-8"))) for path in files))


def test_no_modules_import_one_another() -> None:
    assert circles(Path(__file__).parents[1] / PACKAGE) == []


def test_no_room_touches_underscore_names_of_another() -> None:
    assert private_touches(Path(__file__).parents[1] / PACKAGE, names_of_sb3()) == []


@pytest.mark.parametrize(
    "files, complaint",
    [
        ({"memory/a.py": "from .b import x", "memory/b.py": "from .a import y"}, "memory.a <-> memory.b"),
        (
            {
                "memory/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import x",
                "memory/b.py": "def f():\n    from sb3_attnmem.memory import c",
                "memory/c.py": "import sb3_attnmem.memory.a",
            },
            "memory.a <-> memory.b <-> memory.c",
        ),
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, files: dict[str, str], complaint: str) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/__init__.py").write_text("from sb3_attnmem.memory.a import z\n")
    for file, text in files.items():
        (tmp_path / file).write_text(text + "\n")
    assert circles(tmp_path) == [complaint]


@pytest.mark.parametrize(
    "line, name",
    [
        ("def f(model):\n    return model._hidden", "_hidden"),
        ("from sb3_attnmem.replay.a import _helper", "_helper"),
        ("def f(model):\n    model._hidden = 1", "_hidden"),
        ("x = getattr(model, '_hidden')", "_hidden"),
        ("class A:\n    def f(self):\n        return self._hidden", None),
        ("x = model._of_nobody", None),
    ],
)
def test_a_planted_touch_is_found(tmp_path: Path, line: str, name: str | None) -> None:
    for room, text in {
        "replay": "class A:\n    def __init__(self):\n        self._hidden = 1\ndef _helper(): ...",
        "transfer": line,
    }.items():
        (tmp_path / room).mkdir()
        (tmp_path / room / "a.py").write_text(text + "\n")
    found = private_touches(tmp_path)
    assert [touch.rpartition(" ")[2] for touch in found] == ([] if name is None else [name])


def test_imports_only_point_down():
    assert violations(Path(__file__).parents[1] / PACKAGE) == []


@pytest.mark.parametrize(
    "file, line, complaint",
    [
        ("common/a.py", "from sb3_attnmem.attention import AttentionLayer", "common may not import attention"),
        ("attention/a.py", "import numpy as np", "attention may not import numpy"),
        ("attention/a.py", "from stable_baselines3.common import utils", "attention may not import stable_baselines3"),
        ("attention/a.py", "from sb3_attnmem.memory import MEMORIES", "attention may not import memory"),
        ("attention/a.py", "from ..memory.base import BaseMemory", "attention may not import memory"),
        ("attention/deep/a.py", "from ...memory import base", "attention may not import memory"),
        ("memory/a.py", "from .. import extractors", "memory may not import extractors"),
        ("memory/a.py", "from sb3_attnmem import replay", "memory may not import replay"),
        ("memory/a.py", "import sb3_attnmem", "memory may not import (root)"),
        ("extractors/a.py", "import sb3_attnmem.memory.lstm", "extractors may not import memory"),
        ("replay/a.py", "from sb3_attnmem.dqn_recurrent.targets import rescale", "replay may not import dqn_recurrent"),
        ("dqn_recurrent/a.py", "def f():\n    import sb3_attnmem.zoo", "dqn_recurrent may not import zoo"),
        ("dqn_recurrent/a.py", "from sb3_attnmem import inspection", "dqn_recurrent may not import inspection"),
        ("envs/a.py", "from sb3_attnmem.replay import SequenceReplayBuffer", "envs may not import replay"),
        ("export/a.py", "import sb3_attnmem.inspection", "export may not import inspection"),
        ("dqn_recurrent/a.py", "import sb3_attnmem.distributed", "dqn_recurrent may not import distributed"),
        ("distributed/a.py", "import sb3_attnmem.zoo", "distributed may not import zoo"),
        ("transfer/a.py", "from sb3_attnmem.zoo import cli", "transfer may not import zoo"),
        ("__init__.py", "from . import zoo", "(root) may not import zoo"),
        ("__init__.py", "HOMES = {'main': 'sb3_attnmem.zoo.cli'}", "(root) may not import zoo"),
        ("memory/a.py", "importlib.import_module('sb3_attnmem.replay')", "memory may not import replay"),
        ("shelf/a.py", "import torch", "on no floor"),
        ("helpers.py", "import torch", "on no floor"),
    ],
)
def test_a_planted_import_is_found(tmp_path, file, line, complaint):
    for floor in MAY_IMPORT.keys() - {ROOT}:
        (tmp_path / floor).mkdir()
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line + "\n")
    (found,) = violations(tmp_path)
    assert found.startswith(file) and complaint in found


def test_what_points_down_passes(tmp_path):
    for floor in MAY_IMPORT.keys() - {ROOT}:
        (tmp_path / floor).mkdir()
    (tmp_path / "attention/a.py").write_text("import math\nimport torch.nn.functional as F\nfrom .b import layer\n")
    (tmp_path / "memory/a.py").write_text(
        "from ..attention import blocks\nfrom sb3_attnmem.memory.base import BaseMemory\n"
    )
    (tmp_path / "dqn_recurrent/a.py").write_text("import numpy\nfrom sb3_attnmem.replay import sequences\n")
    (tmp_path / "zoo/a.py").write_text("from sb3_attnmem import RecurrentDQN, inspection, zoo_configs\n")
    (tmp_path / "__init__.py").write_text("from sb3_attnmem.envs import PassiveTMaze\nfrom .memory import MEMORIES\n")
    assert violations(tmp_path) == []
