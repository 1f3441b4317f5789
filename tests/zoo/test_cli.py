"""The command line, as a user calls it: in processes of its own, outside the checkout."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.zoo import CONFIGS, register
from sb3_attnmem.zoo.cli import COMMANDS, main
from sb3_attnmem.zoo.train.manager import ZooManager
from tests import programs


def run(folder: Path, *words: str) -> programs.Done:
    return programs.run(folder, "-m", "sb3_attnmem", *words, environment=dict(MPLBACKEND="Agg"))


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``train`` was called with no more than algorithm, environment and length."""
    folder = tmp_path_factory.mktemp("zoo")
    words = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-n", "800", "--eval-freq", "400", "--seed", "1"]
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    assert str(CONFIGS["rdqn"]) in done.stdout, "our settings are the default of -conf"
    return folder


def test_train_leaves_what_rl_zoo3_s_does(trained: Path) -> None:
    run_folder = trained / "logs" / "rdqn" / "PassiveTMaze10-v0_1"
    assert (run_folder / "PassiveTMaze10-v0.zip").exists() and (run_folder / "evaluations.npz").exists()
    config = (run_folder / "PassiveTMaze10-v0" / "config.yml").read_text(encoding="utf-8")
    assert "MlpLstmPolicy" in config


def test_enjoy_loads_and_plays(trained: Path) -> None:
    done = run(
        trained, "enjoy", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-f", "logs", "--no-render", "-n", "50"
    )
    assert done.returncode == 0, done.stderr
    assert "Mean reward" in done.stdout


def test_stacked_and_normalized_observations_are_enjoyed_too(tmp_path: Path) -> None:
    words = ["--algo", "dqn", "--env", "PassiveTMaze10-v0", "-f", "logs"]
    config = tmp_path / "config.yml"
    settings = "{n_timesteps: 200, policy: MlpPolicy, normalize: true, frame_stack: 3, learning_starts: 20}"
    config.write_text(f"PassiveTMaze10-v0: {settings}", encoding="utf-8")
    done = run(tmp_path, "train", *words, "-conf", str(config), "--eval-freq", "100")
    assert done.returncode == 0, done.stderr
    done = run(tmp_path, "enjoy", *words, "--no-render", "-n", "50")
    assert done.returncode == 0, done.stderr
    assert "Loading running average" in done.stdout and "Mean reward" in done.stdout


def test_going_on_with_a_trained_agent(trained: Path) -> None:
    agent = "logs/rdqn/PassiveTMaze10-v0_1/PassiveTMaze10-v0.zip"
    words = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-n", "300", "-i", agent, "--eval-freq", "-1"]
    done = run(trained, *words, "-f", "more")
    assert done.returncode == 0, done.stderr
    assert (trained / "more" / "rdqn" / "PassiveTMaze10-v0_1" / "PassiveTMaze10-v0.zip").exists()


def test_benchmark_scores_a_folder(trained: Path) -> None:
    done = run(trained, "benchmark", "--log-dir", "logs", "--no-hub", "-n", "100", "--num-threads", "1")
    assert done.returncode == 0, done.stderr
    table = (trained / "logs" / "benchmark" / "benchmark.md").read_text(encoding="utf-8")
    assert "rdqn" in table and "PassiveTMaze10-v0" in table


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    words = ["--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-n", "2400", "--eval-freq", "400", "--seed", "1"]
    command = [sys.executable, "-m", "sb3_attnmem", "train", *words, "--checkpoint-freq", "400"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run_folder = tmp_path / "logs" / "rdqn" / "PassiveTMaze10-v0_1"
    deadline = time.monotonic() + 90
    while not list(run_folder.glob("checkpoints/checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = run(tmp_path, "train", "--resume", str(run_folder))
    assert done.returncode == 0, done.stderr
    assert "Going on at" in done.stdout
    assert RecurrentDQN.load(run_folder / "PassiveTMaze10-v0.zip").num_timesteps >= 2400
    with np.load(run_folder / "evaluations.npz") as told:
        steps = told["timesteps"].tolist()
    assert steps == list(range(400, 2401, 400)), "evaluations from before and after"
    assert len(list(tmp_path.glob("logs/rdqn/*"))) == 1, "in the same folder"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], ["unknown command 'trian'", "did you mean 'train'"]),
        (["train", "--algo", "rdqm"], ["unknown algorithm 'rdqm'", "did you mean 'rdqn'"]),
        (["train", "--resume", "nowhere"], ["--resume nowhere", "--checkpoint-freq"]),
        (["train", "--algo", "rdqn", "--checkpoint-freq", "often"], ["--checkpoint-freq: often: pass an integer"]),
        (["train", "--algo=rdqm"], ["unknown algorithm 'rdqm'"]),
        (["train", "--algo", "rdqn", "--env", "PasiveTMaze10-v0"], ["'PasiveTMaze10-v0'", "'PassiveTMaze10-v0'"]),
    ],
)
def test_a_wrong_name_gets_the_nearest_and_exit_code_2(
    words: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert all(text in told for text in said), told


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in COMMANDS)
    assert main([]) == 2
    assert main(["train", "--help"]) == 0
    assert "--n-timesteps" in capsys.readouterr().out


