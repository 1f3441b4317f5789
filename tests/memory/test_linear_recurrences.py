"""min_gru, lru and ffm are the equations of their papers, and begin with the memories they promise."""

import math

import pytest
import torch as th
from torch.nn import functional as F

from sb3_attnmem.memory import FFMMemory, LRUMemory, MinGRUMemory
from sb3_attnmem.memory.lru import LRULayer
from sb3_attnmem.memory.min_gru import MinGRULayer

B, T, D, H = 3, 20, 5, 6


@pytest.fixture(name="features")
def _features() -> th.Tensor:
    return th.randn(B, T, D, generator=th.Generator().manual_seed(0))


NO_STARTS = th.zeros(B, T, dtype=th.bool)


@pytest.mark.parametrize("conv_size", [1, 2, 4])
def test_min_gru_is_its_equations(features: th.Tensor, conv_size: int) -> None:
    memory = MinGRUMemory(D, H, layer_norm=False, conv_size=conv_size)
    (layer,) = memory.layers
    assert isinstance(layer, MinGRULayer)
    w_z, w_h = layer.linear.weight.split(H)
    b_z, b_h = layer.linear.bias.split(H)
    h = th.zeros(B, H)
    latents = memory.unroll(features, memory.initial_state(B), NO_STARTS)
    for t, x in enumerate(features.unbind(1)):
        if layer.taps is not None:
            x = sum(layer.taps[k] * features[:, t - k] for k in range(min(conv_size, t + 1)))  # type: ignore[assignment]
        z = F.linear(x, w_z, b_z).sigmoid()
        h = (1 - z) * h + z * F.linear(x, w_h, b_h)
        th.testing.assert_close(latents[:, t], h)


def test_min_gru_begins_with_memories_of_one_to_horizon_steps() -> None:
    (layer,) = MinGRUMemory(D, H, horizon=100.0).layers
    assert isinstance(layer, MinGRULayer)
    # The mean age of what a unit holds is (1 - z) / z steps
    z = layer.linear.bias[:H].sigmoid()
    th.testing.assert_close((1 - z) / z, th.logspace(0, 2, H))


def test_min_gru_layers_stack_with_norm_and_residual(features: th.Tensor) -> None:
    memory = MinGRUMemory(D, H, num_layers=2, layer_norm=True, residual=True)
    first, second = memory.layers
    below, _ = first(F.layer_norm(features, (D,)), memory.initial_state(B)[0], NO_STARTS)
    above, _ = second(F.layer_norm(below, (H,)), memory.initial_state(B)[1], NO_STARTS)
    latents = memory.unroll(features, memory.initial_state(B), NO_STARTS)
    th.testing.assert_close(latents, below + above)


