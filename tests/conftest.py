import gc
import os
import signal
from collections.abc import Iterator

import psutil
import pytest
import torch as th

# Networks this small are several times faster on one thread, and pytest-xdist already uses the other cores.
th.set_num_threads(1)

# What a shell starts with "&" ignores Ctrl-C, and so would the programs that tests start and interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests fork. What other tests left to be collected may belong to threads (of Ray, gRPC) that a forked process has not:
# one that collects it crashes
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=gc.freeze)


@pytest.fixture(scope="session", autouse=True)
def _logs_of_sb3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SB3 makes a folder in the system's temporary directory for each model that learns, and leaves it there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SB3_LOGDIR", str(tmp_path_factory.mktemp("sb3")))
        yield


@pytest.fixture(autouse=True)
def _plenty_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replay buffers refuse to be larger than what is free; what is free here and now is no matter of a test."""
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=16 * 10**9))
