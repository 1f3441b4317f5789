"""window and gtrxl: what they reach, by distance, with a cache that carries no gradient."""

import pytest
import torch as th

from sb3_attnmem.attention import GRUGate, band, record_attention
from sb3_attnmem.memory import GTrXLMemory, WindowMemory
from sb3_attnmem.memory.banded import BandedTransformer

B, D = 3, 5


def window(cached: int, num_layers: int) -> WindowMemory:
    return WindowMemory(D, 8, window=cached + 1, num_layers=num_layers, n_heads=2)


def gtrxl(cached: int, num_layers: int) -> GTrXLMemory:
    return GTrXLMemory(D, 8, memory_length=cached, num_layers=num_layers, n_heads=2)


both = pytest.mark.parametrize("make", [window, gtrxl])


def check_reach(memory: BandedTransformer, cached: int, num_layers: int) -> None:
    """The last latents change with the input ``reach`` steps before, and with none before that."""
    n_steps = cached * num_layers + 4
    features = th.randn(1, n_steps, D, dtype=th.float64)
    starts = th.zeros(1, n_steps, dtype=th.bool)
    latents = memory.unroll(features, memory.initial_state(1), starts)
    for back in range(n_steps):
        changed = features.clone()
        changed[:, n_steps - 1 - back] += 10.0
        difference = memory.unroll(changed, memory.initial_state(1), starts)[:, -1] - latents[:, -1]
        assert (difference.abs().max() > 0) == (back <= cached * num_layers), back


