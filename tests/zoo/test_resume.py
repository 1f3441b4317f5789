"""``train --resume``: a run that was killed goes on, wherever its folder is by then, and nothing is ignored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem import RecurrentDQN, ResumableCheckpoint
from sb3_attnmem.dqn_recurrent.checkpoint_files import find_checkpoint, lock_folder
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


@pytest.fixture(name="original", scope="module")
def _original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed at step 150: the last checkpoint is of 128, evaluations are of 60 and 120."""
    return train(tmp_path_factory.mktemp("killed"), at=150)


@pytest.fixture(name="killed")
def _killed(original: Path, tmp_path: Path) -> Path:
    """A copy of it, somewhere else."""
    return Path(shutil.copytree(original, tmp_path / "elsewhere" / "run"))


@pytest.fixture(name="finished", scope="module")
def _finished(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, after it was resumed in its copy."""
    run = Path(shutil.copytree(original, tmp_path_factory.mktemp("finished") / "run"))
    assert resume(run) == 0
    return run


def test_a_copy_goes_on_from_its_own_files_to_the_end(original: Path, finished: Path) -> None:
    assert agent(finished).num_timesteps == 240
    assert evaluations(finished) == [60, 120, 180, 240], "each once"
    assert not (original / "CartPole-v1.zip").exists() and evaluations(original) == [60, 120]
    assert find_checkpoint(original / "checkpoints").steps == 128
    rows = [path.read_text(encoding="utf-8").splitlines() for path in sorted(finished.glob("*.monitor.csv"))]
    assert len(rows) == 2 and all(row[0].startswith("#") and row[1].startswith("r,l,t") for row in rows)
    assert all(sum(int(line.split(",")[1]) for line in row[2:]) <= 120 for row in rows), "no episode stands twice"


def test_every_evaluation_goes_on_with_its_own_record(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[BaseCallback] = []
    learn = RecurrentDQN.learn

    def watched(model: RecurrentDQN, *args: Any, **kwargs: Any) -> RecurrentDQN:
        seen.extend(kwargs["callback"])
        return learn(model, *args, **kwargs)

    monkeypatch.setattr(RecurrentDQN, "learn", watched)
    assert resume(killed) == 0
    validation, evaluation = (one for one in seen if hasattr(one, "best_mean_reward"))
    assert "Going on at 128 steps, 112 are left" in capsys.readouterr().out
    assert evaluation.evaluations_timesteps == [60, 120, 180, 240]
    assert validation.evaluations_timesteps == [] and validation.best_at % 15 == 0
    assert validation.n_calls == evaluation.n_calls == 120


def test_a_finished_run_is_left_as_it_is(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(finished)
    for words in ([], ["-n", "240"], ["-n", "100"]):
        assert resume(finished, *words) == 0
        assert "is finished, at 240 steps; -n with more of them goes on" in capsys.readouterr().out
    assert contents(finished) == before


def test_more_steps_are_given_to_a_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    save = RecurrentDQN.save

    def killed(model: RecurrentDQN, path: Any, *args: Any) -> None:
        if str(path).endswith("/CartPole-v1"):
            raise Killed
        save(model, path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(RecurrentDQN, "save", killed)
        with pytest.raises(Killed):
            resume(run, "-n", "304")
    assert resume(run) == 0, "the new end is remembered"
    assert agent(run).num_timesteps == 304 and evaluations(run) == [60, 120, 180, 240, 300]


@pytest.mark.parametrize(
    "words, said",
    [
        (["--seed", "7"], "--seed: --resume goes on with the run as it was begun"),
        (["--seed=7", "-f", "other", "--algo", "ppo"], "--algo, --log-folder, --seed:"),
        (["--freeze", "memory"], "--freeze: --resume goes on"),
        (["--offline-data", "x"], "--offline-data: --resume goes on"),
        (["-n", "100"], "-n 100: the run has 128 steps already"),
        (["--foo"], "unrecognized arguments: --foo"),
        (["-n", "800", "--foo", "--seed", "7"], "unrecognized arguments: --foo"),
        (["--checkpoint-freq"], "--checkpoint-freq: expected one argument"),
        (["--checkpoint-freq", "0"], "--checkpoint-freq: 0: pass an integer of at least 1"),
        (["--checkpoint-freq", "nan"], "--checkpoint-freq: nan: pass an integer of at least 1"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_changed_is_refused(
    words: list[str], said: str, original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(original)
    assert resume(original, *words) == 2
    assert said in capsys.readouterr().err
    assert contents(original) == before


def test_what_may_be_changed_is(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def manager(args: Any, *positional: Any, **kwargs: Any) -> None:
        seen.update(kwargs, **vars(args))
        raise SystemExit(0)

    monkeypatch.setattr("sb3_attnmem.zoo.train.command.ZooManager", manager)
    assert resume(killed, "--verb", "2", "-P", "--checkpoint-freq", "64", "--num-threads", "1", "--device=cpu") == 0
    assert (seen["verbose"], seen["progress"], seen["checkpoint_freq"]) == (2, True, 64)
    assert (seen["num_threads"], seen["device"], seen["seed"]) == (1, "cpu", 1)
    assert seen["config"] == str(killed / "resume.yml")


def damaged_options(run: Path) -> None:
    (run / "resume.json").write_text("", encoding="utf-8")


def options_of_another_kind(run: Path) -> None:
    (run / "resume.json").write_text('{"options": [1]}', encoding="utf-8")


def no_options(run: Path) -> None:
    (run / "resume.json").unlink()


def no_checkpoints(run: Path) -> None:
    for path in run.glob("checkpoints/checkpoint-*"):
        shutil.rmtree(path)


def no_folder_of_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def no_statistics(run: Path) -> None:
    for path in run.glob("checkpoints/checkpoint-*/vecnormalize.pkl"):
        path.unlink()


def no_statistics_in_version_0_1(run: Path) -> None:
    path = max(run.glob("checkpoints/checkpoint-*"))
    no_statistics(run)
    path.rename(path.with_name(path.name[: len("checkpoint-") + 12]))
    (run / "checkpoints" / "latest-run").unlink()
    for other in run.glob("checkpoints/checkpoint-*-*"):
        shutil.rmtree(other)


@pytest.mark.parametrize(
    "damage, said",
    [
        (damaged_options, "resume.json is damaged"),
        (options_of_another_kind, "resume.json is damaged"),
        (no_options, "only runs of `sb3-attnmem train --checkpoint-freq N` can be gone on with"),
        (no_checkpoints, "was stopped before its first one: start it anew"),
        (no_folder_of_checkpoints, "was stopped before its first one: start it anew"),
        (no_statistics, "holds no checkpoint that is whole"),
        (no_statistics_in_version_0_1, "vecnormalize.pkl is missing: the run would go on with fresh statistics"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_damaged_run_is_told_in_a_sentence(
    damage: Callable[[Path], None], said: str, killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(killed)
    assert resume(killed) == 2
    assert said in capsys.readouterr().err


def test_two_at_once_are_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from filelock import FileLock

    other = FileLock(killed / "checkpoints" / ".lock")  # as of another process
    with other:
        assert resume(killed) == 2
    assert "Another process trains with the checkpoints in" in capsys.readouterr().err
    lock = lock_folder(killed / "checkpoints")
    assert lock is not None
    lock.release()


def test_options_of_version_0_1_are_read(killed: Path) -> None:
    options = json.loads((killed / "resume.json").read_text(encoding="utf-8"))["options"]
    (killed / "resume.json").write_text(json.dumps([*options, "-conf", "/gone/resume.yml"]), encoding="utf-8")
    assert resume(killed) == 0
    assert agent(killed).num_timesteps == 240


def test_a_run_that_began_with_an_agent_goes_on_from_another_folder(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, other = tmp_path / "begun", tmp_path / "other"
    shutil.copytree(finished, begun / "source")
    other.mkdir()
    monkeypatch.chdir(begun)
    run = train(Path("logs"), "-i", "source/CartPole-v1.zip", at=100)
    move(run, other / "run")
    shutil.rmtree(begun / "source")
    monkeypatch.chdir(other)
    assert resume(Path("run")) == 0
    assert agent(other / "run").num_timesteps == 240


def test_offline_training_goes_on(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = find_checkpoint(original / "checkpoints").path / "replay_buffer.pkl"
    words = ["--offline-data", str(data), "--offline-updates", "80", "--conservative-weight", "0.5", "-n", "32"]
    through = train(tmp_path / "through", *words)
    run = train(tmp_path / "killed", *words, at=70, offline=True)
    move(run, tmp_path / "moved")
    capsys.readouterr()
    assert resume(tmp_path / "moved") == 0
    assert "Going on with learning from data" in capsys.readouterr().out
    ours, theirs = agent(tmp_path / "moved"), agent(through)
    assert ours._n_updates == theirs._n_updates >= 80 and ours.num_timesteps == theirs.num_timesteps
    for name, weight in ours.policy.state_dict().items():
        assert th.equal(weight, theirs.policy.state_dict()[name]), name
    assert resume(tmp_path / "moved") == 0, "and then it is finished"


def test_statistics_in_the_present_folder_are_not_another_run_s(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished)
    assert (finished / "CartPole-v1" / "vecnormalize.pkl").exists()
    train(tmp_path, "-n", "8")
    assert "Loading saved VecNormalize stats" not in capsys.readouterr().out
