"""Layer norm and residual connections of stacked LSTMs and GRUs."""

import numpy as np
import pytest
import torch as th
from torch.nn import functional as F

from sb3_attnmem.memory import GRUMemory, LSTMMemory
from sb3_attnmem.memory.rnn import RNNMemory

B, T, D, H = 3, 9, 5, 6
KINDS = [LSTMMemory, GRUMemory]


def unroll(memory: RNNMemory, features: th.Tensor) -> th.Tensor:
    return memory.unroll(features, memory.initial_state(B), th.zeros(B, T, dtype=th.bool))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_layers_normalise_their_inputs_and_add_them(kind: type[RNNMemory], layer_norm: bool, residual: bool) -> None:
    features = 10.0 * th.randn(B, T, D) + 3.0
    memory = kind(D, H, num_layers=2, layer_norm=layer_norm, residual=residual)
    single = type(memory.rnn)

    def norm(x: th.Tensor) -> th.Tensor:
        return F.layer_norm(x, x.shape[-1:]) if layer_norm else x

    def layer(index: int, x: th.Tensor) -> th.Tensor:
        rnn = single(x.shape[-1], H, batch_first=True)
        names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
        weights = dict(zip(names, memory.rnn.all_weights[index], strict=True))
        rnn.load_state_dict(weights)
        return rnn(x)[0]

    below = layer(0, norm(features))
    above = layer(1, norm(below))
    th.testing.assert_close(unroll(memory, features), below + above if residual else above)


@pytest.mark.parametrize("kind", KINDS)
def test_a_horizon_spreads_how_long_units_remember(kind: type[RNNMemory]) -> None:
    memory = kind(D, 16, horizon=1000.0, horizon_share=1.0)
    silent = memory.rnn.all_weights[0]
    with th.no_grad():
        for weight in silent[:2]:
            weight.zero_()
        for bias in silent[2:]:
            gates = bias.view(-1, 16)
            gates[2] = 0.0  # nothing new comes in
            if kind is LSTMMemory:
                gates[3] = 0.0
    state = tuple(th.ones_like(tensor) for tensor in memory.initial_state(B))
    _, last = memory(th.zeros(B, 1, D), state, th.zeros(B, 1, dtype=th.bool))
    kept = last[-1][0, 0]  # after one step, of c or h
    th.testing.assert_close(kept / (1 - kept), th.logspace(0, 3, 16), rtol=1e-3, atol=0)
    with pytest.raises(ValueError, match="horizon"):
        kind(D, horizon=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layer_has_no_residual(kind: type[RNNMemory]) -> None:
    # Its inputs are as wide as its latents, so that nothing would fail
    features = th.randn(B, T, H)
    plain, residual = kind(H, H), kind(H, H, residual=True)
    residual.load_state_dict(plain.state_dict())
    th.testing.assert_close(unroll(residual, features), unroll(plain, features))


@pytest.mark.parametrize("kind", [LSTMMemory, GRUMemory])
def test_a_share_of_the_units_begins_with_long_memories(kind: type[RNNMemory]) -> None:
    th.manual_seed(0)
    plain = kind(D, 16, horizon=None)
    th.manual_seed(0)
    shared = kind(D, 16, horizon=64.0)  # a quarter of them by default
    (before,), (after,) = plain.rnn.all_weights, shared.rnn.all_weights
    gates = before[3].numel() // 16
    changed = (before[3] != after[3]).view(gates, 16)
    for gate in range(gates):
        expected = [False] * 12 + [True] * 4 if gate in kind.spread_gates else [False] * 16
        assert changed[gate].tolist() == expected, gate
    keeps = next(gate for gate, sign in kind.spread_gates.items() if sign > 0)
    kept = after[3].view(gates, 16)[keeps, 12:]
    np.testing.assert_allclose(kept.detach(), np.linspace(0, np.log(64.0), 4), rtol=1e-5)
    for share in (-0.1, 1.5, "half"):
        with pytest.raises(ValueError, match="horizon_share"):
            kind(D, 16, horizon_share=share)  # type: ignore[arg-type]
