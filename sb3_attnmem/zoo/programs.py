"""rl_zoo3's programs, run in this process: what they are told is examined first, with the parser that they have."""

import argparse
import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple
from unittest import mock

import yaml

from sb3_attnmem.zoo.refusals import Refusal

#: takes the program's parser and what it read; returns what the program shall go by
Examine = Callable[[argparse.ArgumentParser, argparse.Namespace], argparse.Namespace]


class Command(NamedTuple):
    """
    :param module: of rl_zoo3, or ours
    :param function: that it is called by; None where the module is the program
    :param help: a line
    """

    module: str
    function: str | None
    help: str


def run(
    command: Command,
    name: str,
    options: Sequence[str],
    examine: Examine,
    more_help: str = "",
    patches: Sequence[AbstractContextManager[Any]] = (),
) -> int:
    """
    Run a program as if it had been called from a shell.

    :param command: the program
    :param name: that it is called by
    :param options: its command line
    :param examine: what is done with the options once the program's own parser has read them
    :param more_help: what its ``--help`` ends with
    :param patches: entered while it runs
    :return: its exit code
    """
    from sb3_attnmem.zoo.patches import (
        env_processes_end_with_their_run,
        examined_options,
        our_programs,
        run_files_are_data,
    )

    def told(parser: argparse.ArgumentParser, read: argparse.Namespace) -> argparse.Namespace:
        try:
            return examine(parser, read)
        except (OSError, ValueError) as error:
            raise SystemExit(refuse(error)) from error

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [f"sb3-attnmem {name}", *options]))
        stack.enter_context(our_programs())
        stack.enter_context(run_files_are_data())
        stack.enter_context(env_processes_end_with_their_run())
        stack.enter_context(examined_options(told, more_help))
        for patch in patches:
            stack.enter_context(patch)
        try:
            if command.function is None:
                runpy.run_module(command.module, run_name="__main__")
            else:
                return int(getattr(importlib.import_module(command.module), command.function)() or 0)
        except SystemExit as end:  # of argparse
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except (Refusal, yaml.YAMLError) as error:
            return refuse(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    return 0


def refuse(why: object) -> int:
    """
    :param why: what is wrong with the command line
    :return: the exit code
    """
    print(f"sb3-attnmem: {why}", file=sys.stderr)
    return 2
