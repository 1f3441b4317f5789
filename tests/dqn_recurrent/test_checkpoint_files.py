"""Nothing is lost: which checkpoints are kept, which is taken, and what happens to damaged ones."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import RecurrentDQN, ResumableCheckpoint, load_checkpoint
from sb3_attnmem.dqn_recurrent import save_checkpoint
from sb3_attnmem.dqn_recurrent.checkpoint_files import KEPT, LATEST_RUN, find_checkpoint, lock_folder


@pytest.fixture(name="env", scope="module")
def _env() -> VecEnv:
    return make_vec_env("CartPole-v1", 1, seed=0)


def make(env: VecEnv) -> DQN:
    """An agent that learns nothing, quickly."""
    small: dict[str, Any] = dict(buffer_size=50, policy_kwargs=dict(net_arch=[4]))
    return DQN("MlpPolicy", env, learning_starts=10**6, train_freq=1, seed=0, **small)


class Broken(BaseCallback):
    """Break a run off."""

    def _on_step(self) -> bool:
        raise RuntimeError("broken off")


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"))


def test_two_are_kept_and_nothing_unfinished(tmp_path: Path, env: VecEnv) -> None:
    (tmp_path / "unfinished-checkpoint-000000000320").mkdir()  # by a process that was killed
    (tmp_path / ".unfinished-1234-checkpoint").mkdir()
    make(env).learn(50, callback=ResumableCheckpoint(tmp_path, 8))
    assert [find_checkpoint(path).steps for path in checkpoints(tmp_path)] == [40, 48] and KEPT == 2
    assert not list(tmp_path.glob("*unfinished*"))
    assert load_checkpoint(DQN, tmp_path, env).num_timesteps == 48


def test_a_checkpoint_at_a_step_that_has_one_does_not_replace_it(
    tmp_path: Path, env: VecEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(env).learn(8)
    first = save_checkpoint(model, tmp_path)

    def killed(*args: Any) -> None:
        assert first.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_replay_buffer", killed)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(model, tmp_path)
    assert load_checkpoint(DQN, tmp_path, env).num_timesteps == 8


def test_a_second_learn_s_are_the_newest_though_their_steps_are_fewer(tmp_path: Path, env: VecEnv) -> None:
    model = make(env).learn(40, callback=ResumableCheckpoint(tmp_path, 16))
    model.learn(24, callback=ResumableCheckpoint(tmp_path, 16))
    assert load_checkpoint(DQN, tmp_path, env).num_timesteps == 16


@pytest.mark.parametrize("file", ["model.zip", "replay_buffer.pkl", "generators.pkl", "checkpoint.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "missing"])
def test_a_damaged_one_is_passed_over_with_a_word(tmp_path: Path, env: VecEnv, file: str, how: str) -> None:
    make(env).learn(20, callback=ResumableCheckpoint(tmp_path, 8))
    path = checkpoints(tmp_path)[-1] / file
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        half = len(content) // 2
        path.write_bytes(content[:half] if how == "cut" else content[:half] + b"~" + content[half + 1 :])
    if (file, how) == ("checkpoint.json", "changed"):
        path.write_text('{"files": 3}', encoding="utf-8")
    with pytest.warns(UserWarning, match=r"0016-\w+-2 is damaged: .*Going on from .*0008-\w+-1 instead"):
        model = load_checkpoint(DQN, tmp_path, env)
    assert model.num_timesteps == 8
    for other in checkpoints(tmp_path)[:1]:
        (other / "model.zip").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint that is whole.*0016.*0008.*model.zip has 0 bytes"):
        load_checkpoint(DQN, tmp_path, env)


def test_a_fresh_run_in_an_old_folder_is_not_shadowed_and_deletes_nothing(tmp_path: Path, env: VecEnv) -> None:
    make(env).learn(60, callback=ResumableCheckpoint(tmp_path, 25))
    old = checkpoints(tmp_path)
    make(env).learn(5, callback=ResumableCheckpoint(tmp_path, 25))
    with pytest.raises(FileNotFoundError, match=r"stopped before its first checkpoint.*older runs'.*0050-"):
        load_checkpoint(DQN, tmp_path, env)
    assert load_checkpoint(DQN, old[-1], env).num_timesteps == 50, "by its own name"
    make(env).learn(40, callback=ResumableCheckpoint(tmp_path, 10))
    assert load_checkpoint(DQN, tmp_path, env).num_timesteps == 30
    assert set(old) < set(checkpoints(tmp_path))


def test_a_resumed_run_is_the_same_run(tmp_path: Path, env: VecEnv) -> None:
    make(env).learn(20, callback=ResumableCheckpoint(tmp_path, 8))
    run = (tmp_path / LATEST_RUN).read_text(encoding="utf-8")
    model = load_checkpoint(DQN, tmp_path, env)
    model.learn(20, callback=ResumableCheckpoint(tmp_path, 8), reset_num_timesteps=False)
    assert [find_checkpoint(path).steps for path in checkpoints(tmp_path)] == [24, 32]
    assert all(run in path.name for path in checkpoints(tmp_path))


def test_those_of_version_0_1_are_loaded(tmp_path: Path, env: VecEnv) -> None:
    path = save_checkpoint(make(env).learn(8), tmp_path)
    (path / "checkpoint.json").unlink()
    (tmp_path / LATEST_RUN).unlink()
    path.rename(tmp_path / "checkpoint-000000000008")
    model = load_checkpoint(DQN, tmp_path, env)
    assert model.num_timesteps == 8
    model.learn(20, callback=ResumableCheckpoint(tmp_path, 8), reset_num_timesteps=False)
    assert load_checkpoint(DQN, tmp_path, env).num_timesteps == 24


def test_one_process_at_a_time_trains_with_a_folder(tmp_path: Path, env: VecEnv) -> None:
    code = f"""
from filelock import FileLock
lock = FileLock({str(tmp_path / ".lock")!r})
lock.acquire()
print("locked", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "locked\n"
        before = list(tmp_path.iterdir())
        with pytest.raises(BlockingIOError, match="Another process trains with the checkpoints in"):
            make(env).learn(20, callback=ResumableCheckpoint(tmp_path, 8))
        assert list(tmp_path.iterdir()) == before
        other.kill()
    make(env).learn(20, callback=ResumableCheckpoint(tmp_path, 8))
    with pytest.raises(RuntimeError, match="broken off"):
        make(env).learn(20, callback=[ResumableCheckpoint(tmp_path, 8), Broken()])
    lock = lock_folder(tmp_path)  # a run of this process that was broken off locks nobody out
    assert lock is not None
    lock.release()


def test_a_full_disk_does_not_end_the_run(tmp_path: Path, env: VecEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(env)

    def full(*args: Any) -> None:
        if model.num_timesteps == 16:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_replay_buffer", lambda path: (full(), DQN.save_replay_buffer(model, path)))
    with pytest.warns(UserWarning, match=r"No checkpoint at 16 steps \(.*No space left.*the last one stays"):
        model.learn(20, callback=ResumableCheckpoint(tmp_path, 8))
    assert [find_checkpoint(path).steps for path in checkpoints(tmp_path)] == [8]


def test_a_folder_without_checkpoints_is_told(tmp_path: Path, env: VecEnv) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint; train with ResumableCheckpoint"):
        load_checkpoint(RecurrentDQN, tmp_path, env)