@pytest.mark.parametrize("options", [dict(horizon=0.5), dict(num_layers=0), dict(hidden_size=0), dict(conv_size=0)])
def test_min_gru_refuses_what_has_no_meaning(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be (an integer of at least 1|a finite number at least 1)"):
        MinGRUMemory(D, **options)  # type: ignore[arg-type]


def lru_by_hand(layer: LRULayer, inputs: th.Tensor) -> th.Tensor:
    """:return: the latents of one LRU block, with complex matrices and a loop"""
    normed = F.layer_norm(inputs, (H,))
    decay = th.exp(th.complex(-layer.nu.exp(), layer.theta.exp()))
    b = th.view_as_complex(layer.to_state.weight.view(-1, 2, H).transpose(1, 2).contiguous())  # (N, H)
    # Re(C s) = Re C Re s - Im C Im s
    c_re, minus_c_im = layer.from_state.weight.view(H, -1, 2).unbind(-1)
    c = th.complex(c_re, -minus_c_im)
    s, outputs = th.zeros(inputs.shape[0], decay.shape[0], dtype=th.complex64), []
    for u in normed.unbind(1):
        s = decay * s + layer.gamma.exp() * (u.to(th.complex64) @ b.T)
        outputs.append((s @ c.T).real + layer.skip * u)
    assert layer.glu is not None
    return inputs + F.glu(layer.glu(F.gelu(th.stack(outputs, dim=1))))


def test_lru_is_its_equations() -> None:
    inputs = th.randn(B, T, H)
    memory = LRUMemory(H, H, num_layers=2, state_size=4)
    first, second = memory.layers
    assert isinstance(first, LRULayer) and isinstance(second, LRULayer)
    latents = memory.unroll(inputs, memory.initial_state(B), NO_STARTS)
    th.testing.assert_close(latents, lru_by_hand(second, lru_by_hand(first, inputs)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("nu", [-50.0, -5.0, 0.0, 5.0])
def test_lru_is_stable_whatever_is_learned(nu: float) -> None:
    layer = LRULayer(H, 4, (0.0, 0.999), math.pi, True, True)
    with th.no_grad():
        layer.nu.fill_(nu)
        layer.theta.normal_(std=5.0)
    assert (layer.decay().norm(dim=-1) <= 1.0).all()


def test_lru_begins_on_the_ring_with_states_of_variance_one() -> None:
    th.manual_seed(0)
    layer = LRULayer(64, 256, (0.5, 0.99), math.pi, True, True)
    size = layer.decay().norm(dim=-1)
    assert 0.5 <= size.min() < 0.55 and 0.97 < size.max() <= 0.99
    # Noise in, for longer than any state remembers
    noise, starts = th.randn(64, 500, 64), th.zeros(64, 500, dtype=th.bool)
    _, last = layer(noise, th.zeros(64, 256, 2), starts)
    variance = last.square().sum(dim=-1).mean(dim=0)  # (256,), over the batch
    assert 0.9 < variance.mean() < 1.1
    assert th.corrcoef(th.stack([variance, size]))[0, 1].abs() < 0.2  # slow states are no larger


@pytest.mark.parametrize("options", [dict(max_radius=1.0), dict(min_radius=0.9, max_radius=0.5), dict(state_size=0)])
def test_lru_refuses_what_is_not_stable(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be an integer of at least 1|needs 0 <= min_radius"):
        LRUMemory(D, **options)  # type: ignore[arg-type]


def test_ffm_is_its_equations(features: th.Tensor) -> None:
    memory = FFMMemory(D, H, memory_size=4, context_size=3)
    latents = memory.unroll(features, memory.initial_state(B), NO_STARTS)
    gamma = th.exp(th.complex(-memory.log_decay.exp()[:, None].expand(4, 3), memory.frequency.expand(4, 3)))
    s = th.zeros(B, 4, 3, dtype=th.complex64)
    for t, x in enumerate(features.unbind(1)):
        trace, gate = memory.to_trace(x).chunk(2, dim=-1)
        s = gamma * s + (trace * gate.sigmoid()).unsqueeze(-1)
        found = F.layer_norm(memory.from_state(th.view_as_real(s).flatten(1)), (H,))
        gate, skip = memory.to_output(x).chunk(2, dim=-1)
        expected = found * gate.sigmoid() + skip * (1 - gate.sigmoid())
        th.testing.assert_close(latents[:, t], expected, atol=1e-5, rtol=1e-5)


def test_ffm_traces_begin_with_durations_up_to_the_horizon() -> None:
    memory = FFMMemory(D, memory_size=5, context_size=3, horizon=256.0)
    durations = th.logspace(0, math.log10(256), 5)
    left = memory.decay().norm(dim=-1) ** durations[:, None]
    th.testing.assert_close(left, th.full((5, 3), 0.01), atol=1e-4, rtol=0)
    turns = 2 * math.pi / memory.frequency
    th.testing.assert_close(turns, th.tensor([4.0, 32.0, 256.0]))


def test_ffm_refuses_a_horizon_shorter_than_its_clocks() -> None:
    with pytest.raises(ValueError, match="horizon"):
        FFMMemory(D, horizon=4.0)