@both
@pytest.mark.parametrize("cached, num_layers", [(1, 1), (4, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_reach(make, cached: int, num_layers: int, in_blocks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if in_blocks:
        monkeypatch.setattr(band, "LEAST_BLOCK", 1)
    check_reach(make(cached, num_layers).double(), cached, num_layers)


@both
@pytest.mark.parametrize("starts", [0.0, 0.05])
@pytest.mark.parametrize("least_block", [1, 64])
def test_a_long_tape_in_blocks_equals_its_chunks(
    make, starts: float, least_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(band, "LEAST_BLOCK", least_block)
    memory = make(7, 2).eval()
    features, episode_starts = th.randn(B, 300, D), th.rand(B, 300) < starts
    whole, last = memory(features, memory.initial_state(B), episode_starts)
    for sizes in ([1] * 300, [10] * 30, [200, 100], [299, 1]):
        state, parts = memory.initial_state(B), []
        for x, s in zip(features.split(sizes, dim=1), episode_starts.split(sizes, dim=1), strict=True):
            latents, state = memory(x, state, s)
            parts.append(latents)
        th.testing.assert_close(th.cat(parts, dim=1), whole, rtol=0, atol=1e-5)
        for got, expected in zip(state, last, strict=True):
            th.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@both
def test_positions_are_distances(make) -> None:
    # The same steps later in a longer episode, out of reach of what was before
    memory = make(3, 1).eval()
    features = th.randn(B, 40, D)
    features[:, 30:] = features[:, :10]
    latents = memory.unroll(features, memory.initial_state(B), th.zeros(B, 40, dtype=th.bool))
    th.testing.assert_close(latents[:, 33:], latents[:, 3:10], rtol=0, atol=1e-5)
    # and they matter: the order of the steps before makes a difference
    swapped = features.clone()
    swapped[:, [7, 8]] = swapped[:, [8, 7]]
    other = memory.unroll(swapped, memory.initial_state(B), th.zeros(B, 40, dtype=th.bool))
    assert (other[:, 9] - latents[:, 9]).abs().max() > 1e-3


@both
def test_with_a_code_a_step_says_when_it_was(make) -> None:
    # The same steps later in a longer episode: by distance they are the same, by the step of the episode they are not
    distances = make(3, 1).eval()
    episodes = type(distances)(D, 8, 4 if make is window else 3, 1, 2, positions="episode").eval()
    features = th.randn(B, 40, D)
    features[:, 30:] = features[:, :10]
    starts = th.zeros(B, 40, dtype=th.bool)
    latents = episodes.unroll(features, episodes.initial_state(B), starts)
    assert (latents[:, 33:] - latents[:, 3:10]).abs().amax(dim=2).min() > 1e-3
    # ... until an episode starts there; and the count in the state is of all steps, not of those in the cache
    starts[:, 30] = True
    latents, (_, count) = episodes(features, episodes.initial_state(B), starts)
    th.testing.assert_close(latents[:, 33:], latents[:, 3:10], rtol=0, atol=1e-5)
    assert count.flatten().tolist() == [10.0] * B


@both
def test_cached_latents_carry_no_gradient(make) -> None:
    memory = make(4, 2)
    starts = th.zeros(B, 6, dtype=th.bool)
    state = memory.advance(th.randn(B, 6, D), memory.initial_state(B), starts)
    assert not any(tensor.requires_grad for tensor in state)
    state = tuple(tensor.requires_grad_() for tensor in state)
    memory.unroll(th.randn(B, 6, D), state, starts).sum().backward()
    assert state[0].grad is None


@both
def test_the_cache_holds_the_inputs_of_each_layer_since_the_start(make) -> None:
    memory = make(4, 2)
    starts = th.zeros(B, 6, dtype=th.bool)
    starts[1, 4] = True
    seen: list[th.Tensor] = []
    memory.blocks[1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    features = th.randn(B, 6, D)
    _, (cache, count) = memory(features, memory.initial_state(B), starts)
    assert count.flatten().tolist() == [4, 2, 4]
    th.testing.assert_close(cache[0, 0], memory.embed(features)[0, -4:])
    th.testing.assert_close(cache[0, 1], seen[0][0, -4:])
    assert th.count_nonzero(cache[1, :, :2]) == 0 and th.count_nonzero(cache[1, :, 2:]) > 0


@both
@pytest.mark.parametrize("n_steps", [1, 6, 200])
def test_recorded_weights_are_by_age(make, n_steps: int) -> None:
    memory = make(4, 2).eval()
    starts = th.zeros(B, n_steps, dtype=th.bool)
    starts[0, n_steps // 2] = True
    with record_attention(memory) as record:
        memory.unroll(th.randn(B, n_steps, D), memory.initial_state(B), starts)
    assert list(record) == ["blocks.0.attention", "blocks.1.attention"]
    for name, weights in record.items():
        assert weights.shape == (B, 2, n_steps, 5)  # 4 steps ago ... the present one
        th.testing.assert_close(weights.sum(-1), th.ones(B, 2, n_steps))
        names = record.layouts[name].names  # type: ignore[union-attr]
        assert names == ("-4", "-3", "-2", "-1", "0")
        # An episode's first step sees itself alone, its second those two
        assert weights[0, :, n_steps // 2].tolist() == [[0, 0, 0, 0, 1]] * 2
        if n_steps > 1:
            assert th.count_nonzero(weights[0, :, n_steps // 2 + 1]) == 2 * 2


def test_gtrxl_begins_near_the_identity() -> None:
    gate = GRUGate(8, bias=2.0)
    memory = GTrXLMemory(8, 8, n_heads=2, gate_bias=50.0)  # shut: what comes in goes out, normalised
    features = th.randn(B, 6, 8)
    latents = memory.unroll(features, memory.initial_state(B), th.zeros(B, 6, dtype=th.bool))
    th.testing.assert_close(latents, th.nn.functional.layer_norm(features, (8,)))
    assert (gate.bias == memory.blocks[0].attention_gate.bias - 48.0).all()


@pytest.mark.parametrize("options", [dict(window=1), dict(hidden_size=10, n_heads=4), dict(hidden_size=12, n_heads=4)])
def test_window_refuses_what_does_not_fit(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"window=1|not divisible|even number"):
        WindowMemory(D, **options)  # type: ignore[arg-type]


# The tests' own teeth


class OffByOne(band.Band):
    """Planted: a step looks one step further back."""

    def __init__(self, cached: th.Tensor, present: th.Tensor) -> None:
        super().__init__(cached, present)
        self.mask = self.mask.roll(-1, dims=-1) | self.mask


def test_a_band_that_is_off_by_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.memory.banded.Band", OffByOne)
    with pytest.raises(AssertionError):
        check_reach(window(3, 1).double(), 3, 1)
