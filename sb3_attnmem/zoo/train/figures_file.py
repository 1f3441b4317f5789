"""The figures of a training in its folder, for who looks for what went wrong."""

from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import CSVOutputFormat


class FiguresFile(BaseCallback):
    """
    Write the log into ``progress.csv`` as well; a run that goes on writes ``progress_2.csv``.

    :param folder: of the run
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    def _on_training_start(self) -> None:
        n_before = len(list(self.folder.glob("progress*.csv")))
        name = f"progress_{n_before + 1}.csv" if n_before else "progress.csv"
        self.logger.output_formats.append(CSVOutputFormat(str(self.folder / name)))

    def _on_step(self) -> bool:
        return True
