"""``train --resume``: a run that was killed goes on, wherever its folder is by then, and nothing is ignored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.checkpoint_files import find_checkpoint
from tests.zoo.killed_runs import (  # noqa: F401  some are fixtures
    Killed,
    _killed,
    _original,
    agent,
    contents,
    evaluations,
    move,
    resume,
    train,
)


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
    sizes = find_checkpoint(original / "checkpoints").manifest()["logs"]
    for name, size in sizes.items():
        before, after = ((run / name).read_bytes() for run in (original, finished))
        assert after.startswith(before[:size]) and len(after) > size > 100, "those before the checkpoint stay"


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
