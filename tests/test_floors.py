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
    "transfer": {*FLOOR_2, ROOT},  # floor 3
    "export": {*FLOOR_2, ROOT},  # floor 3
    "inspection": {*FLOOR_2, "envs", ROOT},  # floor 4
    ROOT: {*FLOOR_2, "envs", "inspection"},
    "zoo": {*FLOOR_2, "transfer", "envs", "inspection", "export", "zoo_configs", ROOT},  # floor 5
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
