"""The page and its figures; what must not change; what is refused."""

import json
import random
import re
from base64 import b64decode
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from PIL import Image
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.inspection import write_memory_report
from sb3_attnmem.inspection.memory.verdict import number, with_error
from tests.dqn_recurrent.worlds import SPACES, World, make_learner, make_world
from tests.inspection.memory_toys import Repeat, plain


def pictures(page: str) -> list[Image.Image]:
    urls = re.findall(r'src="([^"]*)"', page)
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    return [Image.open(BytesIO(b64decode(url.split(",")[1]))) for url in urls]


@pytest.mark.parametrize(
    "memory, options, n_pictures",
    [
        ("lstm", {}, 6),
        ("gtrxl", dict(memory_fusion="gate"), 10),  # two layers, by step and by age
        ("deltanet", {}, 8),  # one layer, by step and by age
        ("dnc", {}, 9),  # two read heads and the write head
    ],
)
def test_the_page_stands_alone_and_the_figures_are_there(
    tmp_path: Path, memory: str, options: dict[str, Any], n_pictures: int
) -> None:
    model = plain(Repeat(2), memory, memory_kwargs=dict(hidden_size=8), **options)
    report = write_memory_report(model, Repeat(2), tmp_path / "new" / "folder", episodes=3, progress=False)
    page = report.html.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|url\(|@import|(src|href)=\"(?!data:)", page)
    shown = pictures(page)
    assert len(shown) == n_pictures and all(300 < image.width < 1300 for image in shown)
    assert report.verdict in page.replace("&#x27;", "'")
    figures = json.loads(report.json.read_text(encoding="utf-8"))
    assert figures["verdict"] == report.verdict and figures["agent"]["episodes"] == 3
    assert [point["k"] for point in figures["history"]["by_k"]] == [point.k for point in report.score.points]
    assert len(figures["episode"]["q_values"]) == len(figures["episode"]["actions"]) == 12
    assert (figures["episode"]["mean_alpha"] is not None) == bool(options)
    assert [one["foreign_steps"] for one in figures["contamination"]] == [1, 4]
    assert figures["exchange"]["exchanges"] in (1, 2) and "Exchanged observations" in page
    assert "Contamination" in page and report.pictures is None
    assert sorted(path.name for path in report.html.parent.iterdir()) == ["memory.html", "memory.json"]


@pytest.mark.parametrize("name", ["image", "dict"])
def test_observations_with_pictures_are_shown(tmp_path: Path, name: str) -> None:
    model = make_learner(make_world(name), "MultiInputPolicy" if name == "dict" else "CnnPolicy")
    report = write_memory_report(model, World(SPACES[name]), tmp_path, episodes=2, progress=False)
    n_pictures = 6 + 1  # a strip of frames
    assert report.score.whole == 7 and len(pictures(report.html.read_text(encoding="utf-8"))) == n_pictures


@pytest.mark.parametrize("name", ["discrete", "multi-binary matrix"])
@pytest.mark.usefixtures("without_pictures")
def test_other_observation_spaces(tmp_path: Path, name: str) -> None:
    report = write_memory_report(
        make_learner(make_world(name)), World(SPACES[name]), tmp_path, episodes=2, progress=False
    )
    assert report.score.whole == 7


def test_a_memory_that_reads_maps(tmp_path: Path) -> None:
    policy_kwargs = dict(
        memory_class="attentive_lstm",
        memory_kwargs=dict(hidden_size=8),
        features_extractor_class="plain_cnn",
        features_extractor_kwargs=dict(output="map"),
    )
    model = make_learner(make_world("image"), "CnnPolicy", policy_kwargs=policy_kwargs)
    report = write_memory_report(model, make_world("image"), tmp_path, episodes=2, progress=False)
    assert "Attention over the places" in report.html.read_text(encoding="utf-8")


def test_one_episode_of_one_step_is_a_report_too(tmp_path: Path) -> None:
    class Bandit(World):
        def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
            return self.observation_space.sample(), 1.0, True, False, {}

    report = write_memory_report(make_learner(Bandit()), Bandit(), tmp_path, episodes=1, progress=False)
    assert report.verdict == "Every episode ends after its first step: there is nothing to remember."
    assert json.loads(report.json.read_text(encoding="utf-8"))["history"]["full_memory"]["standard_error"] is None


