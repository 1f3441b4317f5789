"""Folders of checkpoints: which there are, which is the newest, and whether it is whole."""

import json
import re
import shutil
import uuid
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from sb3_attnmem.common.files import UNFINISHED, new_folder, write_text

#: of each run: should the newest turn out to be damaged, there is one to fall back to
KEPT = 2
MANIFEST = "checkpoint.json"
#: names the run that began last in a folder
LATEST_RUN = "latest-run"
NAME = re.compile(r"checkpoint-(?P<steps>\d{12})(-(?P<run>[0-9a-f]{8})-(?P<number>\d+))?")


class Checkpoint(NamedTuple):
    """
    :param path: of its folder
    :param steps: environment steps after which it was taken
    :param run: in which it was taken; "" in those of version 0.1, which do not tell
    :param number: counted up in the folder, by all runs together
    """

    path: Path
    steps: int
    run: str
    number: int

    def manifest(self) -> dict[str, Any]:
        """
        :return: ``files``, name -> [size, CRC-32]; ``updates`` of ``learn_offline``, or None; ``logs``, name -> size
        :raises OSError: when there is none
        :raises ValueError: when it cannot be read
        """
        if not self.run:
            return {"files": {}, "updates": None, "logs": {}}
        return dict(json.loads((self.path / MANIFEST).read_text(encoding="utf-8")))

    def damage(self) -> str | None:
        """:return: what is wrong with it; None: it is as it was written, as far as can be told"""
        try:
            files = self.manifest()["files"]
            for name, (size, checksum) in files.items():
                if (self.path / name).stat().st_size != size:
                    return f"{name} has {(self.path / name).stat().st_size} bytes instead of {size}"
                if _checksum(self.path / name) != checksum:
                    return f"{name} is not what was written"
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            return str(error)
        return None


def new_run(folder: Path) -> str:
    """
    Say that another run takes its checkpoints in a folder from now on.

    :param folder: of checkpoints
    :return: the run
    """
    run = uuid.uuid4().hex[:8]
    write_text(folder / LATEST_RUN, run)
    return run


def write_checkpoint(folder: Path, run: str, steps: int, fill: Callable[[Path], None], **manifest: Any) -> Checkpoint:
    """
    Write a checkpoint, and when it is whole and on the disk remove those of the same run that it makes needless.

    :param folder: of checkpoints
    :param run: that it belongs to
    :param steps: environment steps
    :param fill: writes its files into the folder that it is given
    :param manifest: what else is to be known of it
    :return: the checkpoint
    """
    for left in [*folder.glob(f"{UNFINISHED}*"), *folder.glob("unfinished-*")]:  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    number = 1 + max((checkpoint.number for checkpoint in _all(folder)), default=0)
    path = folder / f"checkpoint-{steps:012d}-{run}-{number}"
    with new_folder(path) as unfinished:
        fill(unfinished)
        files = {file.name: [file.stat().st_size, _checksum(file)] for file in sorted(unfinished.iterdir())}
        (unfinished / MANIFEST).write_text(json.dumps({"files": files, **manifest}), encoding="utf-8")
    for old in [checkpoint for checkpoint in _all(folder) if checkpoint.run == run][KEPT:]:
        shutil.rmtree(old.path, ignore_errors=True)
    return Checkpoint(path, steps, run, number)


def find_checkpoint(folder: str | Path) -> Checkpoint:
    """
    :param folder: of checkpoints, or a checkpoint's own
    :return: the one that was written last by the run that began last there; where it is damaged, the one before, with
        a warning
    :raises FileNotFoundError: when there is none that is whole
    """
    folder = Path(folder)
    own = NAME.fullmatch(folder.name)
    found = [_of(folder, own)] if own and (folder / "model.zip").exists() else _of_the_latest_run(folder)
    damaged: list[str] = []
    for checkpoint in found:
        damage = checkpoint.damage()
        if damage is None:
            if damaged:
                warnings.warn(f"{'; '.join(damaged)}. Going on from {checkpoint.path} instead.", stacklevel=3)
            return checkpoint
        damaged.append(f"{checkpoint.path} is damaged: {damage}")
    raise FileNotFoundError(f"{folder} holds no checkpoint that is whole. {'; '.join(damaged)}.")


def lock_folder(folder: str | Path) -> FileLock | None:
    """
    Keep other processes from training in a folder for as long as the lock is held, at most until the process ends.

    :param folder: of checkpoints
    :return: the lock, to be released; None on file systems without locks
    :raises BlockingIOError: when another process holds it
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # One lock for all of this process: a second `learn` here is not another run
    lock = FileLock(folder.resolve() / ".lock", timeout=0, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError(
            f"Another process trains with the checkpoints in {folder}, or was interrupted in it and has not ended; "
            "wait for its end, or choose another folder."
        ) from None
    except NotImplementedError:
        return None
    return lock


def _of_the_latest_run(folder: Path) -> list[Checkpoint]:
    """:return: newest first"""
    found = _all(folder)
    if not found:
        raise FileNotFoundError(
            f"{folder} holds no checkpoint; train with ResumableCheckpoint({str(folder)!r}, …) first."
        )
    marker = folder / LATEST_RUN
    run = marker.read_text(encoding="utf-8").strip() if marker.is_file() else found[0].run
    mine = [checkpoint for checkpoint in found if checkpoint.run == run]
    if not mine:
        raise FileNotFoundError(
            f"The run that began last in {folder} was stopped before its first checkpoint. The ones there are older "
            f"runs'; to go on with one of them, pass its own folder, the newest is {found[0].path}."
        )
    return mine


def _all(folder: Path) -> list[Checkpoint]:
    """:return: newest first"""
    named = [(path, NAME.fullmatch(path.name)) for path in folder.glob("checkpoint-*")]
    found = [_of(path, match) for path, match in named if match]
    return sorted(found, key=lambda checkpoint: (checkpoint.number, checkpoint.steps), reverse=True)


def _of(path: Path, name: re.Match[str]) -> Checkpoint:
    return Checkpoint(path, int(name["steps"]), name["run"] or "", int(name["number"] or 0))


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
