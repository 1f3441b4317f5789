"""What is kept in a run's folder so that a later process can set up the same run, wherever the folder is by then."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from sb3_attnmem.common.files import write_text
from sb3_attnmem.dqn_recurrent.checkpoint_files import Checkpoint, find_checkpoint
from sb3_attnmem.zoo.train.offline_data import OfflineData

#: the command line that the run was started with
OPTIONS_FILE = "resume.json"
#: the settings that it had, whatever happens to its settings file or study
SETTINGS_FILE = "resume.yml"


@dataclass
class RunFolder:
    """
    The folder of a run that takes checkpoints.

    :param path: of the folder, where it is now
    :param options: words of the command line, without passwords
    :param n_timesteps: environment steps that the run shall have; None: as it began
    :param finished: environment steps after which it ended by itself; None: it has not
    """

    path: Path
    options: list[str] = field(default_factory=list)
    n_timesteps: int | None = None
    finished: int | None = None

    @classmethod
    def find(cls, path: str | Path) -> "RunFolder":
        """
        :param path: of the folder
        :return: what is kept there
        :raises FileNotFoundError: when it is not the folder of such a run
        :raises ValueError: when its file cannot be read
        """
        file = Path(path) / OPTIONS_FILE
        if not file.is_file() or not (Path(path) / SETTINGS_FILE).is_file():
            raise FileNotFoundError(
                f"--resume {path}: there is no {file} with {SETTINGS_FILE} beside it; only runs of "
                "`sb3-attnmem train --checkpoint-freq N` can be gone on with"
            )
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(kept, list):  # of version 0.1
                kept = {"options": kept}
            folder = cls(Path(path), **kept)
            if not all(isinstance(word, str) for word in folder.options):
                raise TypeError("options are words")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"--resume {path}: {file} is damaged ({error}); go on in Python with load_checkpoint on its "
                "checkpoints, or start the run anew"
            ) from error
        return folder

    @property
    def checkpoints(self) -> Path:
        """:return: their folder"""
        return self.path / "checkpoints"

    @property
    def settings(self) -> Path:
        """:return: the file of the settings that the run had"""
        return self.path / SETTINGS_FILE

    def newest(self) -> Checkpoint:
        """
        :return: the checkpoint to go on from
        :raises FileNotFoundError: when there is none that is whole
        """
        if not any(self.checkpoints.glob("checkpoint-*")):
            raise FileNotFoundError(
                f"--resume {self.path}: there is no checkpoint in {self.checkpoints}; the run took none "
                "(--checkpoint-freq N) or was stopped before its first one: start it anew"
            )
        return find_checkpoint(self.checkpoints)

    def write(self) -> None:
        """Write all but the settings, whole or not at all."""
        kept = asdict(self)
        del kept["path"]
        write_text(self.path / OPTIONS_FILE, json.dumps(kept))


class Resumed(NamedTuple):
    """
    A run that is gone on with.

    :param folder: of the run
    :param checkpoint: from which
    :param offline: the data, if the checkpoint was taken while it learned from them
    """

    folder: RunFolder
    checkpoint: Checkpoint
    offline: OfflineData | None
