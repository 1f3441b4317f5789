"""Transformer blocks and their gates."""

import pytest
import torch as th

from sb3_attnmem.attention import GatedTransformerBlock, GRUGate, TransformerBlock, record_attention

B, L, E = 2, 5, 8
BLOCKS = [TransformerBlock, GatedTransformerBlock]


@pytest.mark.parametrize("block_class", BLOCKS)
def test_gradients_reach_every_parameter(block_class: type[TransformerBlock]) -> None:
    th.manual_seed(0)
    block = block_class(E, 2)
    (block(th.randn(B, L, E)) * th.randn(B, L, E)).sum().backward()
    assert [name for name, p in block.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6] == []


@pytest.mark.parametrize("block_class", BLOCKS)
@pytest.mark.parametrize("rotary", [False, True])
def test_a_causal_mask_keeps_the_future_out(block_class: type[TransformerBlock], rotary: bool) -> None:
    th.manual_seed(0)
    block = block_class(E, 2, rotary=rotary).eval()
    inputs, other = th.randn(B, L, E), th.randn(B, L, E)
    other[:, :3] = inputs[:, :3]
    mask = th.ones(L, L, dtype=th.bool).tril()
    th.testing.assert_close(block(inputs, mask=mask)[:, :3], block(other, mask=mask)[:, :3])
    assert not th.allclose(block(inputs)[:, :3], block(other)[:, :3])


@pytest.mark.parametrize("block_class", BLOCKS)
def test_context_stands_for_the_inputs_of_the_layer(block_class: type[TransformerBlock]) -> None:
    """The last input alone, given all as its context, comes out as it does among them."""
    th.manual_seed(0)
    block = block_class(E, 2, rotary=True).eval()
    inputs = th.randn(B, L, E)
    alone = block(inputs[:, -1:], inputs, query_positions=th.tensor([L - 1]))
    th.testing.assert_close(alone, block(inputs)[:, -1:], rtol=0, atol=1e-5)
    with record_attention(block) as record:
        block(inputs[:, -1:], inputs)
    assert record["attention"].shape == (B, 2, 1, L)


def test_gru_gate_by_its_formula() -> None:
    th.manual_seed(0)
    gate = GRUGate(E, bias=1.5)
    x, y = th.randn(B, E), th.randn(B, E)
    w_z, w_r, w_g = gate.from_layer.weight.chunk(3)
    u_z, u_r = gate.from_stream.weight.chunk(2)
    u_g = gate.from_reset.weight
    z = th.sigmoid(y @ w_z.T + x @ u_z.T - 1.5)
    r = th.sigmoid(y @ w_r.T + x @ u_r.T)
    h = th.tanh(y @ w_g.T + (r * x) @ u_g.T)
    th.testing.assert_close(gate(x, y), (1 - z) * x + z * h)


def test_a_high_bias_is_the_identity() -> None:
    x, y = th.randn(B, E), th.randn(B, E)
    th.testing.assert_close(GRUGate(E, bias=30.0)(x, y), x)
    distances = [(GRUGate(E, bias=bias)(x, y) - x).norm() for bias in (0.0, 2.0, 6.0)]
    assert distances[0] > distances[1] > distances[2]
