"""``train --pretrained … --freeze …``, as a user calls it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.transfer import Adapters, LearningPlan
from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.train.parser import read_own_options
from sb3_attnmem.zoo.train.pretraining import Pretraining, read_pretraining

RUN = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "--seed", "1", "--eval-freq", "-1", "-n"]


def load(folder: Path) -> Any:
    return RecurrentDQN.load(folder / "rdqn" / "PassiveTMaze10-v0_1" / "PassiveTMaze10-v0.zip")


def equal(a: th.nn.Module, b: th.nn.Module) -> bool:
    return all(th.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.fixture(name="agent", scope="module")
def _agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an agent that was trained with the defaults."""
    folder = tmp_path_factory.mktemp("pretrained")
    assert main([*RUN, "1600", "-f", str(folder)]) == 0
    return folder / "rdqn" / "PassiveTMaze10-v0_1" / "PassiveTMaze10-v0.zip"


def test_frozen_parts_of_another_agent(agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--pretrained", str(agent), "--parts", "encoder", "memory", "--freeze", "memory", "--seed", "7"]
    assert main([*RUN, "1600", "-f", str(tmp_path), *words]) == 0
    told = capsys.readouterr().out
    assert f"6 tensors come from {agent}" in told and "parameters learn" in told
    source, model = RecurrentDQN.load(agent), load(tmp_path)
    assert equal(source.q_net.memory, model.q_net.memory)
    assert not equal(source.q_net.encoder, model.q_net.encoder) and not equal(source.q_net.q_net, model.q_net.q_net)
    assert model.policy.learning == LearningPlan("memory")


def test_adapters_and_rates_outlive_a_resume(agent: Path, tmp_path: Path) -> None:
    learning = ["--freeze", "all", "--adapters", "encoder", "q_head", "--learning-rates", "encoder:0.5"]
    words = ["-f", str(tmp_path), "--checkpoint-freq", "400"]
    gone = tmp_path / "agent.zip"
    gone.write_bytes(agent.read_bytes())
    assert main([*RUN, "1600", *words, "--pretrained", str(gone), *learning]) == 0
    gone.unlink()
    run = tmp_path / "rdqn" / "PassiveTMaze10-v0_1"
    (run / "PassiveTMaze10-v0.zip").unlink()  # as if it had been killed before its end
    kept = json.loads((run / "resume.json").read_text(encoding="utf-8"))
    (run / "resume.json").write_text(json.dumps({**kept, "finished": None}), encoding="utf-8")
    assert main(["train", "--resume", str(run)]) == 0
    model = load(tmp_path)
    assert model.policy.learning == LearningPlan("all", {"encoder": 0.5}, Adapters(("encoder", "q_head")))
    assert equal(RecurrentDQN.load(agent).q_net.memory, model.q_net.memory)
    assert any("lora_B" in name and weight.any() for name, weight in model.q_net.named_parameters())


WRONG: list[tuple[list[str], str]] = [
    (["--pretrained", "nowhere.zip"], "--pretrained nowhere.zip: there is no such file"),
    (["--pretrained", "{readme}"], "is no agent that Stable-Baselines3 saved"),
    (["--pretrained", "{agent}", "--parts", "memroy"], "parts: 'memroy' is not in the model. The agent of"),
    (["--parts", "memory"], "pass --pretrained AGENT.zip as well"),
    (["--freeze"], "argument --freeze: expected at least one argument"),
    (["--freeze", "all"], "Nothing is left to learn"),
    (["--freeze", "encodr"], "Did you mean 'encoder'?"),
    (["--learning-rates", "encoder"], "pass PART:SHARE"),
    (["--learning-rates", "encoder:fast"], "pass PART:SHARE"),
    (["--adapters", "memory"], "can have one: peft adapts linear"),
    (["--freeze", "encoder", "-optimize"], "a search trains many agents from scratch"),
    (["--checkpoint-freq", "50", "--optimize-h"], "--checkpoint-freq: a search trains many agents from scratch"),
    (
        ["--checkpoint-freq", "50", "--algo", "ppo"],
        "--checkpoint-freq is for algorithms with a replay buffer, not for ppo",
    ),
]


@pytest.mark.parametrize("words, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_words(
    words: list[str], message: str, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "readme.zip"
    readme.write_text("no agent", encoding="utf-8")
    words = [word.format(agent=agent, readme=readme) for word in words]
    assert main([*RUN, "100", "-f", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_reading_and_leaving_out(tmp_path: Path) -> None:
    agent = tmp_path / "agent.zip"
    agent.touch()
    words = ["--algo", "ppo", f"--pretrained={tmp_path / 'agent'}", "--freeze", "2", "--parts", "a", "b", "-n", "5"]
    own, rest = read_own_options(words)
    assert read_pretraining(own) == Pretraining(str(tmp_path / "agent"), ["a", "b"], 2)
    assert rest == ["--algo", "ppo", "-n", "5"]
    own, rest = read_own_options(["--freeze", "a", "*.bias", "-n", "-1"])
    assert read_pretraining(own).freeze == ["a", "*.bias"] and rest == ["-n", "-1"]
    assert read_pretraining(read_own_options(["-n", "5"])[0]) == Pretraining()
