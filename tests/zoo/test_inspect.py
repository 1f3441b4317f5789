"""``sb3-attnmem inspect`` on agents that the command line trained."""

import json
from argparse import ArgumentParser
from pathlib import Path

import imageio.v2 as imageio
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.trained import add_agent_options, load_agent
from tests.inspection.page_toys import data_of

AGENT = ["--algo", "rdqn", "--env", "PassiveTMaze10-v0"]
SETTINGS = (
    "{n_timesteps: 300, policy: MlpLstmPolicy, normalize: true, learning_starts: 50, buffer_size: 400, "
    "sequence_length: 8, burn_in: 0, "
    "policy_kwargs: {memory_class: window, memory_kwargs: {hidden_size: 8, window: 4, n_heads: 2}}}"
)


@pytest.fixture(name="logs", scope="module")
def _logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two agents were trained: one that attends over its past, and one without attention."""
    folder = tmp_path_factory.mktemp("inspect")
    config = folder / "config.yml"
    config.write_text(f"PassiveTMaze10-v0: {SETTINGS}", encoding="utf-8")
    words = ["-conf", str(config), "-f", str(folder / "logs"), "--eval-freq", "-1", "--seed", "1", "--verbose", "0"]
    assert main(["train", *AGENT, *words, "--env-kwargs", "corridor_length:4"]) == 0
    config.write_text("CartPole-v1: {n_timesteps: 100, policy: MlpPolicy, learning_starts: 50}", encoding="utf-8")
    assert main(["train", "--algo", "dqn", "--env", "CartPole-v1", *words]) == 0
    return folder / "logs"


def test_the_agent_comes_back_as_it_was_trained(logs: Path) -> None:
    parser = ArgumentParser()
    add_agent_options(parser)
    agent = load_agent(parser.parse_args([*AGENT, "-f", str(logs)]), render_mode="rgb_array")
    assert agent.path == logs / "rdqn" / "PassiveTMaze10-v0_1" / "PassiveTMaze10-v0.zip"
    assert agent.model.num_timesteps >= 300
    normalize = agent.env
    while not isinstance(normalize, VecNormalize):
        normalize = normalize.venv  # type: ignore[attr-defined]
    assert normalize.obs_rms.count > 200 and not normalize.training and not normalize.norm_reward
    assert agent.env.get_attr("corridor_length") == [4], "the environment's arguments of the training"
    assert agent.env.render_mode == "rgb_array"
    agent.env.close()


def test_an_environment_that_does_not_render_is_loaded_all_the_same(logs: Path) -> None:
    parser = ArgumentParser()
    add_agent_options(parser)
    agent = load_agent(parser.parse_args([*AGENT, "-f", str(logs)]), render_mode="hologram")
    assert agent.env.render_mode is None
    agent.env.close()


def test_attention(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.mp4"
    words = [
        "--heads",
        "tile",
        "--layers",
        "blocks.0",
        "-n",
        "7",
        "-o",
        str(film),
        "--n-pictures",
        "2",
        "--no-progress",
    ]
    assert main(["inspect", "attention", *AGENT, "-f", str(logs), *words]) == 0
    told = capsys.readouterr().out
    assert "7 steps (cut)" in told or "steps, return" in told
    assert "layers  q_net.memory.blocks.0.attention" in told and "q_net.memory.blocks.1.attention" in told
    with imageio.get_reader(film) as reader:
        n_frames = reader.count_frames()
    assert f"{n_frames} steps" in told and 1 <= n_frames <= 7
    assert imageio.imread(film.with_suffix(".png")).shape[1] > 600


def test_files_stand_beside_the_agent_by_default(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", "attention", *AGENT, "-f", str(logs), "-n", "2", "--no-progress"]
    folder = logs / "rdqn" / "PassiveTMaze10-v0_1"
    assert main(words) == 0
    assert data_of((folder / "attention.html").read_text(encoding="utf-8"))["steps"] == 2
    assert "2 steps (cut)" in capsys.readouterr().out and not (folder / "attention.mp4").exists()
    assert main([*words, "--png"]) == 0
    assert (folder / "attention.mp4").stat().st_size > 1_000 and (folder / "attention.png").exists()


def test_an_agent_without_attention_has_a_page(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "-o", str(tmp_path / "page.html")]
    assert main(["inspect", "attention", *agent, "-n", "3", "--no-progress"]) == 0
    assert "nothing attends" in capsys.readouterr().out
    assert len(data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["pictures"]) == 1


def test_memory(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-o", str(tmp_path / "report"), "--episodes", "4", "--n-envs", "2", "--max-history", "4", "--no-progress"]
    assert main(["inspect", "memory", *AGENT, "-f", str(logs), *words]) == 0
    figures = json.loads((tmp_path / "report" / "memory.json").read_text(encoding="utf-8"))
    assert figures["verdict"] in capsys.readouterr().out
    data = data_of((tmp_path / "report" / "memory.html").read_text(encoding="utf-8"))
    assert data["memory"]["ks"] == [1, 2, 4] and len(data["pictures"]) == 1, "it is rendered"
    assert not (tmp_path / "report" / "memory-pictures.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["attention", "--algo", "dqn", "--env", "CartPole-v1", "-o", "film.mp4"],
            ["no attention layers", "SpatialAttentionCNN"],
        ),
        (["memory", "--algo", "dqn", "--env", "CartPole-v1"], ["needs a RecurrentDQN, got DQN"]),
        (["attention", *AGENT, "--layers", "q_head"], ["no attention layer 'q_head'"]),
        (["attention", *AGENT, "-o", "film.gif"], ["must end in .html", "or in .mp4"]),
        (["attention", *AGENT, "--exp-id", "7"], ["Trained agents there", "rdqn/PassiveTMaze10-v0_1"]),
        (["attention", *AGENT, "-n", "0"], ["max_steps=0"]),
        (["memory", *AGENT, "--n-envs", "0"], ["--n-envs 0"]),
        (["attention", "--algo", "rdqn", "--env", "PassiveTMaze11-v0"], ["'PassiveTMaze11-v0'", "did you mean"]),
        (["dreams", *AGENT], ["invalid choice: 'dreams'"]),
    ],
)
def test_what_does_not_make_sense_gets_exit_code_2(
    words: list[str], said: list[str], logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", *words, "-f", str(logs)]) == 2
    told = capsys.readouterr().err
    assert all(text in told for text in said), told
