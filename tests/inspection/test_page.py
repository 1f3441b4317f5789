"""What is in the page that is played: the numbers that inspection computes, and nothing from elsewhere."""

import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.inspection import write_episode_page, write_memory_report
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.memory.cut import cut_q_values
from sb3_attnmem.inspection.memory.playing import FullMemory, LastSteps, play_episodes
from sb3_attnmem.inspection.page.packing import pack_coarsely, pack_pictures
from tests.inspection.film_toys import IMAGE, Noise, Stare, make
from tests.inspection.memory_toys import Repeat, maze_walker, repeater
from tests.inspection.page_toys import data_of, write_remembering


def unpacked(packed: dict[str, Any]) -> np.ndarray:
    """:return: what player.js makes of packed numbers"""
    content = b64decode(packed["data"])
    if packed["type"] == "f4":
        return np.frombuffer(content, "<f4").reshape(packed["shape"])
    levels = np.frombuffer(content, np.uint8).reshape(packed["shape"]).astype(float)
    values = packed["low"] + levels * (packed["high"] - packed["low"]) / 254
    return np.where(levels == 255, np.nan, values)


@pytest.fixture(name="page", scope="module")
def _page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_remembering(tmp_path_factory.mktemp("page") / "memory.html")


def test_it_stands_alone(page: str) -> None:
    assert not re.search(r"https?:|<link|url\(|@import|fetch\(|XMLHttp|import\(|(src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page and "connect-src" not in page
    assert page.count("<script") == 2 and "{{" not in page.replace("${{", "")


def test_what_it_shows_is_what_was_computed(page: str) -> None:
    model, data = repeater(2), data_of(page)
    env = check_env(model, Repeat(2))
    (episode,) = play_episodes(model, env, FullMemory(model.q_net), 1, 0, 50, lambda n: None, keep=True).episodes
    assert data["taken"] == episode.actions[:, None].tolist() and data["rewards"] == episode.rewards.tolist()
    np.testing.assert_allclose(unpacked(data["bars"]), episode.q_values, atol=1e-5)
    memory = data["memory"]
    assert memory["ks"] == [1, 2, 4, 8]
    cut = np.array(memory["cut"])[..., 0]  # (T, K)
    # It names the token of two steps before: three observations are enough, two are not
    assert (cut[:, 2:] == episode.actions[:, None]).all() and (cut[:, 0] == 0).all()
    gradients = unpacked(memory["gradients"])  # by age
    assert np.nanargmax(gradients[5]) == 2 and np.isnan(gradients[5, 6:]).all() and (gradients[5, [0, 1, 3]] == 0).all()
    (state,) = memory["rows"]
    newest = unpacked(state["values"])[:, :3]
    np.testing.assert_allclose(newest, np.array(episode.observations), atol=0.01)
    table = unpacked(data["table"]["values"])
    np.testing.assert_allclose(table[:, 0], np.array(episode.observations), atol=1e-6)


def test_a_cut_memory_is_one_that_plays_with_the_last_steps() -> None:
    model = RecurrentDQN(
        "MlpPolicy", Repeat(1), seed=0, policy_kwargs=dict(memory_class="gru", memory_kwargs=dict(hidden_size=8))
    )
    env = check_env(model, Repeat(1))
    for k in (1, 3):
        (episode,) = play_episodes(model, env, LastSteps(model.q_net, k), 1, 0, 50, lambda n: None, keep=True).episodes
        np.testing.assert_allclose(cut_q_values(model.q_net, episode, k), episode.q_values, atol=1e-5)
    full = play_episodes(model, env, FullMemory(model.q_net), 1, 0, 50, lambda n: None, keep=True).episodes[0]
    np.testing.assert_allclose(cut_q_values(model.q_net, full, 50), full.q_values, atol=1e-5)
    assert np.abs(cut_q_values(model.q_net, full, 1) - full.q_values).max() > 1e-3


def test_several_episodes_pictures_and_names(tmp_path: Path) -> None:
    env = PassiveTMaze(corridor_length=4, render_mode="rgb_array")
    model = maze_walker(PassiveTMaze(corridor_length=4))
    names = ["</script><script>alert(1)</script>", "up {{data}}", "left", "dow\x00n"]
    written = write_episode_page(model, env, tmp_path / "new" / "page.html", episodes=3, names=names, progress=False)
    page = written.html.read_text(encoding="utf-8")
    data = data_of(page)
    assert page.count("<script") == 2 and data["actions"] == [*names[:3], "dow\N{REPLACEMENT CHARACTER}n"]
    assert [one["return"] for one in data["episodes"]] == written.returns == [1.0] * 3 and written.over
    assert data["starts"] == [0, 5, 10] == [one["begin"] for one in data["episodes"]]
    (picture,) = data["pictures"]
    frames = [Image.open(BytesIO(b64decode(url.split(",")[1]))).convert("RGB") for url in picture["urls"]]
    assert len(picture["index"]) == written.steps == 15 and len(frames) < 15, "what looks alike is there once"
    env.reset(seed=0)
    np.testing.assert_array_equal(np.array(frames[picture["index"][0]]), env.render())
    assert written.n_bytes == written.html.stat().st_size and written.shown == []


def test_attention_of_each_head(tmp_path: Path) -> None:
    model = make(DQN, Noise(IMAGE), Stare)
    env = Noise(IMAGE, render_mode="rgb_array")
    written = write_episode_page(model, env, tmp_path / "page.html", max_steps=3, progress=False)
    data = data_of(written.html.read_text(encoding="utf-8"))
    assert not written.over and data["episodes"][0]["over"] is False and data["memory"] is None
    (view,) = data["views"]
    weights = unpacked(view["weights"])
    assert weights.shape == (3, 2, 3, 4) and (weights.reshape(3, 2, 12).sum(axis=-1) == 1).all()
    assert [one["title"] for one in data["pictures"]] == ["environment", "observation"] and view["picture"] == 1


@pytest.mark.parametrize("actions", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))])
def test_any_agent_has_a_page(tmp_path: Path, actions: spaces.Space) -> None:
    space = spaces.Box(-1, 1, (5,), np.float32)
    model = PPO("MlpPolicy", Noise(space, actions=actions), n_steps=8, batch_size=4, device="cpu", seed=0)
    written = write_episode_page(model, Noise(space, actions=actions), tmp_path / "page.html", progress=False)
    data = data_of(written.html.read_text(encoding="utf-8"))
    n = 3 if isinstance(actions, spaces.Discrete) else 2
    assert unpacked(data["bars"]).shape == (5, n) and len(unpacked(data["values"])) == 5
    assert ([] in data["taken"]) == isinstance(actions, spaces.Box)


