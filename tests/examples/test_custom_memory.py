"""The example of a user's own memory runs, and its memory keeps the laws."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch as th

from sb3_attnmem import BaseMemory
from tests import programs
from tests.memory.laws import D, check_chunks, check_no_loop_over_time, check_reset, check_reset_from_what_is_not_finite

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_memory.py"


def test_it_runs_as_its_docstring_says(tmp_path: Path) -> None:
    done = programs.run(tmp_path, str(EXAMPLE), "--steps", "2000")
    assert done.returncode == 0, done.stderr[-3000:]
    float(done.stdout.split("score: ")[1].split()[0])


@pytest.fixture(name="memory")
def _memory() -> BaseMemory:
    spec = importlib.util.spec_from_file_location("custom_memory", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    th.manual_seed(0)
    return module.Traces(D)


def test_its_memory_keeps_the_laws(memory: BaseMemory) -> None:
    for starts in ("none", "random"):
        check_chunks(memory, starts)
        check_no_loop_over_time(memory, "unroll", starts, more=48)
    for position in (0, 6):
        check_reset(memory, position)
        check_reset_from_what_is_not_finite(memory, position, math.nan, "state")
