"""DARQN: the last hidden state looks at the places of a feature map."""

import pytest
import torch as th

from sb3_attnmem.attention import record_attention
from sb3_attnmem.memory import AttentiveLSTMMemory

B, T, P, C, H, HEADS = 3, 6, 4, 5, 7, 2
NO_STARTS = th.zeros(B, T, dtype=th.bool)


@pytest.fixture(name="memory")
def _memory() -> AttentiveLSTMMemory:
    th.manual_seed(0)
    return AttentiveLSTMMemory((P, C), H, attention_dim=8, n_heads=HEADS)


def looks(memory: AttentiveLSTMMemory, features: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    with record_attention(memory) as record:
        latents = memory.unroll(features, memory.initial_state(B), NO_STARTS)
    return latents, record["attention"]


def test_it_is_its_equations(memory: AttentiveLSTMMemory) -> None:
    features = th.randn(B, T, P, C)
    latents, weights = looks(memory, features)
    assert weights.shape == (B, HEADS, T, P)
    h = c = th.zeros(B, H)
    for t in range(T):
        scores = [
            memory.score(th.tanh(memory.of_place(features[:, t, p]) + h @ memory.of_state.weight.T)) for p in range(P)
        ]
        glimpses = []
        for head in range(HEADS):
            look = th.stack([score[:, head] for score in scores], dim=1).softmax(dim=1)  # (B, P)
            th.testing.assert_close(weights[:, head, t], look)
            glimpses.append(sum(look[:, p, None] * features[:, t, p] for p in range(P)))
        h, c = memory.cell(th.cat(glimpses, dim=1), (h, c))
        th.testing.assert_close(latents[:, t], h)


def test_heads_look_at_different_places_from_the_start() -> None:
    """Not a mean over all, in which a small thing is lost: a head's largest weight is far above an even share."""
    memory = AttentiveLSTMMemory((49, 32))
    features = th.randn(16, 1, 49, 32)
    with record_attention(memory) as record:
        memory.unroll(features, memory.initial_state(16), th.zeros(16, 1, dtype=th.bool))
    weights = record["attention"][:, :, 0]  # (16, heads, P)
    assert weights.shape[1] == 4
    assert weights.amax(dim=-1).mean() > 8 / 49
    assert (weights.argmax(dim=-1)[:, 0] != weights.argmax(dim=-1)[:, 1]).any()


def test_where_it_looks_depends_on_what_came_before(memory: AttentiveLSTMMemory) -> None:
    features = th.randn(B, T, P, C)
    other = features.clone()
    other[:, 0] += 3.0
    assert (looks(memory, features)[1][:, :, 1:] - looks(memory, other)[1][:, :, 1:]).abs().max() > 1e-3


def test_places_are_a_set(memory: AttentiveLSTMMemory) -> None:
    features, order = th.randn(B, T, P, C), th.tensor([2, 0, 3, 1])
    latents, weights = looks(memory, features)
    permuted, permuted_weights = looks(memory, features[:, :, order])
    th.testing.assert_close(permuted, latents)
    th.testing.assert_close(permuted_weights, weights[..., order])


def test_places_are_read_once_for_all_steps(memory: AttentiveLSTMMemory) -> None:
    calls: list[tuple[int, ...]] = []
    memory.of_place.register_forward_hook(lambda _, arguments, output: calls.append(tuple(output.shape)))
    looks(memory, th.randn(B, T, P, C))
    assert calls == [(B, T, P, 8)]


@pytest.mark.parametrize("wrong", [64, (4,), (4, 0), (4, 5, 6)])
def test_it_asks_for_places_and_channels(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"\(places, channels\)|the channels of input_dim=0"):
        AttentiveLSTMMemory(wrong)  # type: ignore[arg-type]
