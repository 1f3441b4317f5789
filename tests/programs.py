"""
Programs in processes of their own, as a user starts them, each forked from a process in which nothing ran but the
imports that take long, two to four seconds: those need not be done anew for every program. This package is not
imported there, nor what registers environments.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
#: torch._dynamo is imported by the first optimizer
IMPORTED = ["torch._dynamo", "stable_baselines3", "sb3_contrib", "seaborn", "optuna", "sqlalchemy", "huggingface_sb3"]

Done = subprocess.CompletedProcess[str]


def run(
    folder: Path, *words: str, told: str = "", environment: Mapping[str, str] | None = None, timeout: float = 600
) -> Done:
    """
    Run Python to its end.

    :param folder: in which it runs
    :param words: what follows ``python``: a script, ``-c`` and code or ``-m`` and a module, and arguments
    :param told: what it reads
    :param environment: variables that are set for it, beside those of this process
    :param timeout: seconds, after which it is killed
    :return: how it ended, and what it wrote
    :raises subprocess.TimeoutExpired: when it had to be killed
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with tempfile.TemporaryDirectory() as streams:
        Path(streams, "0").write_text(told, encoding="utf-8")
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        process = context.Process(target=_run, args=(words, str(folder), streams, variables))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        written = [Path(streams, name).read_text(encoding="utf-8") for name in ("1", "2")]
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *written)


def _run(words: tuple[str, ...], folder: str, streams: str, variables: dict[str, str]) -> None:
    for descriptor, flags in enumerate((os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2)):
        opened = os.open(os.path.join(streams, str(descriptor)), flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8")
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    what, *arguments = words
    sys.argv = [what, *arguments]
    # As in a process of its own: what pytest made importable is not, unless a user has done so
    asked = variables.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [path for path in sys.path if path in asked or (path and Path(path).resolve() != ROOT)]
    import matplotlib
    import torch as th

    th.set_num_threads(1)
    if "MPLBACKEND" in variables:  # read when it was imported
        matplotlib.use(variables["MPLBACKEND"])
    if what in ("-c", "-m"):
        named, *arguments = arguments
        sys.path.insert(0, "")
        sys.argv = [what, *arguments]
        if what == "-m":
            runpy.run_module(named, run_name="__main__", alter_sys=True)
        else:
            main: Any = types.ModuleType("__main__")
            sys.modules["__main__"] = main
            exec(compile(named, "<string>", "exec"), vars(main))
    else:
        sys.path.insert(0, str(Path(what).resolve().parent))
        runpy.run_path(what, run_name="__main__")
