"""What is missing is named, with what to install, before anything is played or written."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_attnmem
from sb3_attnmem.extractors import SpatialAttentionCNN
from tests.inspection.film_toys import Noise as World
from tests.inspection.film_toys import make


class Untouched(World):
    """An environment that nobody may play in."""

    def reset(self, **kwargs: Any) -> Any:
        raise AssertionError("it was played in")


@pytest.fixture
def inspection(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """:return: the package, loaded anew where matplotlib is missing"""
    monkeypatch.setattr(sb3_attnmem, "inspection", sb3_attnmem.inspection)  # put back afterwards
    for name in list(sys.modules):
        if name.startswith("sb3_attnmem.inspection"):
            monkeypatch.delitem(sys.modules, name)
        if name == "matplotlib" or name.startswith("matplotlib."):
            monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]  # an import of it fails
    return importlib.import_module("sb3_attnmem.inspection")


def test_without_matplotlib(inspection: ModuleType, tmp_path: Path) -> None:
    model = make(sb3_attnmem.RecurrentDQN, World(), SpatialAttentionCNN)
    said = r'is drawn by matplotlib: pip install "sb3_attnmem\[plots\]"'
    with pytest.raises(ImportError, match=f"A film {said}"):
        inspection.record_attention_video(model, Untouched(), tmp_path / "film.mp4", progress=False)
    with pytest.raises(ImportError, match=f"A memory report {said}"):
        inspection.write_memory_report(model, Untouched(), tmp_path / "report", progress=False)
    assert list(tmp_path.iterdir()) == []
    overlay = inspection.attention_overlay(np.zeros((4, 4), np.uint8), np.ones((2, 2)))
    assert overlay.shape == (4, 4, 3), "an overlay needs no matplotlib"


def test_the_command_line_says_so_too(
    inspection: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "sb3_attnmem.zoo.inspect", raising=False)
    command = importlib.import_module("sb3_attnmem.zoo.inspect")
    model = make(sb3_attnmem.RecurrentDQN, World(), SpatialAttentionCNN)
    trained = SimpleNamespace(model=model, env=DummyVecEnv([Untouched]), path=tmp_path / "agent.zip")
    monkeypatch.setattr(command, "load_agent", lambda *_: trained)
    for subject in ("attention", "memory"):
        monkeypatch.setattr(sys, "argv", ["inspect", subject, "--algo", "rdqn", "--env", "World-v0", "--png"])
        assert command.main() == 2
        assert (
            "sb3-attnmem inspect: A" in (said := capsys.readouterr().err) and 'pip install "sb3_attnmem[plots]"' in said
        )
    assert list(tmp_path.iterdir()) == []


def test_pages_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)  # type: ignore[arg-type]
    model = make(sb3_attnmem.RecurrentDQN, World(), SpatialAttentionCNN)
    from sb3_attnmem.inspection import write_episode_page, write_memory_report

    said = r'by Pillow: pip install "sb3_attnmem\[plots\]"'
    with pytest.raises(ImportError, match=said):
        write_episode_page(model, Untouched(), tmp_path / "page.html", progress=False)
    with pytest.raises(ImportError, match=said):
        write_memory_report(model, Untouched(), tmp_path / "report", format="player", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_without_moviepy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ffmpeg_writer"):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    model = make(sb3_attnmem.RecurrentDQN, World(), SpatialAttentionCNN)
    from sb3_attnmem.inspection import record_attention_video

    with pytest.raises(ImportError, match=r'written by moviepy: pip install "sb3_attnmem\[zoo\]"'):
        record_attention_video(model, Untouched(), tmp_path / "film.mp4", progress=False)
    assert list(tmp_path.iterdir()) == []
