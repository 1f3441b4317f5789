"""What callbacks have found out goes with a checkpoint, and comes back with it."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import (
    BaseCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem import ResumableCheckpoint, load_checkpoint
from sb3_attnmem.dqn_recurrent import WholeFileEvalCallback, records
from tests.dqn_recurrent.test_checkpoint_files import make

FREQ = 10


class Stop(BaseCallback):
    """Break off, as a kill would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def _on_step(self) -> bool:
        if self.num_timesteps == self.after:
            raise KeyboardInterrupt
        return True


class Noting(BaseCallback):
    """A user's own."""

    checkpointed = ("notes",)

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[int] = []

    def _on_step(self) -> bool:
        self.notes.append(self.num_timesteps)
        return True


@pytest.fixture(name="scores")
def _scores(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Steps -> what an evaluation after them finds; -steps where it is not told."""
    scores: dict[int, float] = {}

    def evaluate(model: DQN, *args: Any, **kwargs: Any) -> tuple[list[float], list[int]]:
        score = scores.get(model.num_timesteps, -float(model.num_timesteps))
        return [score, score], [3, 4]

    monkeypatch.setattr("stable_baselines3.common.callbacks.evaluate_policy", evaluate)
    return scores


def callbacks(folder: Path, **kwargs: Any) -> list[Any]:
    """Two evaluations that differ, one of them with patience, and the checkpoints between them."""
    env = make_vec_env("CartPole-v1", 1)
    patience = StopTrainingOnNoModelImprovement(3)
    often = WholeFileEvalCallback(
        env,
        None,
        patience,
        eval_freq=FREQ,
        log_path=str(folder / "a"),
        best_model_save_path=str(folder / "a"),
        verbose=0,
    )
    seldom = WholeFileEvalCallback(env, eval_freq=3 * FREQ, log_path=str(folder / "b"), verbose=0)
    checkpoint = ResumableCheckpoint(folder / "checkpoints", 2 * FREQ, **kwargs)
    return [often, checkpoint, seldom, StopTrainingOnMaxEpisodes(1_000), Noting()]


def steps(folder: Path) -> list[int]:
    with np.load(folder / "evaluations.npz") as told:
        return told["timesteps"].tolist()


@pytest.fixture(name="killed")
def _killed(tmp_path: Path, scores: dict[int, float]) -> Path:
    """A run that was broken off after 57 steps; its last checkpoint is of 40."""
    scores.update({10: 5.0, 20: 7.0, 50: 9.0})
    with pytest.raises(KeyboardInterrupt):
        make(make_vec_env("CartPole-v1", 1, seed=0)).learn(200, callback=[*callbacks(tmp_path), Stop(57)])
    assert steps(tmp_path / "a") == [10, 20, 30, 40, 50] and steps(tmp_path / "b") == [30]
    return tmp_path


def resume(folder: Path, found: list[Any], more: int) -> DQN:
    model = load_checkpoint(DQN, folder / "checkpoints", make_vec_env("CartPole-v1", 1, seed=0))
    return model.learn(more, callback=found, reset_num_timesteps=False)


def test_every_callback_gets_its_own_record_back(killed: Path, scores: dict[int, float]) -> None:
    del scores[50]  # the second time it goes otherwise
    found = callbacks(killed)
    model = resume(killed, found, 15)
    often, _, seldom, episodes, noting = found
    assert often.evaluations_timesteps == [10, 20, 30, 40, 50] == steps(killed / "a")
    assert often.best_mean_reward == 7.0, "what was found after the checkpoint does not count"
    assert seldom.evaluations_timesteps == [30] == steps(killed / "b") and seldom.best_mean_reward == -30
    assert often.callback.no_improvement_evals == 3 and often.callback.last_best_mean_reward == 7.0
    assert noting.notes == list(range(1, 56)) and often.n_calls == 55
    assert episodes.n_episodes == model._episode_num > 0
    assert DQN.load(killed / "a" / "best_model.zip").num_timesteps == 20, "the best model's file is the record's"


def test_patience_goes_on_where_it_was(killed: Path, scores: dict[int, float]) -> None:
    del scores[50]
    model = resume(killed, callbacks(killed), 100)
    assert model.num_timesteps == 60, "30, 40, 50 and 60 were no better than 20"


def test_evaluations_that_cannot_be_read_are_no_obstacle(killed: Path) -> None:
    for name in ("a", "b"):
        path = killed / name / "evaluations.npz"
        path.write_bytes(path.read_bytes()[:50])
    resume(killed, callbacks(killed), 5)
    assert steps(killed / "a") == [10, 20, 30, 40] and steps(killed / "b") == [30]


def test_those_of_version_0_1_are_read_from_the_file(killed: Path) -> None:
    older, newer = sorted(killed.glob("checkpoints/checkpoint-*"))
    for file in (records.FILE, "checkpoint.json", "../latest-run"):
        (newer / file).unlink()
    newer.rename(newer.with_name("checkpoint-000000000040"))
    shutil.rmtree(older)
    aside = killed / "b" / "evaluations.npz.damaged"
    (killed / "b" / "evaluations.npz").write_bytes(b"half of it")
    found = callbacks(killed)
    with pytest.warns(UserWarning, match=r"evaluations.npz cannot be read .*evaluations.npz.damaged now"):
        resume(killed, found, 5)
    assert aside.read_bytes() == b"half of it"
    assert steps(killed / "a") == [10, 20, 30, 40] and found[0].best_mean_reward == 7.0
    assert found[0].n_calls == 45


def test_a_second_learn_from_the_start_gets_no_record(killed: Path) -> None:
    model = load_checkpoint(DQN, killed / "checkpoints", make_vec_env("CartPole-v1", 1, seed=0))
    found = callbacks(killed)
    model.learn(10, callback=found)
    assert found[0].evaluations_timesteps == [10]


def test_an_evaluation_that_is_killed_leaves_the_file_whole(
    tmp_path: Path, scores: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: str, **arrays: Any) -> None:
        Path(path if path.endswith(".npz") else f"{path}.npz").write_bytes(b"half of it")
        raise KeyboardInterrupt

    found = callbacks(tmp_path)[0]
    make(make_vec_env("CartPole-v1", 1, seed=0)).learn(10, callback=found)
    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(KeyboardInterrupt):
        make(make_vec_env("CartPole-v1", 1, seed=0)).learn(10, callback=found)
    assert steps(tmp_path / "a") == [10]
    assert [path.name for path in (tmp_path / "a").glob("*evaluations*")] == ["evaluations.npz"]


@pytest.mark.parametrize("dropped", [False, True])
def test_episodes_after_the_checkpoint_are_dropped(tmp_path: Path, dropped: bool) -> None:
    logs = tmp_path / "logs"
    checkpoint = partial(ResumableCheckpoint, tmp_path / "checkpoints", 50)

    def env(**kwargs: Any) -> Any:
        return make_vec_env("CartPole-v1", 1, seed=0, monitor_dir=str(logs), monitor_kwargs=kwargs)

    with pytest.raises(KeyboardInterrupt):
        make(env()).learn(500, callback=[checkpoint(monitor_dir=logs), Stop(115)])
    (log,) = logs.iterdir()
    before = log.read_text(encoding="utf-8")
    length = [int(row.split(",")[1]) for row in before.splitlines()[2:]]
    model = load_checkpoint(DQN, tmp_path / "checkpoints", env(override_existing=False))
    assert model.num_timesteps == 100 and log.read_text(encoding="utf-8") == before, "loading alone changes nothing"
    found = checkpoint(monitor_dir=logs) if dropped else checkpoint()
    model.learn(1, callback=found, reset_num_timesteps=False)
    kept = [int(row.split(",")[1]) for row in log.read_text(encoding="utf-8").splitlines()[2:]]
    in_time = [n for n, end in zip(length, np.cumsum(length), strict=True) if end <= 100]
    assert kept == (in_time if dropped else length) and len(in_time) < len(length)


def test_a_run_that_goes_on_in_another_folder_cuts_no_logs_there(tmp_path: Path) -> None:
    logs, others = tmp_path / "logs", tmp_path / "others"

    def env(folder: Path) -> Any:
        return make_vec_env("CartPole-v1", 1, seed=0, monitor_dir=str(folder))

    make(env(logs)).learn(60, callback=ResumableCheckpoint(tmp_path / "checkpoints", 30, monitor_dir=logs))
    make(env(others)).learn(150)
    before = (others / "0.monitor.csv").read_bytes()
    model = load_checkpoint(DQN, tmp_path / "checkpoints", make_vec_env("CartPole-v1", 1))
    noting = Noting()
    elsewhere = [noting, ResumableCheckpoint(tmp_path / "elsewhere", 30, monitor_dir=others)]
    model.learn(5, callback=elsewhere, reset_num_timesteps=False)
    assert (others / "0.monitor.csv").read_bytes() == before and len(noting.notes) == 5