@pytest.mark.usefixtures("without_pictures")
def test_training_goes_on_as_if_there_had_been_no_report(tmp_path: Path) -> None:
    def trained(reported: bool) -> tuple[RecurrentDQN, VecNormalize, Any]:
        env = VecNormalize(make_world())
        model = make_learner(env)
        model.learn(100)
        dice = random.getstate(), np.random.get_state(), th.get_rng_state()
        if reported:
            model.policy.set_training_mode(True)
            modes = [module.training for module in model.policy.modules()]
            gradients = [weight.grad.clone() for weight in model.q_net.parameters()]
            other = VecNormalize(make_world())
            write_memory_report(model, other, tmp_path, episodes=3, progress=False)
            assert other.training and other.norm_reward and other.obs_rms.count < 1
            assert [module.training for module in model.policy.modules()] == modes
            now = random.getstate(), np.random.get_state(), th.get_rng_state()
            assert now[0] == dice[0] and th.equal(now[2], dice[2])
            np.testing.assert_equal(now[1], dice[1])
            assert all(map(th.equal, gradients, (weight.grad for weight in model.q_net.parameters())))
        model.learn(100, reset_num_timesteps=False)
        return model, env, model.predict(env.reset())[0]

    (ours, our_env, _), (theirs, their_env, _) = trained(True), trained(False)
    for name, weight in ours.policy.state_dict().items():
        assert th.equal(weight, theirs.policy.state_dict()[name]), name
    assert ours.replay_buffer.rng.bit_generator.state == theirs.replay_buffer.rng.bit_generator.state
    np.testing.assert_array_equal(ours.replay_buffer.tapes.rewards, theirs.replay_buffer.tapes.rewards)
    np.testing.assert_array_equal(our_env.obs_rms.mean, their_env.obs_rms.mean)
    assert ours._exploration_rng.bit_generator.state == theirs._exploration_rng.bit_generator.state
    assert ours._prediction_rng.bit_generator.state == theirs._prediction_rng.bit_generator.state


def test_the_environment_of_the_training_is_refused(tmp_path: Path) -> None:
    model, folder = make_learner(), tmp_path / "report"
    model.learn(20)
    with pytest.raises(ValueError, match="environment that the model trains in"):
        write_memory_report(model, model.get_env(), folder, progress=False)
    assert not folder.exists()


@pytest.mark.usefixtures("without_pictures")
def test_a_game_goes_on_after_a_lost_life(tmp_path: Path) -> None:
    """The Monitor says when the game is over; the return is the game's, and the memory forgets with each life."""
    from stable_baselines3.common.monitor import Monitor

    class Lives(gym.Wrapper):
        def reset(self, **kwargs: Any) -> Any:
            return self.env.reset(**kwargs) if self.over else (self.last, {})

        over = True

        def step(self, action: int) -> Any:
            self.last, reward, terminated, truncated, info = self.env.step(action)
            self.over = terminated or truncated
            return self.last, reward, self.over or self.env.unwrapped.n_steps == 3, False, info

    model = make_learner()
    env = Lives(Monitor(World()))
    report = write_memory_report(model, env, tmp_path, episodes=2, progress=False)
    figures = json.loads(report.json.read_text(encoding="utf-8"))
    assert report.score.whole == 7 and figures["episode"]["steps"] == 7


@pytest.mark.parametrize(
    "value, error, words",
    [
        (487.123, 4.12, "487.1 ± 4.1"),
        (0.46, 0.0712, "0.460 ± 0.071"),
        (-20.5, 0.0, "-20.5 ± 0"),
        (1234.4, 56.0, "1,234 ± 56"),
    ],
)
def test_numbers_are_as_long_as_their_errors(value: float, error: float, words: str) -> None:
    assert with_error(value, error) == words


def test_numbers() -> None:
    assert [number(x) for x in (0, 1, 0.02, 0.528, 123456.7, float("nan"), 1e-9)] == [
        "0", "1", "0.02", "0.528", "123,457", "?", "0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "module, name",
    [
        ("memory_report", "MemoryReport"),
        *(("history", name) for name in ("HistoryScore", "Point")),
        ("reach", "GradientReach"),
        *(("state_gap", name) for name in ("StateGaps", "StateGap")),
    ],
)
def test_classes_of_a_report_are_found_where_they_were(module: str, name: str) -> None:
    found = getattr(import_module(f"sb3_attnmem.inspection.{module}"), name)
    assert found.__module__.startswith("sb3_attnmem.inspection.memory.")
