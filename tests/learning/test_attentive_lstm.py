"""Memory that directs attention: it follows a cue that is gone (``benchmarks/tasks/cued_target.py``)."""

import pytest

from benchmarks.tasks import cued_target

pytestmark = pytest.mark.slow
STEPS = 20_000


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("n_heads", [1, 4])
def test_attention_follows_the_cue(n_heads: int, seed: int) -> None:
    model = cued_target.train(
        STEPS,
        seed,
        memory_class="attentive_lstm",
        memory_kwargs=dict(n_heads=n_heads),
        features_extractor_class="plain_cnn",
        features_extractor_kwargs=dict(output="map", trunk=cued_target.ONE_CELL),
    )
    score, cued, other = cued_target.play(model, layer="q_net.memory.attention")
    heads = ", ".join(f"{one:.2f} and {two:.2f}" for one, two in zip(cued, other, strict=True))
    print(f"{n_heads} looks, seed {seed}: score {score:.3f}, on cued glyph and other {heads}")
    assert score >= 0.95
    # A single look has to follow it; of several, each may do a part of the work
    assert any(one >= 0.1 and one >= 3 * two for one, two in zip(cued, other, strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_an_lstm_on_flat_features_does_not_at_equal_steps(seed: int) -> None:
    model = cued_target.train(
        STEPS,
        seed,
        memory_class="lstm",
        features_extractor_class="plain_cnn",
        features_extractor_kwargs=dict(trunk=cued_target.ONE_CELL, features_dim=128),
    )
    score, _, _ = cued_target.play(model)
    print(f"lstm seed {seed}: score {score:.3f}")
    assert score <= 0.8  # always the same colour: 0.625
