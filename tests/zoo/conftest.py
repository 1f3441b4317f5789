"""A PostgreSQL server and a gRPC proxy of the tests' own: real, started for them and thrown away."""

import contextlib
import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "correct-horse"


def free_port() -> int:
    """:return: of this machine"""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


class Proxy:
    """
    Optuna's gRPC proxy in front of an SQLite file.

    :param folder: of the file
    """

    SERVE = (
        "import optuna, sys; storage = optuna.storages.RDBStorage(sys.argv[1]);"
        "optuna.storages.run_grpc_proxy_server(storage, host='127.0.0.1', port=int(sys.argv[2]))"
    )

    def __init__(self, folder: Path) -> None:
        self.database = f"sqlite:///{folder}/behind.db"
        self.port = free_port()
        self.url = f"grpc://127.0.0.1:{self.port}"
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", self.SERVE, self.database, str(self.port)], stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.1)
        raise AssertionError("the proxy did not start")

    def stop(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.wait()


@pytest.fixture(name="proxy")
def _proxy(tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(tmp_path)
    proxy.start()
    yield proxy
    proxy.stop()


class Postgres:
    """
    A cluster with one user, ``tuner``.

    :param folder: its data, and its log
    :param bin_folder: of PostgreSQL's programs
    """

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self.folder = folder
        self.bin_folder = bin_folder
        # PostgreSQL refuses to run as root
        self.user = ("postgres" if _has_user("postgres") else "nobody") if os.geteuid() == 0 else None
        if self.user is not None:
            shutil.chown(folder, self.user)
        self.port = free_port()
        self._run("initdb", "-D", f"{folder}/data", "-U", "tuner", "--auth=trust", "--no-sync")

    def _run(self, program: str, *words: str) -> None:
        command = [str(self.bin_folder / program), *words]
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        """As a machine that fails: connections are cut."""
        self._run("pg_ctl", "-D", f"{self.folder}/data", "-w", "-m", "immediate", "stop")

    def new_database(self, name: str) -> str:
        """:return: its URL, with a password"""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tuner", name)
        return f"postgresql://tuner:{PASSWORD}@127.0.0.1:{self.port}/{name}"


def _has_user(name: str) -> bool:
    return any(line.startswith(f"{name}:") for line in Path("/etc/passwd").read_text(encoding="utf-8").splitlines())


@pytest.fixture(name="postgres", scope="session")
def _postgres() -> Iterator[Postgres]:
    # Debian keeps initdb out of the way of users
    found = shutil.which("initdb"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)
    programs = [Path(path).resolve().parent for path in found if path is not None]
    programs = [folder for folder in programs if (folder / "postgres").exists() and (folder / "createdb").exists()]
    if not programs:
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl, createdb) are not installed")
    folder = Path(tempfile.mkdtemp(prefix="sb3-attnmem-postgres-", dir="/tmp"))
    server = Postgres(folder, programs[0])
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)
