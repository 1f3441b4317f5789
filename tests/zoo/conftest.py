"""A PostgreSQL server of the tests' own: real, started for them and thrown away."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "correct-horse"


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
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
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


@pytest.fixture(name="postgres", scope="module")
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
