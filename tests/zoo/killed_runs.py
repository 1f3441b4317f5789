"""Runs of ``train`` that were killed in this process, to be gone on with."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sb3_attnmem import RecurrentDQN, ResumableCheckpoint
from sb3_attnmem.zoo.cli import main

SETTINGS = """
CartPole-v1:
  n_envs: 2
  n_timesteps: 240
  policy: MlpLstmPolicy
  normalize: "dict(norm_obs=False, norm_reward=True)"
  buffer_size: 400
  learning_starts: 32
  batch_size: 2
  sequence_length: 4
  n_steps: 3
  burn_in: 0
  train_freq: 4
  policy_kwargs: "dict(memory_kwargs=dict(hidden_size=4), encoder_arch=[4])"
  monitor_kwargs: "dict(info_keywords=())"
  callback:
    - sb3_attnmem.transfer.ValidationCallback:
        eval_env: CartPole-v1
        eval_freq: 15
        n_eval_episodes: 1
        patience: null
"""
RUN = ["train", "--algo", "rdqn", "--env", "CartPole-v1", "--seed", "1", "--verbose", "0", "--eval-episodes", "1"]


class Killed(Exception):
    """What rl_zoo3 does not catch."""


def train(folder: Path, *words: str, at: int | None = None, offline: bool = False) -> Path:
    """
    :param at: environment steps, or updates of offline training, after which the run is killed
    :return: the folder of the run
    """
    config = folder / "config.yml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(SETTINGS, encoding="utf-8")
    command = [*RUN, "-conf", str(config), "-f", str(folder), "--eval-freq", "60", "--checkpoint-freq", "32", *words]
    with pytest.MonkeyPatch.context() as patch:
        if at is not None:
            on_step = ResumableCheckpoint._on_step

            def killed(callback: ResumableCheckpoint) -> bool:
                if callback.model.num_timesteps == at and (callback.model._n_updates > 0) >= offline:
                    raise Killed
                return on_step(callback)

            patch.setattr(ResumableCheckpoint, "_on_step", killed)
            with pytest.raises(Killed):
                main(command)
        else:
            assert main(command) == 0
    config.unlink()
    return folder / "rdqn" / "CartPole-v1_1"


def resume(run: Path, *words: str) -> int:
    return main(["train", "--resume", str(run), *words])


def agent(run: Path) -> RecurrentDQN:
    return RecurrentDQN.load(run / "CartPole-v1.zip")


def move(run: Path, to: Path) -> Path:
    """Not by a rename: a run of this process that was broken off still holds its lock."""
    shutil.copytree(run, to)
    shutil.rmtree(run)
    return to


def evaluations(run: Path) -> list[int]:
    with np.load(run / "evaluations.npz") as told:
        return told["timesteps"].tolist()


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.fixture(name="original", scope="session")
def _original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed at step 150: the last checkpoint is of 128, evaluations are of 60 and 120."""
    return train(tmp_path_factory.mktemp("killed"), at=150)


@pytest.fixture(name="killed")
def _killed(original: Path, tmp_path: Path) -> Path:
    """A copy of it, somewhere else."""
    return Path(shutil.copytree(original, tmp_path / "elsewhere" / "run"))
