"""Films of what an agent steps at: planted attention is seen where it was planted, for every algorithm and layer."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.colors import to_rgb
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.attention import AttentionLayer, KeyList, PlaceGrid, record_attention, set_layout
from sb3_attnmem.extractors import (
    AttentionCombinedExtractor,
    ChannelAttentionCNN,
    EntityAttention,
    FrameAttention,
    SpatialAttentionCNN,
)
from sb3_attnmem.extractors.base import AttentionExtractor
from sb3_attnmem.inspection import record_attention_video
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.film.board import Board
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, action_names, film_episodes
from sb3_attnmem.inspection.film.observed import Observed, shrunk
from sb3_attnmem.inspection.film.panels import ORANGE, BarsPanel, TablePanel, past_of
from sb3_attnmem.inspection.film.picture_panels import MapPanel, PicturePanel
from sb3_attnmem.inspection.film.views import Heads, view_of

IMAGE = spaces.Box(0, 255, (12, 16, 3), np.uint8)
SMALL = dict(features_dim=8)
N_STEPS = 5


class Noise(gym.Env):
    """Random observations, the step's number as reward, five steps an episode."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, space: spaces.Space = IMAGE, render_mode: str | None = None, actions: Any = None) -> None:
        self.observation_space = space
        self.action_space = actions or spaces.Discrete(3)
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n_steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.n_steps += 1
        return self.observation_space.sample(), float(self.n_steps), self.n_steps == N_STEPS, False, {}

    def render(self) -> Any:
        return np.full((30, 50, 3), 40 * self.n_steps, np.uint8)


class Stare(AttentionExtractor):
    """
    Its layer steps at the place whose number is the first pixel of the observation; two heads, the second steps at the
    place after it.

    :param observation_space: an image
    """

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=2)
        self.attention = AttentionLayer()
        self.grid = PlaceGrid.of_pixels(12, 16).after_conv(4, stride=4)  # 3×4 places
        self.scale = th.nn.Parameter(th.ones(2))
        set_layout(self, self.grid)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        place = (observations[:, 0, 0, 0] * 255).round().long() % self.grid.n_places
        weights = th.zeros(len(observations), 2, 1, self.grid.n_places)
        for head in range(2):
            weights[th.arange(len(place)), head, 0, (place + head) % self.grid.n_places] = 1.0
        self.attention.record(weights)
        return self.scale * observations.flatten(1)[:, :2]


def make(algorithm: type, env: gym.Env, extractor: type, policy: str = "CnnPolicy", **kwargs: Any) -> Any:
    options: dict[str, Any] = dict(n_steps=8, batch_size=4) if algorithm is PPO else dict(buffer_size=32)
    extractor_kwargs = kwargs.pop("extractor_kwargs", {} if extractor is Stare else SMALL)
    policy_kwargs = dict(
        features_extractor_class=extractor, features_extractor_kwargs=extractor_kwargs, net_arch=[8], **kwargs
    )
    return algorithm(policy, env, policy_kwargs=policy_kwargs, seed=0, device="cpu", **options)


def look_into(model: Any, env: gym.Env, heads: Heads = "max", episodes: int = 1, max_steps: int = 50) -> FilmedEpisodes:
    return film_episodes(model, check_env(model, env), None, 6, heads, episodes, max_steps, 0, True, lambda: None)


def frames_of(path: Path) -> list[np.ndarray]:
    with imageio.get_reader(path) as reader:
        return list(reader.iter_data())


def panel_of(board: Board, kind: type) -> Any:
    return next(panel for panel in board.panels if isinstance(panel, kind))


