"""``train --offline-data …``, as a user calls it."""

from pathlib import Path
from typing import Any

import pytest

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.train.offline_data import OfflineData, read_offline
from sb3_attnmem.zoo.train.parser import read_own_options

RUN = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "--seed", "1", "--eval-freq", "-1", "-n"]


@pytest.fixture(name="data", scope="module")
def _data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replay buffer of a short run."""
    folder = tmp_path_factory.mktemp("offline")
    assert main([*RUN, "1216", "-f", str(folder), "--save-replay-buffer"]) == 0
    return folder / "rdqn" / "PassiveTMaze10-v0_1" / "replay_buffer.pkl"


def test_a_run_that_begins_with_data(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--offline-data", str(data), "--offline-updates", "7", "--conservative-weight", "0.5"]
    words += ["--old-share", "0.25", "--save-replay-buffer"]
    assert main([*RUN, "1216", "-f", str(tmp_path), *words]) == 0
    assert f"1,216 transitions come from {data}" in capsys.readouterr().out
    run = tmp_path / "rdqn" / "PassiveTMaze10-v0_1"
    model: Any = RecurrentDQN.load(run / "PassiveTMaze10-v0.zip")
    # Online, an update every 32 steps once 1,000 are there
    online = 1_216 // 32 - 1_000 // 32
    assert model._n_updates == 7 + online
    model.n_envs = 8
    model.load_replay_buffer(run / "replay_buffer.pkl")
    old, _ = model.replay_buffer.parts
    assert model.replay_buffer.old_share == 0.25 and old.tapes.n_transitions() == 1_216


@pytest.mark.parametrize(
    "words, message",
    [
        (["--offline-data", "nowhere/at-all-v0"], "There is no Minari dataset nowhere/at-all-v0"),
        (["--old-share", "0.5"], "pass --offline-data PATH as well"),
        (["--offline-data", "x", "--old-share", "1"], "--old-share: 1: pass a number of at least 0 and below 1"),
        (["--offline-data", "x", "--offline-updates", "many"], "--offline-updates: many: pass an integer"),
        (["--offline-data", "x", "--offline-updates", "-1"], "-1: pass an integer of at least 0"),
        (["--offline-data"], "--offline-data: expected one argument"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_words(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "nowhere/at-all-v0" in words:
        pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert main([*RUN, "100", "-f", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_reading() -> None:
    assert read_offline(read_own_options(["--env", "x"])[0]) is None
    assert read_offline(read_own_options(["--offline-data", "d"])[0]) == OfflineData("d")
    words = ["--offline-data", "d", "--offline-updates", "3", "--conservative-weight", "1", "--old-share", "0"]
    assert read_offline(read_own_options(words)[0]) == OfflineData("d", 3, 1.0, 0.0)
