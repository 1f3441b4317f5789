"""Every Python block of the README runs as pasted, each in a process of its own."""

import re
from pathlib import Path

import pytest

from tests import programs

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_there_are_blocks() -> None:
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[-1][:40])
def test_block_runs_as_pasted(block: str, tmp_path: Path) -> None:
    # Fewer steps, so that the test is quick; nothing else is changed
    quick = re.sub(r"learn\([\d_]+", "learn(1_500", block)
    done = programs.run(tmp_path, "-c", quick)
    assert done.returncode == 0, done.stderr[-3000:]
