"""Runs whose environments are stepped by actors: what their processes make, and the files of their episodes."""

import copy
import importlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import ResultsWriter
from stable_baselines3.common.vec_env import VecEnv

#: of a manager, what making environments does not need: it may be large, or hold what cannot travel
LEFT_OUT = ("args", "callbacks", "specified_callbacks", "custom_hyperparams", "_hyperparams", "pretraining", "end")


class ActorOptions(NamedTuple):
    """
    Who steps the environments of a run.

    :param n_actors: number of actors
    :param ray_address: of a Ray cluster; None starts Ray on this machine
    """

    n_actors: int
    ray_address: str | None = None


class ActorEnvs:
    """
    Makes an actor's environments, wrapped like those of the run, in the actor's process.

    :param manager: of the run, ready to make environments
    :param n_envs: of each actor
    :param packages: that register environments
    """

    def __init__(self, manager: ExperimentManager, n_envs: int, packages: Sequence[str] = ()) -> None:
        self.manager: Any = copy.copy(manager)
        # The statistics of `VecNormalize` come from the learner, not from files that another machine does not have
        self.manager.__dict__.update(dict.fromkeys(LEFT_OUT), verbose=0, resume=None, folder=None, saved={})
        self.manager.trained_agent, self.manager.save_path = "", "none"
        self.n_envs, self.packages = n_envs, list(packages)

    def __call__(self) -> VecEnv:
        """:return: the environments"""
        for package in self.packages:
            importlib.import_module(package)
        made: VecEnv = self.manager.create_envs(self.n_envs, no_log=True)
        return made


class ActorEpisodes(BaseCallback):
    """
    Write the episodes of all actors into one file, as SB3's ``Monitor`` does for each environment.

    :param folder: of the run
    :param env_id: of its environment
    """

    def __init__(self, folder: str | Path, env_id: str) -> None:
        super().__init__()
        self.folder, self.env_id = Path(folder), env_id
        self._writer: ResultsWriter | None = None

    def _on_training_start(self) -> None:
        file = self.folder / "actors.monitor.csv"
        header: dict[str, float | str] = {"t_start": time.time(), "env_id": self.env_id}
        self._writer = ResultsWriter(str(file), header, override_existing=not file.exists())

    def _on_step(self) -> bool:
        assert self._writer is not None
        for info in self.locals["infos"]:
            if "episode" in info:
                self._writer.write_row({name: info["episode"][name] for name in "rlt"})
        return True

    def _on_training_end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
