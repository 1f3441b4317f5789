"""The picture lights up where the weight is."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import attention_overlay, extractors
from sb3_attnmem.attention import PlaceGrid, record_attention
from sb3_attnmem.extractors import SpatialAttentionCNN
from tests.extractors.cases import ATARI

NATURE = PlaceGrid(7, 7, 84, 84, stride=8, field=36, start=0)


def hottest(picture: np.ndarray, frame: np.ndarray) -> tuple[int, int]:
    """:return: middle of the pixels that are redder than all others"""
    red = picture[..., 0].astype(float)
    rows, columns = np.nonzero(red == red.max())
    return round(rows.mean()), round(columns.mean())


def one_hot(height: int, width: int, i: int, j: int) -> np.ndarray:
    weights = np.zeros((height, width), np.float32)
    weights[i, j] = 0.5
    return weights


@pytest.mark.parametrize("frame_size", [(84, 84), (210, 160)])
@pytest.mark.parametrize("place", [(0, 0), (3, 3), (1, 5), (6, 2)])
def test_a_place_of_the_nature_trunk_is_lit_at_the_middle_of_what_it_sees(
    place: tuple[int, int], frame_size: tuple[int, int]
) -> None:
    frame = np.zeros((*frame_size, 3), np.uint8)
    picture = attention_overlay(frame, one_hot(7, 7, *place), NATURE, strength=1.0)
    row, column = NATURE.centre(*place)
    row, column = row * frame_size[0] / 84, column * frame_size[1] / 84
    lit = picture.sum(axis=-1).astype(float)
    assert (
        lit[min(int(row), frame_size[0] - 1), min(int(column), frame_size[1] - 1)] >= 0.7 * lit.max()
    )  # half a pixel beside it
    opposite = NATURE.centre(6 - place[0] if place[0] != 3 else 0, place[1])
    assert lit[int(opposite[0] * frame_size[0] / 84), int(column)] == 0


def test_patches_have_sharp_edges_and_the_right_place() -> None:
    grid = PlaceGrid.of_pixels(84, 84).after_conv(12, 12)
    picture = attention_overlay(np.zeros((84, 84), np.uint8), one_hot(7, 7, 2, 5), grid, strength=1.0)
    lit = picture[..., 0] > 0
    expected = np.zeros((84, 84), bool)
    expected[24:36, 60:72] = True
    assert np.array_equal(lit, expected)


def test_without_a_layout_the_grid_is_spread_over_the_frame() -> None:
    picture = attention_overlay(np.zeros((40, 60), np.uint8), one_hot(4, 6, 3, 0), strength=1.0)
    assert hottest(picture, picture)[0] >= 35 and hottest(picture, picture)[1] <= 4


def test_strength_and_zoom() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(256, size=(7, 7, 3), dtype=np.uint8)
    weights = rng.random((7, 7))
    plain = attention_overlay(frame, weights, strength=0.0)
    assert np.array_equal(plain, frame) and plain.dtype == np.uint8
    large = attention_overlay(frame, weights, PlaceGrid.of_pixels(7, 7), zoom=8)
    assert large.shape == (56, 56, 3)
    assert (large.reshape(7, 8, 7, 8, 3) == large.reshape(7, 8, 7, 8, 3)[:, :1, :, :1]).all()


def test_heads_are_shown_together_and_the_scale_can_be_fixed() -> None:
    frame = np.zeros((20, 20), np.uint8)
    heads = np.stack([one_hot(5, 5, 0, 0), 0.1 * one_hot(5, 5, 4, 4)])
    both = attention_overlay(frame, heads, strength=1.0)
    assert both[0, 0, 0] == 255 and 0 < both[19, 19, 0] < 100, "a head that looks less at its place is dimmer"
    fixed = attention_overlay(frame, heads[1], strength=1.0, top=0.5)
    assert 0 < fixed[19, 19, 0] < 100


@pytest.mark.parametrize(
    "frame",
    [
        np.full((6, 6), 128, np.uint8),
        np.full((6, 6, 1), 128, np.uint8),
        np.full((6, 6, 3), 128 / 255, np.float32),
        np.ones((6, 6), bool),
        th.full((6, 6), 128, dtype=th.uint8),
        th.full((6, 6), 128 / 255, dtype=th.bfloat16),
    ],
)
def test_kinds_of_frames(frame: Any) -> None:
    picture = attention_overlay(frame, th.zeros(3, 3), strength=0.0)
    assert picture.shape == (6, 6, 3)
    assert (picture == (255 if not isinstance(frame, th.Tensor) and frame.dtype == bool else 128)).all()


def test_from_a_record() -> None:
    extractor = SpatialAttentionCNN(ATARI, features_dim=8)
    ATARI.seed(0)
    stack = ATARI.sample()
    with record_attention(extractor) as record:
        extractor(th.as_tensor(stack[None]).float() / 255)
    picture = attention_overlay(stack[-1], record.on_grid("attention")[0], record.layouts["attention"], zoom=2)
    assert picture.shape == (168, 168, 3) and picture.dtype == np.uint8


def test_the_grid_of_another_space_is_found_out() -> None:
    small = SpatialAttentionCNN(spaces.Box(0, 255, (3, 7, 10), np.uint8), features_dim=8)
    assert small.trunk.grid == PlaceGrid(7, 10, 7, 10, stride=1, field=5, start=-2)


def test_the_old_place_of_the_overlay_still_works() -> None:
    with pytest.warns(DeprecationWarning, match="from sb3_attnmem import attention_overlay"):
        from sb3_attnmem.extractors import attention_overlay as old
    assert old is attention_overlay
    assert not hasattr(extractors, "attention_underlay")
