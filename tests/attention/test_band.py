"""A band is a mask that is never laid out, and relative positions are those of Transformer-XL."""

import pytest
import torch as th

from sb3_attnmem.attention import Band, MultiHeadAttention, RelativeAttention, band, record_attention

B, E, M = 3, 8, 5


def dense_mask(cached: th.Tensor, present: th.Tensor) -> th.Tensor:
    """:return: (B, 1, T, M + T), step by step"""
    n_steps = present.shape[1]
    seen = th.cat([cached, present], dim=1)
    mask = th.zeros(B, 1, n_steps, M + n_steps, dtype=th.bool)
    for row in range(B):
        for t in range(n_steps):
            for key in range(t, t + M + 1):
                mask[row, 0, t, key] = seen[row, key] == present[row, t]
    return mask


@pytest.mark.parametrize("n_steps", [1, 4, 5, 10, 11, 23])
@pytest.mark.parametrize("least_block", [1, 7, 64])
@pytest.mark.parametrize("kind", [MultiHeadAttention, RelativeAttention])
def test_a_band_is_its_dense_mask(
    kind: type[MultiHeadAttention], n_steps: int, least_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(band, "LEAST_BLOCK", least_block)
    th.manual_seed(n_steps)
    attention = kind(E, 2)
    present = (th.rand(B, n_steps) < 0.2).cumsum(dim=1)
    cached = -(th.arange(M, 0, -1) > th.tensor([[5], [2], [0]])).long()
    steps, cache = th.randn(B, n_steps, E), th.randn(B, M, E, requires_grad=True)
    context = th.cat([cache, steps], dim=1)
    places = th.arange(M + n_steps)
    results = []
    for mask in (Band(cached, present), dense_mask(cached, present)):
        with record_attention(attention) as record:
            found = attention(steps, context, mask, places[M:], places)
        (gradient,) = th.autograd.grad(found.square().sum(), cache)
        results.append((found, gradient, record["attention"]))
    (found, gradient, by_age), (expected, expected_gradient, weights) = results
    th.testing.assert_close(found, expected)
    th.testing.assert_close(gradient, expected_gradient)
    assert by_age.shape == (B, 2, n_steps, M + 1)
    for t in range(n_steps):
        th.testing.assert_close(by_age[:, :, t], weights[:, :, t, t : t + M + 1])


def test_the_mask_does_not_grow_with_the_square_of_time() -> None:
    sizes = [
        Band(th.zeros(B, M, dtype=th.long), th.zeros(B, n_steps, dtype=th.long)).mask.numel() / n_steps
        for n_steps in (512, 2048)
    ]
    assert sizes[0] == sizes[1]


def test_relative_scores_are_those_of_transformer_xl() -> None:
    th.manual_seed(0)
    n_heads, d, n = 2, E // 2, 7
    attention = RelativeAttention(E, n_heads, longest=50.0).double()
    with th.no_grad():
        attention.distance_bias.normal_()
    steps = th.randn(B, n, E, dtype=th.float64)
    with record_attention(attention) as record:
        attention(steps)
    q = attention.to_queries(steps).view(B, n, n_heads, d)
    k = attention.to_kv(steps)[..., :E].view(B, n, n_heads, d)
    scores = th.zeros(B, n_heads, n, n, dtype=th.float64)
    for head in range(n_heads):
        for i in range(n):
            for j in range(n):
                angles = (i - j) * attention.frequencies
                r = th.cat([angles.sin(), angles.cos()])
                asked = q[:, i, head] + attention.distance_bias[head, 0]
                scores[:, head, i, j] = (q[:, i, head] * k[:, j, head]).sum(-1) + asked @ (
                    attention.from_distance[head] @ r
                )
    th.testing.assert_close(record["attention"], (scores / d**0.5).softmax(-1))


def test_relative_positions_are_distances() -> None:
    attention = RelativeAttention(E, 2).double()
    steps, places = th.randn(B, 6, E, dtype=th.float64), th.arange(6)
    th.testing.assert_close(
        attention(steps, None, None, places, places), attention(steps, None, None, places + 100, places + 100)
    )
    assert not th.allclose(
        attention(steps, None, None, places, places), attention(steps, None, None, places, 0 * places)
    )


def test_relative_positions_need_an_even_head() -> None:
    with pytest.raises(ValueError, match="even number"):
        RelativeAttention(6, 2)