@pytest.mark.parametrize("algorithm", [DQN, QRDQN, PPO, RecurrentDQN])
def test_a_frame_a_step(algorithm: type, tmp_path: Path) -> None:
    model = make(algorithm, Noise(), SpatialAttentionCNN)
    weights = [weight.clone() for weight in model.policy.parameters()]
    path = tmp_path / "folder" / "film.mp4"
    film = record_attention_video(model, Noise(render_mode="rgb_array"), path, n_pictures=4, progress=False)
    frames = frames_of(path)
    assert len(frames) == film.steps == N_STEPS and film.over
    assert film.returns == [15.0]
    height, width = frames[0].shape[:2]
    assert height % 2 == width % 2 == 0 and width > 600
    sheet = imageio.imread(film.sheet)
    assert film.sheet == path.with_suffix(".png") and sheet.shape[0] > 1.9 * height, "several rows of pictures"
    assert sorted(file.name for file in path.parent.iterdir()) == ["film.mp4", "film.png"], "nothing unfinished is left"
    assert all(th.equal(old, new) for old, new in zip(weights, model.policy.parameters(), strict=True))
    changed = [float(np.abs(one.astype(int) - other).max()) for one, other in pairwise(frames)]
    assert min(changed) > 100, "each step has a picture of its own"


@pytest.mark.parametrize("heads", ["max", "mean", "tile"])
def test_the_place_looked_at_is_lit(heads: Heads) -> None:
    model = make(DQN, Noise(), Stare)
    episode = look_into(model, Noise(), heads)
    board = Board(episode, ["a", "b", "c"])
    panel = panel_of(board, MapPanel)
    observation = panel_of(board, PicturePanel)
    for t, step in enumerate(episode.steps):
        drawn = board.draw(t)
        picture = step.seen.pictures[""]
        place = int(picture[0, 0, 0]) % 12
        (weights,) = step.seen.weights.values()
        assert weights.shape[0] == (2 if heads == "tile" else 1)
        expected = np.zeros(12)
        expected[[place, (place + 1) % 12]] = 0.5 if heads == "mean" else 1.0
        if heads == "tile":
            expected[(place + 1) % 12] = 0.0
        assert np.array_equal(weights[0].reshape(-1), expected)
        # What came out on the screen: within the place's 4×4 pixels pale, elsewhere darker than the observation
        image = panel.image.get_array()
        zoom = panel.zoom
        lit = image[: 12 * zoom, : 16 * zoom].reshape(3, 4 * zoom, 4, 4 * zoom, 3).mean(axis=(1, 3))  # (3, 4, RGB)
        before = picture.reshape(3, 4, 4, 4, 3).mean(axis=(1, 3))
        gain = (lit - before)[..., :2].sum(axis=-1).reshape(-1)
        assert set(np.argsort(gain)[-int((expected > 0).sum()) :]) == set(np.flatnonzero(expected))
        assert np.array_equal(observation.image.get_array(), picture)
        if heads != "tile":
            left, top = panel.box.get_xy()
            boxed = round((top + 0.5) / zoom) // 4 * 4 + round((left + 0.5) / zoom) // 4
            assert boxed == min(place, (place + 1) % 12), "the first of equals"
        # and in the figure's own pixels, at the middle of the place
        row, column = divmod(place, 4)
        x, y = panel.axes.transData.transform(((column + 0.25) * 4 * zoom, (row + 0.75) * 4 * zoom))
        pixel = drawn[int(board.size[1] - y), int(x)].astype(float)
        shown = image[int((row + 0.75) * 4 * zoom), int((column + 0.25) * 4 * zoom)]
        assert np.abs(pixel - shown).max() < 30


