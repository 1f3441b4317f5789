"""``sb3-attnmem doctor``, on an environment and on a run."""

import json
from pathlib import Path

import pytest

from sb3_attnmem.envs import PreviousActionReward
from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.doctor import make_env

ENV = ["--env", "PassiveTMaze10-v0", "--env-kwargs", "corridor_length:2"]


def test_an_environment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*ENV, "-n", "1500", "--max-history", "4", "--no-progress"]
    assert main(["doctor", *words, "--json", "-o", str(tmp_path / "report.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "report.json").read_text())
    assert told["findings"][0]["name"] == "memory" and told["figures"]["memory"]["windows"] == [1, 2, 4]
    assert told["figures"]["observations"]["observation"]["shape"] == [6], "as the settings wrap it"


def test_wrappers_come_from_the_settings() -> None:
    settings = dict(env_wrapper=[{"sb3_attnmem.envs.PreviousActionReward": dict(reward=False)}])
    env = make_env("PassiveTMaze10-v0", settings, dict(corridor_length=2))
    assert isinstance(env, PreviousActionReward) and env.observation_space.shape == (6,)
    assert env.unwrapped.corridor_length == 2  # type: ignore[attr-defined]


def test_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yml"
    config.write_text(
        "PassiveTMaze10-v0: {n_timesteps: 700, policy: MlpPolicy, learning_starts: 50, buffer_size: 1000, "
        "learning_rate: 1.0e-9, train_freq: 8, policy_kwargs: {net_arch: [8]}}"
    )
    logs = tmp_path / "logs"
    words = ["-conf", str(config), "-f", str(logs), "--eval-freq", "-1", "--verbose", "0", "--seed", "0"]
    assert main(["train", "--algo", "dqn", *ENV, *words]) == 0
    folder = logs / "dqn" / "PassiveTMaze10-v0_1"
    assert "train/loss" in (folder / "progress.csv").read_text().splitlines()[0]
    capsys.readouterr()
    assert main(["doctor", "-f", str(folder), "--need", "3"]) == 1
    told = capsys.readouterr().out
    assert "learning rate" in told and "asks for memory" in told
    # It plays in the environments of the run, as its settings wrap them
    assert main(["doctor", "-f", str(folder), "--play", "3", "--json", "--no-progress"]) == 1
    assert len(json.loads(capsys.readouterr().out)["figures"]["trial"]["returns"]) == 3
    # While it still trains there is no model's file
    (folder / "PassiveTMaze10-v0.zip").unlink()
    assert main(["doctor", "-f", str(folder), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["figures"]["algo"] == "dqn" and "no model's file" in report["unseen"][0]
    assert "rate_too_small" in [finding["name"] for finding in report["findings"]]


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["--env", "CartPole-v7777"], "CartPole"),
        (["-f", "nowhere"], "There is no folder nowhere"),
        ([], "name either"),
        (["--env", "CartPole-v1", "-f", "logs"], "name either"),
        (["--env", "CartPole-v1", "-n", "1"], "n_steps=1"),
        (["-f", "tests", "--play", "2"], "needs the folder of a run of the RL Zoo"),
        (["-f", "tests", "--play", "-1"], "--play -1"),
    ],
)
def test_what_makes_no_sense(words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert complaint in capsys.readouterr().err
