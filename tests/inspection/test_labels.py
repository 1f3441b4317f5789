"""Names that users give (of actions, keys, layers, environments) are drawn and written as they are."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
from gymnasium import spaces
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import AttentionCombinedExtractor
from sb3_attnmem.inspection import record_attention_video, write_memory_report
from sb3_attnmem.inspection.drawing import drawing, plain
from sb3_attnmem.inspection.film.board import Board
from sb3_attnmem.inspection.film.panels import BarsPanel, TablePanel
from tests.inspection.film_toys import Noise, frames_of, look_into, make, panel_of

HOSTILE = (r"$\frac{$", "_hidden", "100 % $", "two\nlines", "long " * 60, "日本語 ✓", "half a letter \ud800", "\x00")


def drawn(text: str, parse_math: bool) -> np.ndarray:
    figure = Figure(figsize=(6, 0.5))
    figure.text(0.1, 0.3, text, parse_math=parse_math)
    canvas = FigureCanvasAgg(figure)
    with drawing():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


@pytest.mark.parametrize(
    "text, shown",
    [
        (r"$\frac{$", r"$\frac{$"),
        ("$x$ and $y$", "$x$ and $y$"),
        (r"\$ and \\$", r"\$ and \\$"),
        ("100 %", "100 %"),
        ("two\nlines,\ta tab", "two lines, a tab"),
        ("_hidden", " _hidden"),
        ("half \ud800", "half \N{REPLACEMENT CHARACTER}"),
        ("a" * 50, "a" * 39 + "…"),
        (3, "3"),
    ],
)
def test_text_is_drawn_as_it_is(text: Any, shown: str) -> None:
    np.testing.assert_array_equal(drawn(plain(text), parse_math=True), drawn(shown, parse_math=False))


def test_a_name_with_a_leading_underscore_is_in_the_legend() -> None:
    axes = Figure().subplots()
    axes.plot([0, 1], label=plain("_speed"))
    assert [text.get_text().strip() for text in axes.legend().get_texts()] == ["_speed"]


def hostile_world(**kwargs: Any) -> Noise:
    """:return: a Dict of an image and vectors, eight actions; keys, actions and environment have hostile names"""
    vectors = {key: spaces.Box(-1, 1, (1,), np.float32) for key in HOSTILE[1:]}
    space = spaces.Dict({HOSTILE[0]: spaces.Box(0, 255, (3, 7, 7), np.uint8), **vectors})
    env = Noise(space, actions=spaces.Discrete(len(HOSTILE)), **kwargs)
    env.spec = SimpleNamespace(id="<b>$\\frac{$ \ud800")  # type: ignore[assignment]
    return env


@pytest.fixture(scope="module")
def model() -> Any:
    return make(RecurrentDQN, hostile_world(), AttentionCombinedExtractor, "MultiInputPolicy")


def test_panels_show_hostile_names(model: Any) -> None:
    with drawing():
        board = Board(look_into(model, hostile_world(), max_steps=2), HOSTILE)
        board.draw(1)
    labels = [label.get_text() for label in panel_of(board, BarsPanel).axes.get_yticklabels()]
    assert labels == [plain(name, 16) for name in HOSTILE]
    keys = next(
        panel
        for panel in board.panels
        if isinstance(panel, TablePanel) and panel.axes.get_xlabel() == "key that is looked at"
    )
    assert {label.get_text() for label in keys.axes.get_xticklabels()} == {plain(name, 16) for name in HOSTILE}
    assert plain(HOSTILE[0]) in board.panels[0].axes.get_title()


@pytest.mark.parametrize("path", ["film $_%.mp4", "a: b.mp4"])
def test_a_film_of_hostile_names(
    model: Any, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.chdir(tmp_path)
    with matplotlib.rc_context({"text.usetex": True}):  # a user's setting: LaTeX would have to be there
        film = record_attention_video(model, hostile_world(), path, names=HOSTILE, max_steps=1, progress=False)
    assert len(frames_of(film.video)) == 1 and sorted(file.suffix for file in tmp_path.iterdir()) == [".mp4", ".png"]
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_report_of_hostile_names(model: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    with matplotlib.rc_context({"text.usetex": True}):
        report = write_memory_report(model, hostile_world(), tmp_path, episodes=1, max_history=1, progress=False)
    page = report.html.read_text(encoding="utf-8")
    assert "&lt;b&gt;$\\frac{$ \N{REPLACEMENT CHARACTER}" in page and "<b>" not in page
    assert json.loads(report.json.read_text(encoding="utf-8"))["agent"]["environment"] == "<b>$\\frac{$ \ud800"
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