@pytest.mark.parametrize("algorithm", [DQN, QRDQN, PPO, RecurrentDQN])
def test_bars_are_the_agents_and_the_taken_action_is_marked(algorithm: type) -> None:
    model = make(algorithm, Noise(), SpatialAttentionCNN)
    with th.no_grad():
        for weight in model.policy.parameters():  # so that actions differ from step to step
            weight += 0.3 * th.randn(weight.shape, generator=th.Generator().manual_seed(1))
    episode = look_into(model, Noise())
    board = Board(episode, ["a", "b", "c"])
    bars = panel_of(board, BarsPanel)
    state: Any = None
    for t, step in enumerate(episode.steps):
        board.draw(t)
        observation = th.as_tensor(step.seen.pictures[""].transpose(2, 0, 1)[None])
        policy = model.policy
        with th.no_grad():
            if algorithm is PPO:
                expected = policy.get_distribution(observation).distribution.probs[0]
                assert step.seen.estimate.value == pytest.approx(float(policy.predict_values(observation)), rel=1e-4)
            elif algorithm is QRDQN:
                expected = policy.quantile_net(observation)[0].mean(dim=0)
            elif algorithm is DQN:
                expected = policy.q_net(observation)[0]
            else:
                state = policy.q_net.memory.initial_state(1) if state is None else state
                q_values, state = policy.q_net.step(observation, state, th.tensor([t == 0]))
                expected = q_values[0]
        assert step.seen.estimate.bars == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)
        assert [bar.get_width() for bar in bars.bars] == pytest.approx(step.seen.estimate.bars.tolist())
        taken = int(step.action)
        assert taken == int(expected.argmax())
        assert [bool(bar.get_hatch()) for bar in bars.bars] == [i == taken for i in range(3)]
        assert bars.bars[taken].get_facecolor()[:3] == to_rgb(ORANGE)
        assert ["◀" in number.get_text() for number in bars.numbers] == [i == taken for i in range(3)]
        assert f"action {'abc'[taken]}" in board.headline.get_text()
        assert f"reward {t + 1}" in board.headline.get_text()
        assert f"return so far {(t + 1) * (t + 2) // 2}" in board.headline.get_text()


FRAMES = spaces.Box(-1, 1, (4, 6), np.float32)
ENTITIES = spaces.Box(-1, 1, (6, 5), np.float32)
MIXED = spaces.Dict(camera=spaces.Box(0, 255, (3, 7, 7), np.uint8), units=ENTITIES, speed=spaces.Box(-1, 1, (2,)))


def test_frames_entities_and_keys_are_labelled() -> None:
    for space, extractor, layer, rows, columns in (
        (FRAMES, FrameAttention, "blocks.0.attention", ("",), ("-3", "-2", "-1", "0")),
        (ENTITIES, EntityAttention, "blocks.0.attention", tuple("012345"), tuple("012345")),
        (ENTITIES, EntityAttention, "pool.attention", ("",), tuple("012345")),
        (MIXED, AttentionCombinedExtractor, ".blocks.0.0.attention", None, None),
    ):
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
        episode = look_into(make(DQN, Noise(space), extractor, policy), Noise(space))
        if rows is None:
            view = next(view for view in episode.views if view.seen == "observation keys")
            assert view.rows == view.columns == ("camera", "units", "speed")
        else:
            view = next(view for view in episode.views if view.layer.endswith(layer))
            assert view.rows == rows and view.columns == columns
        board = Board(episode, ["0", "1", "2"])
        table = next(
            panel
            for panel in board.panels
            if isinstance(panel, TablePanel) and panel.image.get_array().shape[1] == len(view.columns)
        )
        assert [tick.get_text() for tick in table.axes.get_xticklabels()] == list(view.columns)
        for t, step in enumerate(episode.steps):
            assert step.seen.weights[view.layer].shape == (len(view.rows), len(view.columns))
            board.draw(t)
        assert np.array_equal(table.image.get_array(), table.tables[-1])


def test_the_image_of_a_dict_is_found_for_its_layer() -> None:
    space = spaces.Dict(left=spaces.Box(0, 255, (3, 7, 7), np.uint8), right=spaces.Box(0, 255, (3, 7, 7), np.uint8))
    episode = look_into(make(DQN, Noise(space), AttentionCombinedExtractor, "MultiInputPolicy"), Noise(space))
    assert sorted(episode.keys.values()) == ["left", "right"]
    assert all(f".{key}." in layer for layer, key in episode.keys.items())
    assert set(episode.steps[0].seen.pictures) == {"left", "right"}