def test_tuning_keeps_the_policy_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a search does not draw stays as the settings have it; a sampler of rl_zoo3's would drop it."""
    register()
    config = tmp_path / "config.yml"
    settings = "{n_timesteps: 64, policy: MlpPolicy, policy_kwargs: {encoder_arch: [7], memory_class: gru}}"
    config.write_text(f"PassiveTMaze10-v0: {settings}", encoding="utf-8")
    manager = ZooManager(
        argparse.Namespace(),
        "rdqn",
        "PassiveTMaze10-v0",
        str(tmp_path),
        n_timesteps=64,
        config=str(config),
        optimize_hyperparameters=True,
        verbose=0,
        checkpoint_freq=0,
        resume=None,
        options=[],
    )
    assert manager.setup_experiment() is None
    built: list[RecurrentDQN] = []
    setup = RecurrentDQN._setup_model

    def watched(model: RecurrentDQN) -> None:
        setup(model)
        built.append(model)

    monkeypatch.setattr(RecurrentDQN, "_setup_model", watched)
    study = optuna.create_study(direction="maximize")
    trial = study.ask(fixed_distributions={})
    manager.objective(trial)
    assert built[0].policy.architecture.encoder_arch == [7]
    assert built[0].policy_kwargs["memory_class"] == trial.params["memory_class"], "what is drawn wins"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """rl_zoo3's programs import their own needs first: one that is missing, or has changed, shows here."""
    assert main([name, "--help"]) == 0
    assert "usage: " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["enjoy", "record-video", "record-training", "push-to-hub"])
def test_an_agent_that_is_not_there_is_told(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["-orga", "somebody"] if name == "push-to-hub" else []
    assert main([name, "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-f", str(tmp_path), *needed]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path}/rdqn folder was not found" in told


@pytest.mark.parametrize(
    "words",
    [
        ["plot-train", "-a", "rdqn", "-e", "X", "-f", "nowhere"],
        ["benchmark", "--log-dir", "nowhere", "--no-hub"],
        ["record-video", "--algo", "rdqn"],
        ["record-training", "--algo", "rdqn"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_of_logs_that_is_not_there_is_told(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "folder was not found" in told and "names the folder of logs" in told


@pytest.mark.parametrize("name", ["enjoy", "record-video", "push-to-hub"])
def test_a_checkpoint_that_is_not_there_is_told(name: str, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["-orga", "somebody"] if name == "push-to-hub" else []
    words = [name, "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-f", str(trained / "logs"), *needed]
    for which in (["--load-checkpoint", "77"], ["--load-last-checkpoint"], ["--load-c=77"], ["--exp-id=77"]):
        assert main([*words, *which]) == 2, which
        told = capsys.readouterr().err
        assert "found" in told and "-f names the folder of logs" in told and "Traceback" not in told


def test_recording_how_an_agent_got_better(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["record-training", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-f", str(trained / "logs")]
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert main(words) == 2
    assert "with ffmpeg, which is not installed" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda program: f"/bin/{program}")
    (tmp_path / "thesis.tex").touch()
    assert main([*words, "-o", str(tmp_path)]) == 2
    assert "removes all that is in there, thesis.tex too" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").exists()
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **_: calls.append(command) or 0)
    monkeypatch.setattr(os, "system", lambda command: 0)
    assert main([*words, "-o", str(tmp_path / "videos"), "-n", "5"]) == 0
    assert [command[2:4] for command in calls] == [["sb3_attnmem", "record-video"]] * 2, "the final model and the best"
    assert "--load-best" in calls[1]


def test_plots(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    agent = ["-a", "rdqn", "-e", "PassiveTMaze10-v0", "-f", str(trained / "logs")]
    assert main(["plot-train", *agent]) == 0
    assert main(["plot-eval", *agent, "-o", "evaluations", "--no-display"]) == 0
    assert (tmp_path / "evaluations.pkl").exists()


def test_to_the_hub_and_back(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub is a folder here; all else is what users run."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    hub = tmp_path / "hub"

    def upload(api: Any, repo_id: str, folder_path: Path, **kwargs: Any) -> None:
        shutil.copytree(folder_path, hub / repo_id, dirs_exist_ok=True)

    def download(repo_id: str, filename: str, **kwargs: Any) -> str:
        if not (hub / repo_id / filename).exists():
            raise EntryNotFoundError(filename)
        return str(hub / repo_id / filename)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda api, repo_id, **kwargs: repo_id)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "snapshot_download", lambda api, repo_id, local_dir: local_dir.mkdir(parents=True)
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setenv("TRUST_REMOTE_CODE", "True")
    agent = ["--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-orga", "somebody"]
    assert main(["push-to-hub", *agent, "-f", str(trained / "logs"), "--no-render"]) == 0
    page = (hub / "somebody" / "rdqn-PassiveTMaze10-v0" / "README.md").read_text(encoding="utf-8")
    assert "sb3-attnmem enjoy --algo rdqn" in page and "rl_zoo3." not in page and "mean_reward" in page
    assert main(["load-from-hub", *agent, "-f", "loaded"]) == 0
    assert "No normalization file" in capsys.readouterr().out
    assert main(["enjoy", *agent[:4], "-f", "loaded", "--no-render", "-n", "50"]) == 0

    def out_of_reach(repo_id: str, filename: str, **kwargs: Any) -> str:
        if filename == "vec_normalize.pkl":
            raise LocalEntryNotFoundError(filename)
        return download(repo_id, filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", out_of_reach)
    with pytest.raises(LocalEntryNotFoundError):  # not loaded without the statistics that it may have
        main(["load-from-hub", *agent, "-f", "other"])