@pytest.mark.parametrize("branching", [False, True])
def test_actions_of_several_dimensions(tmp_path: Path, branching: bool) -> None:
    space, actions = spaces.Box(-1, 1, (3,), np.float32), spaces.MultiDiscrete([3, 2])
    policy_kwargs = dict(memory_class="gru", memory_kwargs=dict(hidden_size=8), branching=branching)
    env = Noise(space, actions=actions)
    model = RecurrentDQN("MlpPolicy", env, buffer_size=64, policy_kwargs=policy_kwargs, seed=0)
    page = write_episode_page(model, Noise(space, actions=actions), tmp_path / "page.html", progress=False).html
    data = data_of(page.read_text(encoding="utf-8"))
    assert unpacked(data["bars"]).shape == (5, 5 if branching else 6) and len(data["actions"]) == (
        5 if branching else 6
    )
    assert {len(bars) for bars in data["taken"]} == {2 if branching else 1}
    bars, offset = unpacked(data["bars"]), 3
    if branching:
        assert data["taken"] == [[int(row[:3].argmax()), offset + int(row[3:].argmax())] for row in bars]
    else:
        assert data["taken"] == [[int(row.argmax())] for row in bars]
    assert data["memory"]["cut"][0] == [data["taken"][0]] * 3, "at the first step there is nothing to cut"


