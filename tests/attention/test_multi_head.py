"""The fused kernel equals its explicit twin, and positions and masks do what they say."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.attention import (
    AttentionPool,
    FeedForward,
    GatedTransformerBlock,
    GRUGate,
    MultiHeadAttention,
    RelativeAttention,
    TransformerBlock,
    attention_weights,
    make_pool,
    multi_head,
    record_attention,
)

B, Q, K, E = 3, 4, 6, 16


def inputs(n: int, seed: int = 0) -> th.Tensor:
    th.manual_seed(seed)
    return th.randn(B, n, E)


def random_mask(seed: int = 3) -> th.Tensor:
    """:return: (B, 1, Q, K), one query of the first row may look nowhere"""
    th.manual_seed(seed)
    mask = th.rand(B, 1, Q, K) < 0.6
    mask[..., 0] = True
    mask[0, 0, 1] = False
    return mask


def output_is_what_the_weights_say(layer: MultiHeadAttention, mask: th.Tensor | None) -> None:
    queries, context = inputs(Q), inputs(K, seed=1)
    with record_attention(layer) as record:
        output = layer(queries, context, mask)
    values = layer.to_kv(context).chunk(2, dim=-1)[1]
    values = values.view(B, K, layer.n_heads, -1).transpose(1, 2)  # (B, n, K, d)
    explicit = layer.to_output((record["attention"] @ values).transpose(1, 2).reshape(B, Q, E))
    th.testing.assert_close(output, explicit, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("n_heads", [1, 4])
def test_fused_equals_explicit(n_heads: int, rotary: bool, masked: bool) -> None:
    th.manual_seed(0)
    layer = MultiHeadAttention(E, n_heads, rotary=rotary).eval()
    output_is_what_the_weights_say(layer, random_mask() if masked else None)


def unscaled(queries: th.Tensor, keys: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    return attention_weights(queries * math.sqrt(queries.shape[-1]), keys, mask)


def unmasked(queries: th.Tensor, keys: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    return attention_weights(queries, keys)


def inverted(queries: th.Tensor, keys: th.Tensor, mask: th.Tensor | None = None) -> th.Tensor:
    return attention_weights(queries, keys, None if mask is None else ~mask | (~mask).all(-1, keepdim=True))


@pytest.mark.parametrize("mistake", [unscaled, unmasked, inverted])
def test_a_planted_mistake_is_found(mistake: Callable[..., th.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    th.manual_seed(0)
    layer = MultiHeadAttention(E, 4).eval()
    monkeypatch.setattr(multi_head, "attention_weights", mistake)
    with pytest.raises(AssertionError):
        output_is_what_the_weights_say(layer, random_mask())


def test_weights_by_hand() -> None:
    """Two keys whose scores differ by ln 3 share the attention 1 : 3."""
    queries = th.tensor([[[[2.0, 0.0, 0.0, 0.0]]]])  # d = 4, so scores are halved
    keys = th.tensor([[[[0.0, 5.0, 0.0, 0.0], [math.log(3), 0.0, 7.0, 0.0]]]])
    th.testing.assert_close(attention_weights(queries, keys), th.tensor([[[[0.25, 0.75]]]]))


def test_equals_torch_multihead_attention() -> None:
    th.manual_seed(0)
    ours, theirs = MultiHeadAttention(E, 4), nn.MultiheadAttention(E, 4, batch_first=True)
    with th.no_grad():
        theirs.in_proj_weight.copy_(th.cat([ours.to_queries.weight, ours.to_kv.weight]))
        theirs.in_proj_bias.zero_()
        theirs.in_proj_bias[:E] = ours.to_queries.bias
        theirs.out_proj.load_state_dict(ours.to_output.state_dict())
    queries, context = inputs(Q), inputs(K, seed=1)
    with record_attention(ours) as record:
        output = ours(queries, context)
    expected, weights = theirs(queries, context, context, average_attn_weights=False)
    th.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    th.testing.assert_close(record["attention"], weights, rtol=0, atol=1e-5)


def test_explicit_weights_are_computed_for_a_record_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(multi_head, "attention_weights", lambda *args: calls.append(args) or attention_weights(*args))
    layer = MultiHeadAttention(E, 4)
    layer(inputs(Q))
    assert not calls
    with record_attention(layer):
        layer(inputs(Q))
    assert len(calls) == 1


def test_a_masked_key_changes_nothing() -> None:
    layer, mask = MultiHeadAttention(E, 4).eval(), th.ones(Q, K, dtype=th.bool)
    mask[:, 2] = False
    context, other = inputs(K, seed=1), inputs(K, seed=1)
    other[:, 2] = 1e3
    th.testing.assert_close(layer(inputs(Q), context, mask), layer(inputs(Q), other, mask))


def test_a_query_that_may_look_nowhere_finds_zeros() -> None:
    layer = MultiHeadAttention(E, 4)
    mask = th.zeros(B, 1, 1, K, dtype=th.bool)
    with record_attention(layer) as record:
        output = layer(inputs(Q), inputs(K, seed=1), mask)
    output.sum().backward()
    assert (record["attention"] == 0).all()
    assert th.equal(output, layer.to_output.bias.expand_as(output))
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_rotary_sees_distances_only() -> None:
    layer = MultiHeadAttention(E, 4, rotary=True).eval()
    queries, context = inputs(Q), inputs(K, seed=1)
    here = layer(queries, context, None, th.arange(Q), th.arange(K))
    th.testing.assert_close(layer(queries, context), here)
    far = layer(queries, context, None, th.arange(Q) + 100, th.arange(K) + 100)
    th.testing.assert_close(here, far, rtol=0, atol=1e-4)
    shifted = layer(queries, context, None, th.arange(Q) + 1, th.arange(K))
    assert not th.allclose(here, shifted, atol=1e-3)
    by_row = layer(queries, context, None, th.arange(Q).expand(B, Q), th.arange(K).expand(B, K))
    th.testing.assert_close(here, by_row)


def test_context_of_another_width() -> None:
    assert MultiHeadAttention(E, 4, context_dim=5)(inputs(Q), th.randn(B, K, 5)).shape == (B, Q, E)


@pytest.mark.parametrize("pooling", ["attention", "max", "mean"])
def test_pools(pooling: str) -> None:
    pool = make_pool(pooling, E).eval()
    entities, mask = inputs(K), th.rand(B, K) < 0.5
    mask[0], mask[1, 0] = False, True
    pooled = pool(entities, mask)
    assert pooled.shape == (B, E) and pooled.isfinite().all()
    th.testing.assert_close(pool(entities[1:2][:, mask[1]]), pooled[1:2], rtol=0, atol=1e-5)
    if pooling != "attention":
        assert (pooled[0] == 0).all()
        reduce = th.amax if pooling == "max" else th.mean
        th.testing.assert_close(pool(entities), reduce(entities, dim=1))


@pytest.mark.parametrize(
    "options",
    [
        dict(n_heads=3),
        dict(n_heads=0),
        dict(n_heads=2.0),
        dict(n_heads=True),
        dict(dropout=1.0),
        dict(dropout=-0.5),
        dict(dropout=math.nan),
        dict(dropout="0.5"),
        dict(context_dim=0),
        dict(rotary="yes"),
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MultiHeadAttention(E, **options)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TransformerBlock(E, hidden_dim=0),
        lambda: TransformerBlock(E, dropout=math.nan),
        lambda: TransformerBlock(-E),
        lambda: GatedTransformerBlock(E, gate_bias=math.nan),
        lambda: FeedForward(E, dropout=1.0),
        lambda: FeedForward(0),
        lambda: GRUGate(E, bias=None),
        lambda: GRUGate(1.5),
        lambda: RelativeAttention(E, longest=0.5),
        lambda: RelativeAttention(E, longest=math.nan),
        lambda: AttentionPool(E, n_heads=0),
        lambda: make_pool("sum", E),
        lambda: make_pool(3, E),
    ],
)
def test_wrong_options_of_blocks_and_pools(build: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        build()


def test_numpy_s_integers_are_taken() -> None:
    block = GatedTransformerBlock(np.int64(E), np.int32(2), hidden_dim=np.int64(8), dropout=np.float32(0.1))
    assert block(inputs(Q)).shape == (B, Q, E)


def test_dropout_scales_what_is_left() -> None:
    """Dropout of the weights keeps the output's mean; the recorded weights are those before it."""
    layer = MultiHeadAttention(E, 1, dropout=0.5)
    queries, context = inputs(1), inputs(K, seed=1)
    with record_attention(layer) as record:
        outputs = th.stack([layer(queries, context) for _ in range(2000)])
    expected = layer.eval()(queries, context)
    assert outputs.std(dim=0).max() > 0.01
    assert (outputs.mean(dim=0) - expected).abs().max() < 0.05
    th.testing.assert_close(record["attention"].sum(dim=-1), th.ones(B, 1, 1))
    assert F.cosine_similarity(outputs.mean(dim=0), expected, dim=-1).min() > 0.95


