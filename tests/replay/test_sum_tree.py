"""The sum tree against the plain arithmetic it stands for."""

import numpy as np
import pytest

from sb3_attnmem.replay.sum_tree import SumTree


@pytest.mark.parametrize("n_leaves", [1, 2, 3, 7, 8, 1000])
def test_every_node_is_the_sum_of_its_children(n_leaves: int) -> None:
    rng = np.random.default_rng(0)
    tree = SumTree(n_leaves)
    weights = np.zeros(n_leaves)
    for _ in range(20):
        leaves = rng.integers(n_leaves, size=rng.integers(1, 9))
        values = rng.random(len(leaves)) * 10.0 ** rng.integers(-6, 6, size=len(leaves))
        tree.set(leaves, values)
        for leaf, value in zip(leaves, values, strict=True):
            weights[leaf] = value
        assert np.array_equal(tree.get(np.arange(n_leaves)), weights)
        assert tree.total == pytest.approx(weights.sum(), rel=1e-12)
    inner = np.arange(1, tree.n_wide)
    assert np.array_equal(tree.nodes[inner], tree.nodes[2 * inner] + tree.nodes[2 * inner + 1])


def test_places_fall_on_leaves_in_proportion() -> None:
    tree = SumTree(5)
    tree.set(np.arange(5), np.array([1.0, 0.0, 3.0, 0.0, 4.0]))
    points = (np.arange(800) + 0.5) / 800
    assert np.bincount(tree.draw(points), minlength=5).tolist() == [100, 0, 300, 0, 400]
    assert tree.draw(np.array([0.0, 0.125, 0.4999, 0.5, np.nextafter(1, 0)])).tolist() == [0, 2, 2, 4, 4]


def test_empty_leaves_are_never_drawn_whatever_the_rounding() -> None:
    rng = np.random.default_rng(1)
    tree = SumTree(1023)
    tree.set(np.arange(0, 1023, 7), rng.random(147) ** 20)
    points = np.concatenate([rng.random(20_000), np.full(50, np.nextafter(1, 0)), np.zeros(50)])
    assert (tree.get(tree.draw(points)) > 0).all()


def test_what_cannot_be_a_priority_is_refused_before_anything_changes() -> None:
    tree = SumTree(3)
    tree.set(np.array([1]), 2.0)
    for wrong in (np.nan, np.inf, -1.0, 1e300):
        with pytest.raises(ValueError, match="finite numbers from 0"):
            tree.set(np.array([0, 1]), np.array([1.0, wrong]))
    assert tree.get(np.arange(3)).tolist() == [0.0, 2.0, 0.0]
    with pytest.raises(ValueError, match="every weight"):
        SumTree(3).draw(np.array([0.5]))
    with pytest.raises(ValueError, match="at least one leaf"):
        SumTree(0)