@pytest.mark.parametrize("memory", ["window", "gtrxl", "attentive_lstm", "dnc"])
def test_memories_that_attend(memory: str) -> None:
    kwargs: dict[str, Any] = dict(memory_class=memory, memory_kwargs=dict(hidden_size=8))
    if memory in ("window", "gtrxl"):
        kwargs["memory_kwargs"] |= {"window": dict(window=4), "gtrxl": dict(memory_length=3)}[memory] | dict(n_heads=2)
    extractor, extractor_kwargs = "plain_cnn", dict(output="map") if memory == "attentive_lstm" else SMALL
    model = make(RecurrentDQN, Noise(), extractor, extractor_kwargs=extractor_kwargs, **kwargs)  # type: ignore[arg-type]
    episode = look_into(model, Noise(), episodes=2)
    assert len(episode.steps) == 2 * N_STEPS and episode.returns == [15.0, 15.0] and episode.over
    board = Board(episode, ["0", "1", "2"])
    pictures = [board.draw(t) for t in range(len(episode.steps))]
    assert not np.array_equal(pictures[0], pictures[1])
    view = episode.views[0]
    if memory == "attentive_lstm":
        assert view.kind == "map" and episode.keys == {"q_net.memory.attention": ""}
        panel = panel_of(board, MapPanel)
        assert len(panel.trail.get_xdata()) > 1, "the glimpse leaves a trail"
        last = episode.steps[-1].seen.weights[view.layer][0]
        i, j = np.unravel_index(last.argmax(), last.shape)
        y, x = view.grid.centre(i, j)  # type: ignore[union-attr]
        assert panel.trail.get_xdata()[-1] == pytest.approx(x * panel.zoom - 0.5)
        assert panel.trail.get_ydata()[-1] == pytest.approx(y * panel.zoom - 0.5)
    elif memory == "dnc":
        assert view.seen == "slots" and len(view.columns) == 32
    else:
        assert view.columns == ("-3", "-2", "-1", "0") and view.rolls
        table = panel_of(board, TablePanel).tables
        starts = [step.starts for step in episode.steps]
        assert starts == [t % N_STEPS == 0 for t in range(2 * N_STEPS)]
        assert np.isfinite(table[N_STEPS]).sum() == 4, "only the first row: the episode before is another one"
        assert table[0][-1, -1] == pytest.approx(1.0) and table[0][-1, :-1] == pytest.approx(0.0), "nothing to remember"


def test_past_of_rolls_within_an_episode() -> None:
    rows = [np.array([[float(t), 0.0]]) for t in range(5)]
    tables = past_of(rows, [True, False, False, True, False])
    assert [table[-1, 0] for table in tables] == [0, 1, 2, 3, 4]
    assert np.array_equal(tables[2][:, 0], [np.nan, np.nan, 0, 1, 2], equal_nan=True)
    assert np.array_equal(tables[4][:, 0], [np.nan, np.nan, np.nan, 3, 4], equal_nan=True)


def test_channel_gates_are_a_strip() -> None:
    episode = look_into(make(DQN, Noise(), ChannelAttentionCNN, extractor_kwargs=dict(SMALL, kind="se")), Noise())
    assert {view.kind for view in episode.views} == {"strip"}
    board = Board(episode, ["0", "1", "2"])
    board.draw(3)
    for panel, view in zip(board.panels[1:], episode.views, strict=False):
        gates = episode.steps[3].seen.weights[view.layer]
        assert gates.ndim == 1 and np.array_equal(panel.bars.get_data().values, gates)  # type: ignore[attr-defined]