# ---- files of older versions -----------------------------------------------------------------------------------------


def of_old(state_dict: dict[str, th.Tensor]) -> dict[str, th.Tensor]:
    """:return: the same as versions before 0.2 named it"""
    return {name.replace("to_kv", "to_keys_values"): tensor for name, tensor in state_dict.items()}


def test_old_state_dicts_are_loaded() -> None:
    old, new = (nn.Sequential(TransformerBlock(E), AttentionPool(E)) for _ in range(2))
    new.load_state_dict(of_old(old.state_dict()))
    th.testing.assert_close(new.state_dict(), old.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*to_kv"):
        new.load_state_dict({name: t for name, t in old.state_dict().items() if "to_kv" not in name})


def test_old_pickles_are_loaded() -> None:
    """A layer as it was pickled whole, in the arguments of a saved agent."""
    layer = MultiHeadAttention(E)
    pickled = MultiHeadAttention(E)
    order = list(layer._modules)
    pickled._modules = dict(
        zip([n.replace("to_kv", "to_keys_values") for n in order], layer._modules.values(), strict=True)
    )
    loaded = pickle.loads(pickle.dumps(pickled))
    assert list(loaded._modules) == order
    th.testing.assert_close(loaded(inputs(Q)), layer(inputs(Q)))
    loaded.load_state_dict(of_old(layer.state_dict()))
