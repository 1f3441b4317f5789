"""Panels of a film: planted attention is seen where it was planted, for every algorithm and layer."""

from collections.abc import Iterator
from typing import Any

import matplotlib.style
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.colors import to_rgb
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.extractors import (
    AttentionCombinedExtractor,
    ChannelAttentionCNN,
    EntityAttention,
    FrameAttention,
    SpatialAttentionCNN,
)
from sb3_attnmem.inspection.drawing import drawing
from sb3_attnmem.inspection.film.board import Board
from sb3_attnmem.inspection.film.panels import ORANGE, BarsPanel, TablePanel, past_of
from sb3_attnmem.inspection.film.picture_panels import MapPanel, PicturePanel
from sb3_attnmem.inspection.film.views import Heads
from tests.inspection.film_toys import ENTITIES, FRAMES, MIXED, N_STEPS, SMALL, Noise, Stare, look_into, make, panel_of


@pytest.fixture(autouse=True)
def _drawing() -> Iterator[None]:
    with drawing():
        yield


def test_a_style_of_the_user_s_changes_nothing() -> None:
    episode = look_into(make(DQN, Noise(), Stare), Noise(), max_steps=2)
    plain = Board(episode, ["a", "b", "c"]).draw(1)
    with matplotlib.style.context(["dark_background", {"axes.grid": True, "font.size": 17, "image.cmap": "jet"}]):
        styled = Board(episode, ["a", "b", "c"]).draw(1)
        with drawing():
            assert np.array_equal(Board(episode, ["a", "b", "c"]).draw(1), plain)
        assert matplotlib.rcParams["font.size"] == 17, "the user has the style back"
    assert not np.array_equal(styled, plain), "a style that nobody would see"


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
        x, y = panel.axes.transData.transform(((column + 0.375) * 4 * zoom, (row + 0.625) * 4 * zoom))
        pixel = drawn[int(board.size[1] - y), int(x)].astype(float)
        shown = image[int((row + 0.625) * 4 * zoom), int((column + 0.375) * 4 * zoom)]
        assert np.abs(pixel - shown).max() < 30


@pytest.mark.parametrize("algorithm", [DQN, QRDQN, PPO, RecurrentDQN, RecurrentQRDQN])
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
                value = float(policy.predict_values(observation))
                assert step.seen.estimate.value == pytest.approx(value, rel=1e-4, abs=1e-5)
            elif algorithm is QRDQN:
                expected = policy.quantile_net(observation)[0].mean(dim=0)
            elif algorithm is DQN:
                expected = policy.q_net(observation)[0]
            else:
                state = policy.q_net.memory.initial_state(1) if state is None else state
                q_values, state = policy.q_net.step(observation, state, th.tensor([t == 0]))
                expected = q_values[0]
        assert step.seen.estimate.bars == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-5)
        assert len(bars.ticks) == (3 if algorithm in (QRDQN, RecurrentQRDQN) else 0)
        for i, ticks in enumerate(bars.ticks):
            assert step.seen.estimate.quantiles is not None
            places = [segment[0][0] for segment in ticks.get_segments()]
            assert places == pytest.approx(step.seen.estimate.quantiles[:, i].tolist())
            assert np.mean(places) == pytest.approx(step.seen.estimate.bars[i], rel=1e-3, abs=1e-4)
            assert {y for segment in ticks.get_segments() for _, y in segment} == {i - 0.35, i + 0.35}
            assert bars.axes.get_xlim()[0] <= min(places) and max(places) <= bars.axes.get_xlim()[1]
        assert [bar.get_width() for bar in bars.bars] == pytest.approx(step.seen.estimate.bars.tolist())
        taken = int(step.action)
        assert taken == int(expected.argmax())
        assert [bool(bar.get_hatch()) for bar in bars.bars] == [i == taken for i in range(3)]
        assert bars.bars[taken].get_facecolor()[:3] == to_rgb(ORANGE)
        assert ["◀" in number.get_text() for number in bars.numbers] == [i == taken for i in range(3)]
        assert f"action {'abc'[taken]}" in board.headline.get_text()
        assert f"reward {t + 1}" in board.headline.get_text()
        assert f"return so far {(t + 1) * (t + 2) // 2}" in board.headline.get_text()


ROWS = tuple("012345")


@pytest.mark.parametrize(
    "space, extractor, labels",
    [
        (FRAMES, FrameAttention, {"blocks.0.attention": (("",), ("-3", "-2", "-1", "0"))}),
        (ENTITIES, EntityAttention, {"blocks.0.attention": (ROWS, ROWS), "pool.attention": (("",), ROWS)}),
        (MIXED, AttentionCombinedExtractor, {"extractor.blocks.0.attention": (("camera", "units", "speed"),) * 2}),
    ],
)
def test_frames_entities_and_keys_are_labelled(
    space: spaces.Space, extractor: type, labels: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
) -> None:
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    episode = look_into(make(DQN, Noise(space), extractor, policy), Noise(space), max_steps=2)
    board = Board(episode, ["0", "1", "2"])
    board.draw(1)
    tables = [panel for panel in board.panels if isinstance(panel, TablePanel)]
    for layer, (rows, columns) in labels.items():
        view = next(view for view in episode.views if view.layer.endswith(layer))
        assert view.rows == rows and view.columns == columns
        weights = [step.seen.weights[view.layer] for step in episode.steps]
        assert all(one.shape == (len(rows), len(columns)) for one in weights)
        table = next(panel for panel in tables if np.array_equal(panel.tables, weights))
        assert [tick.get_text() for tick in table.axes.get_xticklabels()] == list(columns)
        assert np.array_equal(table.image.get_array(), weights[1])


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


@pytest.mark.parametrize(
    "algorithm, actions, unit, n_bars",
    [
        (PPO, spaces.Box(-1, 1, (2,)), "action", 2),
        (A2C, spaces.MultiDiscrete([2, 3]), "action", 2),
        (SAC, spaces.Box(-1, 1, (2,)), "action", 2),
        (MaskablePPO, spaces.Discrete(3), "probability", 3),
        (RecurrentPPO, spaces.Discrete(3), "probability", 0),
    ],
)
def test_what_other_algorithms_expect(algorithm: type, actions: spaces.Space, unit: str, n_bars: int) -> None:
    policy = "CnnLstmPolicy" if algorithm is RecurrentPPO else "CnnPolicy"
    model = make(algorithm, Noise(actions=actions), SpatialAttentionCNN, policy)
    episode = look_into(model, Noise(actions=actions), max_steps=2)
    for step in episode.steps:
        estimate = step.seen.estimate
        assert estimate.unit == unit and len(estimate.bars) == n_bars
        assert unit != "action" or estimate.bars == pytest.approx(step.action)
        assert (estimate.value is None) == (algorithm in (SAC, RecurrentPPO))
    Board(episode, [str(i) for i in range(n_bars)]).draw(1)


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