def test_five_hundred_steps_of_atari_take_less_than_ten_megabytes(tmp_path: Path) -> None:
    pytest.importorskip("cv2")  # AtariWrapper's
    gym.register_envs(ale_py)
    n_steps = 40

    def atari(**kwargs: Any) -> Any:
        return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", env_kwargs=kwargs), 4)

    policy_kwargs = dict(
        features_extractor_class="spatial_attention_cnn",
        features_extractor_kwargs=dict(features_dim=32, n_heads=4),
        memory_class="lstm",
        memory_kwargs=dict(hidden_size=128),
    )
    model = RecurrentDQN("CnnPolicy", atari(), buffer_size=100, policy_kwargs=policy_kwargs, seed=0)
    env = atari(render_mode="rgb_array")
    path = tmp_path / "page.html"
    written = write_episode_page(model, env, path, max_steps=n_steps, max_history=8, progress=False)
    bare = len(path.read_text(encoding="utf-8").split('id="data">')[0])
    assert written.steps == n_steps and (written.n_bytes - bare) * 500 / n_steps < 10e6
    data = data_of(path.read_text(encoding="utf-8"))
    assert len(data["pictures"]) == 2 and len(set(data["pictures"][0]["index"])) > 10


def test_few_colours_are_kept_and_many_are_small() -> None:
    rng = np.random.default_rng(0)
    few = rng.integers(0, 4, (20, 30, 1)).repeat(3, axis=2).astype(np.uint8) * 60
    many = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    packed = pack_pictures([few, many, few.copy()])
    assert packed["index"] == [0, 1, 0] and (packed["width"], packed["height"]) == (30, 20)
    first, second = packed["urls"]
    assert first.startswith("data:image/png") and second.startswith("data:image/jpeg")
    np.testing.assert_array_equal(np.array(Image.open(BytesIO(b64decode(first.split(",")[1]))).convert("RGB")), few)


def test_coarse_numbers_are_within_half_a_level() -> None:
    values = np.array([[-3.0, 0.1, np.nan], [5.0, 4.98, np.inf]])
    got = unpacked(pack_coarsely(values))
    assert (
        np.isnan(got[[0, 1], [2, 2]]).all()
        and np.nanmax(np.abs(got - np.where(np.isinf(values), np.nan, values))) <= 4 / 254
    )
    assert unpacked(pack_coarsely(np.full((2, 2), 7.0))).tolist() == [[7.0] * 2] * 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(path="page.pdf"), "must end in .html"),
        (dict(max_steps=0), "max_steps=0"),
        (dict(max_history=0), "max_history=0"),
        (dict(layers=["x"]), "no attention layers"),
        (dict(names=["one"]), "1 names for 3 actions"),
    ],
)
def test_refusals(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    path = tmp_path / options.pop("path", "page.html")
    with pytest.raises(ValueError, match=said):
        write_episode_page(repeater(1), Repeat(1), path, progress=False, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_pictures")
def test_pictures_stay_beside_the_player(tmp_path: Path) -> None:
    report = write_memory_report(repeater(1), Repeat(1), tmp_path, episodes=2, format="both", progress=False)
    assert report.pictures == tmp_path / "memory-pictures.html" and "<script" not in report.pictures.read_text("utf-8")
    page = report.html.read_text("utf-8")
    assert report.verdict in page
    charts = {chart["title"]: chart for chart in data_of(page)["charts"]}
    assert list(charts) == ["Score against history", "Gradient reach", "Exchanged observations", "Contamination"]
    assert report.exchanged is not None
    assert charts["Exchanged observations"]["marks"][0]["x"] == report.exchanged.cause


def test_an_unknown_format_of_a_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format='film' is unknown"):
        write_memory_report(repeater(1), Repeat(1), tmp_path, format="film", progress=False)
