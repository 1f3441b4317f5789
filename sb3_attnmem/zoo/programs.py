"""rl_zoo3's programs, run in this process: what they are told is examined first, with the parser that they have."""

import argparse
import importlib
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

from sb3_attnmem.common.names import nearest

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
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [f"sb3-attnmem {name}", *options]))
        stack.enter_context(mock.patch.object(subprocess, "call", _ours(subprocess.call)))
        stack.enter_context(_examined(examine, more_help))
        for patch in patches:
            stack.enter_context(patch)
        try:
            if command.function is None:
                runpy.run_module(command.module, run_name="__main__")
            else:
                return int(getattr(importlib.import_module(command.module), command.function)() or 0)
        except SystemExit as end:  # of argparse
            return end.code if isinstance(end.code, int) else int(end.code is not None)
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


@contextmanager
def _examined(examine: Examine, more_help: str) -> Iterator[None]:
    """
    rl_zoo3's parsers live inside its programs. The first command line that is read inside the ``with`` is the
    program's: it goes through ``examine``, and whatever spelling argparse takes for an option is understood.
    """
    read = argparse.ArgumentParser.parse_args

    def read_and_examine(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        first.stop()
        algo = parser._option_string_actions.get("--algo")
        if algo is not None and algo.choices is not None:
            algo.type = _known_algorithm(list(algo.choices))
        own_help = parser.format_help
        with mock.patch.object(parser, "format_help", lambda: own_help() + more_help):
            arguments = read(parser, args, namespace)
        try:
            return examine(parser, arguments)
        except (OSError, ValueError) as error:
            raise SystemExit(refuse(error)) from error

    first = mock.patch.object(argparse.ArgumentParser, "parse_args", read_and_examine)
    first.start()
    try:
        yield
    finally:
        if argparse.ArgumentParser.parse_args is not read:
            first.stop()


def _known_algorithm(known: list[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise argparse.ArgumentTypeError(f"unknown algorithm '{name}'{hint}; known are {', '.join(sorted(known))}")
        return name

    return check


def _ours(call: Callable[..., int]) -> Callable[..., int]:
    """:return: ``subprocess.call``, but what rl_zoo3's programs call of one another is ours, which knows ``rdqn``"""
    ours = {"enjoy.py": "enjoy", "rl_zoo3.enjoy": "enjoy", "rl_zoo3.record_video": "record-video"}

    def hand_over(command: Sequence[str], *args: Any, **kwargs: Any) -> int:
        for i, word in enumerate(command[:3]):
            if word in ours:
                command = [sys.executable, "-m", "sb3_attnmem", ours[word], *command[i + 1 :]]
                break
        return call(command, *args, **kwargs)

    return hand_over