def test_gates_of_places_are_drawn_from_the_least_open_to_the_most() -> None:
    model = make(DQN, Noise(), ChannelAttentionCNN, extractor_kwargs=dict(SMALL, kind="cbam"))
    episode = look_into(model, Noise())
    board = Board(episode, "abc")
    view = next(view for view in episode.views if view.kind == "map")
    panel = panel_of(board, MapPanel)
    gates = np.stack([step.seen.weights[view.layer] for step in episode.steps])
    assert view.is_gate and panel.bottom == gates.min() and panel.top == gates.max() and not panel.box.get_visible()
    board.draw(1)
    assert f"dark: {gates.min():.2f}, bright: {gates.max():.2f}" in panel.text.get_text()


def test_heads_side_by_side() -> None:
    layer = AttentionLayer()
    layer.layout = KeyList("entities", ("0", "1"))
    weights = th.tensor([[[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [1.0, 0.0]]]])
    with record_attention(layer) as record:
        layer.record(weights)
    assert view_of(record, "attention", "max")[1] == pytest.approx(np.array([[0.9, 0.5], [1.0, 0.8]]))
    assert view_of(record, "attention", "mean")[1] == pytest.approx(np.array([[0.7, 0.3], [0.6, 0.4]]))
    view, tiled = view_of(record, "attention", "tile")
    assert tiled[:, 3:] == pytest.approx(np.array([[0.5, 0.5], [1.0, 0.0]])) and np.isnan(tiled[:, 2]).all()
    assert view.columns == ("0", "1", "", "0", "1")


def test_continuous_actions_have_bars_of_their_own() -> None:
    actions = spaces.Box(-1, 1, (2,))
    model = make(PPO, Noise(actions=actions), SpatialAttentionCNN)
    episode = look_into(model, Noise(actions=actions))
    for step in episode.steps:
        assert step.seen.estimate.unit == "action" and step.seen.estimate.bars == pytest.approx(step.action)
        assert step.seen.estimate.value is not None
    Board(episode, ["0", "1"]).draw(2)


def test_the_render_stands_beside_another_observation() -> None:
    model = make(DQN, Noise(), SpatialAttentionCNN)
    titles = [panel.axes.get_title() for panel in Board(look_into(model, Noise(render_mode="rgb_array")), "abc").panels]
    assert titles[:2] == ["environment", "observation"]

    class Same(Noise):
        def reset(self, **kwargs: Any) -> Any:
            self.shown, info = super().reset(**kwargs)
            return self.shown, info

        def render(self) -> Any:
            return self.shown

    titles = [panel.axes.get_title() for panel in Board(look_into(model, Same(render_mode="rgb_array")), "abc").panels]
    assert "environment" not in titles, "it would be the same picture twice"


def test_normalized_rewards_are_shown_as_they_are_and_statistics_stay(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([Noise]), norm_obs=False)
    model = make(DQN, Noise(), SpatialAttentionCNN)
    count = env.ret_rms.count
    film = record_attention_video(model, env, tmp_path / "film.mp4", progress=False)
    assert film.returns == [15.0] and env.ret_rms.count == count and env.training and env.norm_reward


def test_pictures_of_observations() -> None:
    minatar = spaces.Box(0, 1, (10, 10, 4), np.bool_)
    one = np.zeros((10, 10, 4), bool)
    one[2, 3, 1] = True
    picture = Observed(minatar).picture(one, "")
    assert picture.shape == (10, 10, 3) and picture[2, 3].tolist() == [255] * 3 and picture.sum() == 3 * 255
    stack = np.zeros((4, 84, 84), np.uint8)
    stack[-1] = 70
    assert (Observed(spaces.Box(0, 255, (4, 84, 84), np.uint8)).picture(stack, "") == 70).all(), "the newest frame"
    floats = spaces.Box(-np.inf, np.inf, (3, 8, 8), np.float32)
    values = np.linspace(-3, 5, 192).reshape(3, 8, 8)
    assert Observed(floats).picture(values, "").max() == 255 and Observed(floats).picture(values, "").min() == 0
    assert Observed(spaces.Box(-1, 1, (4,))).table(np.arange(4.0)).shape == (1, 4)
    symbols = np.zeros((7, 7, 3), np.uint8)
    symbols[0, 0] = 10, 5, 2  # MiniGrid's
    assert Observed(spaces.Box(0, 255, (7, 7, 3), np.uint8)).picture(symbols, "")[0, 0].tolist() == [250, 125, 50]
    large = np.zeros((400, 600, 3), np.uint8)
    large[:, 300:] = 200
    small = shrunk(large, 300)
    assert small.shape == (200, 300, 3) and small[:, 149].max() == 0 and small[:, 150].min() == 200


