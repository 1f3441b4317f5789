"""Processes that end when the one that started them does."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

#: exit code of a process that was told to end, as a shell has it
TOLD_TO_END = 128 + signal.SIGTERM


def end_with_parent() -> None:
    """
    End this process, of ``multiprocessing``, at once when its parent is gone, whatever it does at that moment.

    A process that was not started by another is left alone.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        _start(lambda: _wait_and_exit([parent.sentinel]))


def end_when_told(farewell: Callable[[], None], seconds: float) -> None:
    """
    End this process when it gets SIGTERM, or when its parent is gone, whatever it does at that moment.

    A thread waits for both, and the main thread goes on meanwhile: an exception there could come where it is swallowed,
    or leave other threads running, which a process would wait for. To be called in the main thread.

    :param farewell: is called first, in a thread of its own
    :param seconds: that it is given
    """
    if os.name == "nt":  # where SIGTERM cannot be caught
        end_with_parent()
        return
    told, signals = os.pipe()
    os.set_blocking(signals, False)
    signal.set_wakeup_fd(signals)  # written to at once, even while the main thread is inside of a long call
    signal.signal(signal.SIGTERM, _noted)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        reasons = [told] if parent is None else [told, parent.sentinel]
        while True:
            ready = multiprocessing.connection.wait(reasons)
            if told not in ready or signal.SIGTERM in os.read(told, 64):
                last = _start(farewell)
                last.join(seconds)
                os._exit(TOLD_TO_END)

    _start(wait)


def _wait_and_exit(sentinels: list[int]) -> None:
    multiprocessing.connection.wait(sentinels)
    os._exit(TOLD_TO_END)


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def _noted(signum: int, frame: FrameType | None) -> None:
    """Nothing is left to do: the thread that waits has heard of it."""
