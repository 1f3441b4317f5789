"""The files of a film: what is in them, what is refused, what a failure leaves."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.attention import AttentionLayer
from sb3_attnmem.extractors import ChannelAttentionCNN, SpatialAttentionCNN
from sb3_attnmem.inspection import record_attention_video
from sb3_attnmem.inspection.film.board import Board
from tests.inspection.film_toys import N_STEPS, SMALL, Noise, frames_of, make


@pytest.mark.parametrize("algorithm", [DQN, RecurrentDQN])
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


def test_normalized_rewards_are_shown_as_they_are_and_statistics_stay(tmp_path: Path) -> None:
    env = VecNormalize(DummyVecEnv([Noise]), norm_obs=False)
    model = make(DQN, Noise(), SpatialAttentionCNN)
    count = env.ret_rms.count
    film = record_attention_video(model, env, tmp_path / "film.mp4", progress=False)
    assert film.returns == [15.0] and env.ret_rms.count == count and env.training and env.norm_reward


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
