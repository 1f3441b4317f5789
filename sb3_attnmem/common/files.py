"""Files and folders that are there whole or not at all, whatever ends the process."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: what the names of unfinished files and folders begin with
UNFINISHED = ".unfinished-"


def check_path(name: str, path: Any) -> Path:
    """
    :param name: of the argument
    :param path: that the user gave
    :return: the path
    :raises ValueError: when it is neither text nor a path, or empty
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str) or not os.fspath(path):
        raise ValueError(f"{name}={path!r} must be a path: a string or a pathlib.Path.")
    return Path(path)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """
    Write a file beside its place, and rename it when it is whole and on the disk::

        with replacing("report.md") as unfinished:
            unfinished.write_text(report)

    :param path: of the file; what is there stays until the new one is whole. Its folder is made if it is missing
    :return: where to write, in the same folder and with the same suffix
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield unfinished
        _to_disk(unfinished)
        os.replace(unfinished, path)
        _to_disk(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """
    Write a text file, which is there whole or as it was.

    :param path: of a file, which is replaced as a whole
    :param text: what it shall hold, in UTF-8
    """
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """
    Fill a folder under another name, and rename it when all in it is on the disk.

    :param path: of the folder, which does not exist yet
    :return: the folder to fill
    :raises FileExistsError: when ``path`` exists; nothing is written then
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already; choose another name, or remove it first.")
    unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:8]}-{path.name}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for inside in unfinished.rglob("*"):
            _to_disk(inside)
        _to_disk(unfinished)
        unfinished.rename(path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: a power cut then loses nothing of them."""
    if path.is_dir() and os.name == "nt":
        return  # Windows does not open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
