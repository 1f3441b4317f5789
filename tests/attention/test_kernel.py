"""Attention that can be differentiated twice, at the cost of the fused kernel for those who differentiate once."""

from typing import Any

import pytest
import torch as th
from torch.nn import functional as F

from sb3_attnmem.attention import Band, MultiHeadAttention, RelativeAttention, SpatialAttention, attend, kernel
from tests.attention.test_places import GRID

B, N, Q, K, D = 2, 2, 3, 5, 4


def heads(*lengths: int, dtype: Any = th.float64) -> list[th.Tensor]:
    """:return: queries, keys and values with gradients"""
    th.manual_seed(0)
    return [th.randn(B, N, length, D, dtype=dtype, requires_grad=True) for length in lengths]


def some_mask() -> th.Tensor:
    th.manual_seed(1)
    mask = th.rand(B, 1, Q, K) < 0.6
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("masked", [False, True])
def test_first_and_second_derivatives_are_true(masked: bool) -> None:
    """Against finite differences."""
    mask = some_mask() if masked else None
    inputs = heads(Q, K, K)
    assert th.autograd.gradcheck(lambda q, k, v: attend(q, k, v, mask), inputs)
    assert th.autograd.gradgradcheck(lambda q, k, v: attend(q, k, v, mask), inputs)


def test_outputs_and_gradients_are_the_fused_kernel_s() -> None:
    q, k, v = heads(Q, K, K, dtype=th.float32)
    for mask in (None, some_mask()):
        found, expected = attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, mask)
        assert th.equal(found, expected)
        ours, theirs = (th.autograd.grad(x.square().sum(), (q, k, v)) for x in (found, expected))
        assert all(th.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_only_a_second_derivative_is_computed_explicitly(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    weights = kernel.attention_weights
    monkeypatch.setattr(kernel, "attention_weights", lambda *args: calls.append(args) or weights(*args))
    inputs = heads(Q, K, K)
    with th.no_grad():
        attend(*inputs)
    attend(*inputs).sum().backward()
    assert not calls
    th.autograd.grad(attend(*inputs).square().sum(), inputs, create_graph=True)
    assert len(calls) == 1


@pytest.mark.parametrize("learns", [0, 1, 2])
def test_inputs_without_a_gradient_get_none(learns: int) -> None:
    inputs = [h.detach().requires_grad_(i == learns) for i, h in enumerate(heads(Q, K, K))]
    (first,) = th.autograd.grad(attend(*inputs).square().sum(), inputs[learns], create_graph=True)
    first.square().sum().backward()
    assert [h.grad is not None for h in inputs] == [i == learns for i in range(3)]


def test_the_graph_can_be_kept_for_several_gradients() -> None:
    inputs = heads(Q, K, K)
    loss = attend(*inputs).square().sum()
    once, again = (th.autograd.grad(loss, inputs, retain_graph=True) for _ in range(2))
    assert all(th.equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["plain", "masked", "band", "relative", "rotary", "spatial"])
def test_every_layer_can_be_differentiated_twice(kind: str, dropout: float) -> None:
    th.manual_seed(0)
    steps = th.randn(B, K, 8)
    layer: Any
    if kind == "spatial":
        layer, steps = SpatialAttention(8, GRID), th.randn(B, GRID.n_places, 8)
        found = layer(steps)
    else:
        layer = (RelativeAttention if kind == "relative" else MultiHeadAttention)(8, 2, dropout=dropout)
        if kind == "rotary":
            layer = MultiHeadAttention(8, 2, dropout=dropout, rotary=True)
        mask: Any = None if kind != "masked" else th.ones(K, K, dtype=th.bool).tril()
        if kind == "band":
            mask = Band(th.zeros(B, 0, dtype=th.long), th.zeros(B, K, dtype=th.long))
        found = layer(steps, mask=mask)
    weights = list(layer.parameters())
    gradients = th.autograd.grad(found.square().sum(), weights, create_graph=True)
    sum(gradient.square().sum() for gradient in gradients).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in weights)


def test_a_traced_graph_holds_torch_s_own_operator() -> None:
    layer = MultiHeadAttention(8, 2)
    steps = th.randn(B, K, 8)
    traced = th.jit.trace(layer, steps)
    assert "scaled_dot_product_attention" in str(traced.inlined_graph)
    th.testing.assert_close(traced(steps), layer(steps))
