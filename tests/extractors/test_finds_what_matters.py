"""Trained agents look at what matters, where it is known what that is; plain networks on the same tasks beside them."""

from typing import Any

import pytest
import torch as th

from benchmarks.tasks import attention_tasks as boards
from examples import entity_attention
from sb3_attnmem.extractors import EntityAttention, PlainCNN, RelationalCNN, SpatialAttentionCNN
from tests.extractors.cases import ATARI

# Each place sees one cell, so that its weight says which cell was looked at
ONE_CELL = [(32, boards.CELL, boards.CELL), (64, 1)]
STEPS = 16_000
IMAGE_EXTRACTORS: dict[str, tuple[type, dict[str, Any], str | None]] = {
    "SpatialAttentionCNN": (SpatialAttentionCNN, {}, "attention"),
    "RelationalCNN": (RelationalCNN, dict(n_layers=1, n_heads=8, pooling="attention"), "pool.attention"),
    "PlainCNN": (PlainCNN, {}, None),
}


def train(name: str, odd_one_out: bool) -> tuple[float, float | None]:
    """:return: share of right actions (chance: 0.25), mean weight of the best head on the target's cell"""
    extractor_class, kwargs, layer = IMAGE_EXTRACTORS[name]
    model = boards.train(
        STEPS,
        odd_one_out=odd_one_out,
        features_extractor_class=extractor_class,
        features_extractor_kwargs=dict(kwargs, trunk=ONE_CELL),
    )
    mass = boards.mass_on_target(model, layer, odd_one_out) if layer else None
    print(f"{name} odd_one_out={odd_one_out}: score {boards.score(model, odd_one_out):.3f}, mass on target {mass}")
    return boards.score(model, odd_one_out), mass


def test_a_small_thing_on_a_plain_ground_is_seen_from_the_start() -> None:
    """As Pong's ball: two pixels square, on grey. A plain trunk's features hardly move with it."""
    generator = th.Generator().manual_seed(0)
    images = th.full((64, 4, 84, 84), 87 / 255)
    for image, (row, column) in zip(images, th.randint(82, (64, 2), generator=generator).tolist(), strict=True):
        image[:, row : row + 2, column : column + 2] = 236 / 255
    spread = {}
    for kind in (PlainCNN, SpatialAttentionCNN):
        th.manual_seed(0)
        with th.no_grad():
            spread[kind] = float(kind(ATARI)(images).std(dim=0).mean())
    assert spread[SpatialAttentionCNN] > 3 * spread[PlainCNN]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SpatialAttentionCNN", "RelationalCNN"])
def test_the_target_among_distractors_is_looked_at(name: str) -> None:
    score, mass = train(name, odd_one_out=False)
    assert score >= 0.95
    assert mass is not None and mass >= 5 * boards.UNIFORM


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SpatialAttentionCNN", "RelationalCNN"])
def test_the_odd_one_out_is_found(name: str) -> None:
    score, mass = train(name, odd_one_out=True)
    assert score >= 0.95
    assert mass is not None and mass >= 5 * boards.UNIFORM


@pytest.mark.slow
def test_the_plain_cnn_solves_the_first_and_not_yet_the_second() -> None:
    assert train("PlainCNN", odd_one_out=False)[0] >= 0.95
    assert train("PlainCNN", odd_one_out=True)[0] < 0.9


@pytest.mark.slow
def test_the_matching_entity_is_found_and_an_mlp_of_the_same_size_does_not_find_it() -> None:
    env = entity_attention.MatchingKey()
    env.reset(seed=1_000)
    attention = entity_attention.train(env, 20_000, 0, features_extractor_class=EntityAttention, net_arch=[])
    mlp = entity_attention.train(env, 20_000, 0, net_arch=[272, 272])
    assert entity_attention.size_of(mlp) >= entity_attention.size_of(attention)
    scores = entity_attention.score(attention, env), entity_attention.score(mlp, env)
    masses = entity_attention.mass_on_match(attention, env)
    print(f"EntityAttention {scores[0]:.3f}, MLP {scores[1]:.3f} (chance 0.25); mass on the match {masses}")
    assert scores[0] >= 0.95
    assert scores[1] < 0.5
    assert max(masses.values()) >= 5 / env.n_entities


def test_the_measure_finds_a_head_that_looks_at_the_target() -> None:
    """A head made to follow red reads 1 on the first task; an untrained one about the uniform mass."""
    model = boards.train(
        16,
        features_extractor_class=SpatialAttentionCNN,
        features_extractor_kwargs=dict(trunk=ONE_CELL, features_dim=8),
    )
    extractor = model.q_net.features_extractor
    assert boards.mass_on_target(model, "attention", n=200) < 5 * boards.UNIFORM
    with th.no_grad():
        for conv in (extractor.trunk.stages[0].conv, extractor.trunk.stages[1].conv):
            conv.weight.zero_()
            conv.bias.zero_()
            conv.weight[0, 0] = 1.0  # channel 0 is the redness of the cell
        extractor.attention.to_keys.weight.zero_()
        extractor.attention.to_keys.weight[0, 0] = 1.0
        extractor.attention.queries.zero_()
        extractor.attention.queries[0, 0] = 100.0
    assert boards.mass_on_target(model, "attention", n=200) > 0.99
