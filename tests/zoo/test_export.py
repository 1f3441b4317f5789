"""``sb3-attnmem export``, as a user calls it after ``sb3-attnmem train``."""

from pathlib import Path

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import OnnxPolicy, export_onnx
from sb3_attnmem.zoo import export as command
from sb3_attnmem.zoo.cli import main
from tests.export.parity import TOLERANCE, play_both

ENV = "PassiveTMaze10-v0"
AGENT = ["--algo", "rdqn", "--env", ENV, "-f", "logs"]


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the logs of a normalised agent."""
    folder = tmp_path_factory.mktemp("zoo")
    settings = "{n_timesteps: 300, policy: MlpPolicy, normalize: true, learning_starts: 50, batch_size: 4}"
    (folder / "config.yml").write_text(f"{ENV}: {settings}", encoding="utf-8")
    words = ["-conf", "config.yml", "--eval-freq", "-1", "--seed", "1", "--verbose", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *AGENT, *words]) == 0
    return folder


def test_an_agent_with_the_statistics_of_its_run(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    assert main(["export", "onnx", *AGENT, "-o", "model.onnx"]) == 0
    told = capsys.readouterr()
    assert "model.onnx: " in told.out and "state.h" in told.out and "largest difference" in told.out
    assert told.err == "", "the exporter is quiet"
    run = Path(f"logs/rdqn/{ENV}_1")
    model = RecurrentDQN.load(run / f"{ENV}.zip", buffer_size=1)
    statistics = VecNormalize.load(str(run / ENV / "vecnormalize.pkl"), make_vec_env(ENV))
    policy = OnnxPolicy("model.onnx")
    assert policy.normalizes and not np.allclose(statistics.obs_rms.mean, 0.0)
    parity = play_both(model, policy, make_vec_env(ENV, n_envs=3, seed=0), 40, statistics)
    assert parity.q_difference < TOLERANCE and parity.n_other == 0


def test_the_file_goes_beside_the_agent(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    assert main(["export", "onnx", *AGENT, "--no-check"]) == 0
    assert (trained / f"logs/rdqn/{ENV}_1/{ENV}.onnx").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["onnx", *AGENT[:4], "-f", "nowhere"], "folder was not found"),
        (["onnx", *AGENT, "--exp-id", "7"], f"Trained agents there: rdqn/{ENV}_1"),
        (["onnx", *AGENT, "-o", "nowhere/model.onnx"], "there is no folder nowhere"),
        (["onxx", *AGENT], "invalid choice: 'onxx'"),
        ([], "FORMAT"),
    ],
)
def test_command_lines_that_make_no_sense(
    words: list[str], said: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(trained)
    assert main(["export", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_file_that_plays_differently(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def differs(*args: object, **kwargs: object) -> None:
        raise RuntimeError("The exported q_values are 0.3 away from the model's")

    monkeypatch.chdir(trained)
    assert command.export_onnx is export_onnx
    monkeypatch.setattr(command, "export_onnx", differs)
    assert main(["export", "onnx", *AGENT]) == 1
    assert "0.3 away" in capsys.readouterr().err
