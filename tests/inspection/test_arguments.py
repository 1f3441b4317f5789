"""Wrong arguments of the public functions end in a clear ValueError, before anything is played or written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.attention import KeyList, PlaceGrid
from sb3_attnmem.extractors import SpatialAttentionCNN
from sb3_attnmem.inspection import attention_overlay, record_attention_video, write_memory_report
from tests.inspection.film_toys import Noise, make

NAN = float("nan")


class Untouched(Noise):
    """An environment that nobody may play in."""

    def reset(self, **kwargs: Any) -> Any:
        raise AssertionError("it was played in")


@pytest.fixture(scope="module")
def model() -> Any:
    return make(RecurrentDQN, Noise(), SpatialAttentionCNN)


COMMON: list[tuple[dict[str, Any], str]] = [
    (dict(model="agent.zip"), "must be a Stable-Baselines3 model.*got str"),
    (dict(model=None), "got NoneType"),
    (dict(model=RecurrentDQN), "got the class RecurrentDQN"),
    (dict(model=th.nn.Linear(2, 2)), "got Linear"),
    (dict(env="CartPole-v1"), "must be a gymnasium.Env or a VecEnv, got str"),
    (dict(env=Noise), "got the class Noise"),
    (dict(env=Untouched(spaces.Box(0, 255, (20, 20, 3), np.uint8))), "observation_space"),
    (dict(env=Untouched(actions=spaces.Discrete(4))), "action_space"),
    (dict(episodes=0), "episodes=0 must be an integer of at least 1"),
    (dict(episodes=2.5), "episodes=2.5"),
    (dict(episodes=True), "episodes=True"),
    (dict(episodes="3"), "episodes='3'"),
    (dict(seed=-1), "seed=-1 must be an integer"),
    (dict(seed=None), "seed=None"),
    (dict(seed=1.0), "seed=1.0"),
    (dict(progress="no"), "progress='no' must be True or False"),
]
FILM: list[tuple[dict[str, Any], str]] = [
    (dict(path="film.gif"), "must end in .mp4"),
    (dict(path=None), "path=None must be a path"),
    (dict(path=b"film.mp4"), "must be a path"),
    (dict(path="folder.mp4"), "is a folder"),
    (dict(path="file/film.mp4"), "is a file"),
    (dict(heads="sum"), "'max', 'mean', 'tile'"),
    (dict(heads=None), "heads=None"),
    (dict(layers="attention"), "list of names"),
    (dict(layers=[]), "list of names"),
    (dict(layers=[1]), "list of names"),
    (dict(layers=3), "list of names"),
    (dict(layers=["q_head"]), "no attention layer 'q_head'.*features_extractor.attention"),
    (dict(max_steps=0), "max_steps=0"),
    (dict(max_steps=True), "max_steps=True"),
    (dict(n_pictures=1.5), "n_pictures=1.5"),
    (dict(fps=0), "fps=0"),
    (dict(fps=NAN), "fps=nan"),
    (dict(fps=True), "fps=True"),
    (dict(fps="8"), "fps='8'"),
    (dict(deterministic="no"), "deterministic='no'"),
    (dict(names=["up"]), "1 names for 3 actions"),
    (dict(names="abc"), "must be a list of names"),
    (dict(names=[1, 2, 3]), "must be a list of names"),
]
REPORT: list[tuple[dict[str, Any], str]] = [
    (dict(folder="file"), "is a file"),
    (dict(folder="file/report"), "is a file"),
    (dict(folder=""), "must be a path"),
    (dict(folder=3), "must be a path"),
    (dict(max_history=0), "max_history=0"),
    (dict(max_history=False), "max_history=False"),
    (dict(tolerance=1.5), "tolerance=1.5"),
    (dict(tolerance=NAN), "tolerance=nan"),
    (dict(tolerance="5 %"), "tolerance='5 %'"),
]


@pytest.mark.parametrize(
    "function, options, said",
    [
        *((record_attention_video, *case) for case in (*COMMON, *FILM)),
        *((write_memory_report, *case) for case in (*COMMON, *REPORT)),
    ],
)
def test_wrong_arguments(
    function: Any, options: dict[str, Any], said: str, model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder.mp4").mkdir()
    target = dict(path="film.mp4") if function is record_attention_video else dict(folder="report")
    with pytest.raises(ValueError, match=said):
        function(**{**dict(model=model, env=Untouched(), progress=False), **target, **options})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.mp4"]


def test_a_report_is_of_an_agent_that_remembers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs a RecurrentDQN, got DQN"):
        write_memory_report(make(DQN, Noise(), SpatialAttentionCNN), Untouched(), tmp_path / "report", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_pictures")
def test_numpys_numbers_are_taken(model: Any, tmp_path: Path) -> None:
    report = write_memory_report(
        model, Noise(), tmp_path, episodes=np.int64(1), seed=np.int64(3), max_history=np.int32(2),
        tolerance=np.float32(0.5), progress=np.bool_(False),
    )  # fmt: skip
    assert report.score.searched == 2


NATURE = PlaceGrid(7, 7, 84, 84, stride=8, field=36, start=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(frame=np.zeros((4, 84, 84), np.uint8)), r"Of stacked frames pass one"),
        (dict(frame=np.zeros(84, np.uint8)), r"A frame is \(height, width\)"),
        (dict(frame=np.zeros((0, 84), np.uint8)), r"got uint8 of shape \(0, 84, 1\)"),
        (dict(frame=np.full((84, 84), 200, np.int64)), "uint8, or bool or float in .0, 1., got int64"),
        (dict(frame=np.full((84, 84), 200.0)), "values in .0, 1., got 200 to 200"),
        (dict(frame=np.full((84, 84), NAN)), "got nan to nan"),
        (dict(frame="frame.png"), "A frame is"),
        (dict(weights=np.zeros((1, 4, 7, 7))), r"record.on_grid\(name\)\[b\] gives one observation's"),
        (dict(weights=np.zeros((6, 7))), r"with H×W = 7×7 as its layout says"),
        (dict(weights=np.zeros((0, 7, 7))), r"got \(0, 7, 7\)"),
        (dict(weights=np.full((7, 7), NAN)), "finite and not negative"),
        (dict(weights=-np.ones((7, 7))), "finite and not negative"),
        (dict(weights=None), "are numbers, got NoneType"),
        (dict(layout=KeyList("slots", ("0",))), "must be a PlaceGrid"),
        (dict(strength=1.5), r"strength=1.5 must be"),
        (dict(strength=NAN), r"strength=nan must be"),
        (dict(strength=True), r"strength=True must be"),
        (dict(zoom=0), r"zoom=0 must be an integer of at least 1"),
        (dict(zoom=1.5), r"zoom=1.5 must be an integer"),
        (dict(zoom=True), r"zoom=True must be an integer"),
        (dict(top=0), r"top=0 must be"),
        (dict(top=NAN), r"top=nan must be"),
    ],
)
def test_wrong_arguments_of_an_overlay(arguments: dict[str, Any], message: str) -> None:
    right = dict(frame=np.zeros((84, 84), np.uint8), weights=np.zeros((7, 7)), layout=NATURE)
    with pytest.raises(ValueError, match=message):
        attention_overlay(**{**right, **arguments})
    assert attention_overlay(**right, zoom=np.int64(2), strength=np.float32(0.5)).shape == (168, 168, 3)


class Poisoned(Noise):
    """Its third reward is infinite."""

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, float("inf") if self.n_steps == 3 else reward, *rest


def poisoned_agent() -> Any:
    model = make(RecurrentDQN, Noise(), SpatialAttentionCNN)
    with th.no_grad():
        for weight in model.q_net.q_net.parameters():
            weight.fill_(NAN)
    return model


def test_numbers_that_are_not_finite_are_named(model: Any, tmp_path: Path) -> None:
    for agent, env, said in (
        (model, Poisoned(), r"gave the rewards \[inf\]"),
        (poisoned_agent(), Noise(), "not finite.*hold NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=said):
            record_attention_video(agent, env, tmp_path / "film.mp4", progress=False)
        with pytest.raises(ValueError, match=said):
            write_memory_report(agent, env, tmp_path / "report", episodes=1, progress=False)
    assert list(tmp_path.iterdir()) == []


class Rich(Noise):
    """Rewards of 1e18."""

    def step(self, action: Any) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, 1e18 * reward, *rest


def test_huge_rewards_are_shown(model: Any, tmp_path: Path) -> None:
    film = record_attention_video(model, Rich(), tmp_path / "film.mp4", max_steps=2, progress=False)
    assert film.returns == pytest.approx([3e18])
    report = write_memory_report(model, Rich(), tmp_path, episodes=2, max_history=2, progress=False)
    assert report.score.mean == pytest.approx(1.5e19)
