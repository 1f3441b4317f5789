"""Runs that are killed at random: each goes on, ends where one that went through does, and tells each thing once."""

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch as th

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.checkpoint_files import find_checkpoint
from sb3_attnmem.zoo.cli import main
from tests.zoo.searches import Running

pytestmark = pytest.mark.slow
N_KILLS = 3
N_ENVS = 2
SETTINGS = """
CartPole-v1:
  n_envs: 2
  n_timesteps: 4000
  policy: MlpLstmPolicy
  buffer_size: 2000
  learning_starts: 100
  batch_size: 4
  sequence_length: 8
  burn_in: 4
  train_freq: 4
  policy_kwargs: "dict(memory_kwargs=dict(hidden_size=8))"
"""
VALIDATION = """
  callback:
    - sb3_attnmem.transfer.ValidationCallback:
        {eval_env: CartPole-v1, eval_freq: 130, n_eval_episodes: 2, patience: null}
"""


class Variant(NamedTuple):
    """
    :param settings: beside the common ones
    :param words: of the command line
    """

    settings: str
    words: tuple[str, ...] = ()


VARIANTS = {
    "rewards normalised, validation": Variant(
        f"  normalize: 'dict(norm_obs=False, norm_reward=True)'{VALIDATION}", ("--save-replay-buffer",)
    ),
    "all normalised, prioritised": Variant(
        "  normalize: true\n"
        "  replay_buffer_class: \"get_class_by_name('sb3_attnmem.PrioritizedSequenceReplayBuffer')\"\n"
        "  refresh_states: true\n"
    ),
    "processes": Variant("", ("--vec-env", "subproc")),
    "offline, then online": Variant("", ("--offline-updates", "1500", "--offline-data", "{data}", "-n", "1000")),
}


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay buffer to learn from."""
    folder = tmp_path_factory.mktemp("data")
    run = go_through(folder, Variant("", ("-n", "1000", "--save-replay-buffer")))
    return run / "replay_buffer.pkl"


def words_of(folder: Path, variant: Variant, data: Path | None = None) -> list[str]:
    folder.mkdir(exist_ok=True)
    config = folder / "config.yml"
    config.write_text(f"{SETTINGS.rstrip()}\n{variant.settings}", encoding="utf-8")
    words = ["train", "--algo", "rdqn", "--env", "CartPole-v1", "--seed", "1", "--num-threads", "1", "--verbose", "0"]
    words += ["--eval-freq", "300", "--eval-episodes", "2", "--checkpoint-freq", "200", "-conf", str(config)]
    return [*words, "-f", str(folder), *(word.format(data=data) for word in variant.words)]


def go_through(folder: Path, variant: Variant, data: Path | None = None) -> Path:
    assert main(words_of(folder, variant, data)) == 0
    return folder / "rdqn" / "CartPole-v1_1"


def names(run: Path) -> set[str]:
    return {path.name for path in run.glob("checkpoints/checkpoint-*")}


def evaluations(run: Path) -> list[int]:
    with np.load(run / "evaluations.npz") as told:
        assert len(told["results"]) == len(told["timesteps"])
        return told["timesteps"].tolist()


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("seed", [0])
def test_a_run_survives_kills(name: str, seed: int, data: Path, tmp_path: Path) -> None:
    chance = random.Random(f"{name} {seed}")
    variant = VARIANTS[name]
    through = go_through(tmp_path / "through", variant, data)
    run = tmp_path / "killed" / "rdqn" / "CartPole-v1_1"
    words = words_of(tmp_path / "killed", variant, data)
    online_kills = kills = 0
    while True:
        before = names(run)
        process = Running(tmp_path, *words)
        # Somewhere between two checkpoints, while one is written, or while the run is set up
        deadline = time.monotonic() + 120
        early = bool(before) and chance.random() < 0.3
        while not early and names(run) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if kills < N_KILLS:
            time.sleep(chance.uniform(0.0, 12.0 if early else 1.0))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        told = process.told()
        assert "Traceback" not in told, told[-3000:]
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, told[-3000:]
            break
        online_kills += find_checkpoint(run / "checkpoints").manifest()["updates"] is None
        words = ["train", "--resume", str(run), "--verbose", "0"]
    print(f"{name}, seed {seed}: {kills} kills, {online_kills} of them online")
    assert kills > 0
    ours, theirs = (RecurrentDQN.load(folder / "CartPole-v1.zip") for folder in (run, through))
    for counter in ("num_timesteps", "_n_updates", "_n_calls", "_offline_done"):
        assert getattr(ours, counter) == getattr(theirs, counter), counter
    assert evaluations(run) == evaluations(through), "each once"
    logs = sorted(run.glob("*monitor.csv"))
    assert len(logs) == N_ENVS
    for log in logs:
        head, columns, *rows = log.read_text(encoding="utf-8").splitlines()
        assert head.startswith("#") and columns.startswith("r,l,t")
        assert sum(int(row.split(",")[1]) for row in rows) <= ours.num_timesteps // N_ENVS, "no episode twice"
    assert RecurrentDQN.load(run / "best_model.zip").num_timesteps in evaluations(run)
    if online_kills == 0:  # no environment was reset
        for key, weight in ours.policy.state_dict().items():
            assert th.equal(weight, theirs.policy.state_dict()[key]), key
    assert not list((run / "checkpoints").glob("*unfinished*")) and len(names(run)) == 2
