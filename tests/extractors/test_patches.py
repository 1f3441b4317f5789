"""Patches of images of every size: where they lie, and what the last ones see beyond the edge."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import attention_overlay, record_attention
from sb3_attnmem.attention import PlaceGrid
from sb3_attnmem.extractors import PatchTransformer

SMALL = dict(features_dim=8, embed_dim=8, n_layers=1)


def of_size(height: int, width: int, **kwargs: int) -> PatchTransformer:
    th.manual_seed(0)
    return PatchTransformer(
        spaces.Box(0, 255, (3, height, width), np.uint8), channels="first", **{**SMALL, **kwargs}
    ).eval()


@pytest.mark.parametrize(
    ("height", "width", "patch_size", "rows", "columns"),
    [
        (84, 84, 12, 7, 7),  # those that divide both sides stay what they were
        (7, 7, 1, 7, 7),
        (56, 40, 8, 7, 5),
        (210, 160, 10, 21, 16),
        (50, 41, 7, 8, 6),  # sides that share no divisor
        (83, 83, 12, 7, 7),
        (82, 80, 12, 7, 7),  # their only divisors leave too many
        (2, 3, 1, 2, 3),
    ],
)
def test_the_size_that_comes_nearest_to_49_patches(
    height: int, width: int, patch_size: int, rows: int, columns: int
) -> None:
    grid = of_size(height, width).grid
    assert grid == PlaceGrid(rows, columns, height, width, stride=patch_size, field=patch_size)


def test_every_size_is_taken() -> None:
    for height in range(2, 100, 19):
        for width in range(2, 100, 19):
            assert of_size(height, width)(th.rand(1, 3, height, width)).isfinite().all()


@pytest.mark.parametrize("patch_size", [8, 16, 30, 49])
def test_each_patch_sees_its_box_and_the_last_ones_zeros_beyond_the_edge(patch_size: int) -> None:
    """Every pixel is in the box of one patch, and that patch alone changes with it."""
    extractor = of_size(50, 41, patch_size=patch_size)
    patches: list[th.Tensor] = []
    extractor.positions.register_forward_pre_hook(lambda module, args: patches.append(args[0]))
    images = th.rand(1, 3, 50, 41)
    extractor(images)
    grid = extractor.grid
    covered = np.zeros((50, 41), int)
    for i in range(grid.height):
        for j in range(grid.width):
            top, left, bottom, right = grid.box(i, j)
            covered[top:bottom, left:right] += 1
            changed = images.clone()
            changed[0, :, bottom - 1, right - 1] += 1.0
            extractor(changed)
            moved = (patches[-1] != patches[0]).any(dim=-1)[0].nonzero().flatten().tolist()
            assert moved == [i * grid.width + j]
    assert (covered == 1).all()
    padded = th.zeros(1, 3, grid.height * patch_size, grid.width * patch_size)
    padded[..., :50, :41] = images
    th.testing.assert_close(extractor.embed(padded).flatten(2).transpose(1, 2), patches[0])


def test_the_overlay_lights_the_patch_that_is_looked_at() -> None:
    extractor = of_size(50, 41)  # patches of 7: the last row has one row of pixels, the last column six columns
    with record_attention(extractor) as record:
        extractor(th.rand(1, 3, 50, 41))
    layout = record.layouts["blocks.0.attention"]
    assert isinstance(layout, PlaceGrid)
    for i, j in ((0, 0), (7, 5), (3, 5), (7, 2)):
        weights = np.zeros((8, 6))
        weights[i, j] = 1.0
        picture = attention_overlay(np.zeros((50, 41), np.uint8), weights, layout, strength=1.0)
        expected = np.zeros((50, 41), bool)
        top, left, bottom, right = layout.box(i, j)
        expected[top:bottom, left:right] = True
        assert np.array_equal(picture[..., 0] > 0, expected)
