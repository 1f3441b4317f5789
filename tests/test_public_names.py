"""The package's public names load what they need, no more, when they are asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sb3_attnmem
import sb3_attnmem.export


def typed_imports(module: object) -> set[str]:
    """:return: the names that a module imports under ``TYPE_CHECKING``"""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    blocks = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports for alias in node.names}


@pytest.mark.parametrize("module", [sb3_attnmem, sb3_attnmem.export], ids=lambda module: module.__name__)
def test_type_checkers_and_python_see_the_same_names(module: object) -> None:
    names = set(module.__all__) - {"__version__"}  # type: ignore[attr-defined]
    assert typed_imports(module) == names == set(module._HOMES)  # type: ignore[attr-defined]
    assert set(module.__all__) <= set(dir(module))  # type: ignore[attr-defined]
    for name, home in module._HOMES.items():  # type: ignore[attr-defined]
        assert getattr(module, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("module", [sb3_attnmem, sb3_attnmem.export], ids=lambda module: module.__name__)
def test_a_wrong_name_is_an_attribute_error(module: object) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'RecurentDQN'"):
        module.RecurentDQN  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import sb3_attnmem; assert sb3_attnmem.RecurrentDQN.__name__ == 'RecurrentDQN'",
        "import sb3_attnmem; assert 'lstm' in sb3_attnmem.memory.MEMORIES",
        "from sb3_attnmem import *; assert 'lstm' in MEMORIES and RecurrentDQN and __version__",
        "import sb3_attnmem, sys; assert sb3_attnmem.__version__; assert not {'torch', 'numpy'} & set(sys.modules)",
    ],
)
def test_in_a_new_process(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
