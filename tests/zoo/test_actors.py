"""``train --actors``: the run's environments, stepped by actors, and how it goes on. Without Ray: in this process."""

import sys
from pathlib import Path
from types import ModuleType

import cloudpickle
import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.distributed import learn_with_actors
from sb3_attnmem.zoo import patches
from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.train import manager as managers
from tests.zoo.killed_runs import agent, resume, train


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actors travel as they do on Ray, and run here."""

    def learn(model: object, make_env: object, **kwargs: object) -> object:
        make_env = cloudpickle.loads(cloudpickle.dumps(make_env))
        assert kwargs.pop("ray_address") in (None, "auto")
        return learn_with_actors(model, make_env, executor="serial", chunk_steps=16, **kwargs)  # type: ignore

    monkeypatch.setattr(patches, "learn_with_actors", learn)
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))


def test_a_run_with_actors_that_is_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[VecNormalize] = []
    call = managers.ActorEnvs.__call__

    def remembered(envs: managers.ActorEnvs) -> object:
        made.append(call(envs))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(managers.ActorEnvs, "__call__", remembered)
    run = train(tmp_path, "--actors", "2", at=150)
    assert len(made) == 2 and all(isinstance(env, VecNormalize) and env.num_envs == 2 for env in made)
    before = (run / "actors.monitor.csv").read_text(encoding="utf-8")
    assert before.startswith("#") and "r,l,t" in before
    assert resume(run, "--ray-address", "auto") == 0
    assert agent(run).num_timesteps == 240 and len(made) == 4
    steps = np.load(run / "evaluations.npz")["timesteps"]
    assert steps.tolist() == [60, 120, 180, 240]
    after = (run / "actors.monitor.csv").read_text(encoding="utf-8").splitlines()
    assert after[0].startswith("#") and sum(line.startswith("#") for line in after) == 1
    assert 0 < sum(int(line.split(",")[1]) for line in after[2:]) <= 240


@pytest.mark.parametrize(
    "words, message",
    [
        (["--algo", "dqn", "--actors", "2"], "--actors is for rdqn and rqrdqn, not for dqn"),
        (["--algo", "rdqn", "--ray-address", "auto"], "pass --actors N as well"),
        (["--algo", "rdqn", "--actors", "0"], "pass an integer of at least 1"),
    ],
)
def test_refusals(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--env", "CartPole-v1", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["train", "--algo", "rdqn", "--env", "CartPole-v1", "--actors", "2"]) == 2
    assert 'pip install "sb3_attnmem[ray]"' in capsys.readouterr().err