def test_actions_have_the_names_that_the_environment_gives() -> None:
    class Named(Noise):
        def get_action_meanings(self) -> list[str]:
            return ["NOOP", "UP", "DOWN"]

    assert action_names(DummyVecEnv([Named]), 3) == ("0 noop", "1 up", "2 down")
    assert action_names(DummyVecEnv([Named]), 4) == ("0", "1", "2", "3"), "another number of them: a wrapper's actions"
    assert action_names(DummyVecEnv([Noise]), 3) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(path="film.gif"), "must end in .mp4"),
        (dict(max_steps=0), "max_steps=0"),
        (dict(episodes=0), "episodes=0"),
        (dict(n_pictures=1.5), "n_pictures=1.5"),
        (dict(fps=0), "fps=0"),
        (dict(heads="sum"), "'max', 'mean', 'tile'"),
        (dict(layers="attention"), "list of names"),
        (dict(layers=["q_head"]), "no attention layer 'q_head'.*features_extractor.attention"),
        (dict(names=["up"]), "1 names for 3 actions"),
        (dict(env=Noise(spaces.Box(0, 255, (20, 20, 3), np.uint8))), "observation_space"),
        (dict(env=Noise(actions=spaces.Discrete(4))), "action_space"),
        (dict(env="Noise-v0"), "gymnasium.Env or a VecEnv"),
    ],
)
def test_bad_input_is_told_before_a_file_is_written(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = make(DQN, Noise(), SpatialAttentionCNN)
    path = tmp_path / options.pop("path", "film.mp4")
    with pytest.raises(ValueError, match=said):
        record_attention_video(model, options.pop("env", Noise()), path, progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_attention_is_told(tmp_path: Path) -> None:
    model = DQN("CnnPolicy", Noise(spaces.Box(0, 255, (36, 36, 3), np.uint8)), buffer_size=8, device="cpu")
    with pytest.raises(ValueError, match="no attention layers"):
        record_attention_video(model, Noise(spaces.Box(0, 255, (36, 36, 3), np.uint8)), tmp_path / "film.mp4")


def test_what_fails_on_the_way_leaves_the_old_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(DQN, Noise(), SpatialAttentionCNN)
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    draw = Board.draw

    def failing(board: Board, t: int) -> np.ndarray:
        if t == 2:
            raise RuntimeError("planted")
        return draw(board, t)

    monkeypatch.setattr(Board, "draw", failing)
    with pytest.raises(RuntimeError, match="planted"):
        record_attention_video(model, Noise(), path, progress=False)
    assert path.read_bytes() == b"old" and [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
    assert not _recording(model)


def _recording(model: Any) -> bool:
    return any(module.recording for module in model.policy.modules() if isinstance(module, AttentionLayer))


def test_a_cut_episode_and_chosen_layers(tmp_path: Path) -> None:
    model = make(DQN, Noise(), ChannelAttentionCNN, extractor_kwargs=dict(SMALL, kind="cbam"))
    film = record_attention_video(
        model, Noise(), tmp_path / "film.mp4", max_steps=2, layers=["stages.0"], progress=False
    )
    assert film.steps == 2 and not film.over and film.returns == [3.0]
    assert film.shown and all("stages.0" in layer for layer in film.shown)
    assert film.left_out and not any("stages.0" in layer for layer in film.left_out)
