"""Processes that end with their parent, or when they are told to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_attnmem.common.processes import TOLD_TO_END

#: a parent that starts a child, which holds the pipe that its parent's standard output is until it ends
PARENT = """
import multiprocessing, os, sys, time
from sb3_attnmem.common.processes import end_when_told, end_with_parent

def farewell():
    print("farewell", flush=True)
    time.sleep({slow})

def child():
    {ending}
    print("child", os.getpid(), flush=True)
    try:
        time.sleep(60)
    finally:
        print("an exception in the main thread", flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    print("code", process.exitcode, flush=True)
"""


def start(folder: Path, ending: str, slow: float = 0.0) -> tuple[subprocess.Popen[str], int]:
    """:return: the parent, and the child's process id"""
    script = folder / "parent.py"
    script.write_text(PARENT.format(ending=ending, slow=slow), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline().split()[1])


@pytest.mark.parametrize(
    ("ending", "words"), [("end_with_parent()", ""), ("end_when_told(farewell, 5.0)", "farewell\n")]
)
def test_a_process_ends_when_its_parent_is_killed(ending: str, words: str, tmp_path: Path) -> None:
    parent, _ = start(tmp_path, ending)
    parent.kill()
    assert parent.communicate(timeout=30)[0] == words, "and without a traceback"


@pytest.mark.parametrize("slow", [0.0, 60.0])
def test_a_process_that_is_told_to_end_does_so_whatever_its_farewell_does(slow: float, tmp_path: Path) -> None:
    parent, child = start(tmp_path, "end_when_told(farewell, 0.2)", slow)
    os.kill(child, signal.SIGTERM)
    assert parent.communicate(timeout=30)[0] == f"farewell\ncode {TOLD_TO_END}\n"
