"""shm and deltanet are the equations of their papers, whatever the chunks, and tell what they write and read."""

from typing import Any

import pytest
import torch as th
from torch.nn import functional as F

from sb3_attnmem.memory import DeltaNetMemory, SHMMemory, deltanet
from sb3_attnmem.memory.deltanet import CHUNK, DeltaNetLayer, gated_delta_rule
from sb3_attnmem.memory.matrix import MatrixMemory, MatrixSizes
from sb3_attnmem.memory.shm import HadamardLayer
from sb3_attnmem.memory.steps import StepCode, step_code, steps_of
from tests.memory.laws import check_chunks

B, T, D, H = 3, 2 * CHUNK + 5, 4, 6
SIZES: dict[str, Any] = dict(hidden_size=H, n_heads=2, key_size=5, value_size=3)


def steps_by_hand(memory: MatrixMemory, features: th.Tensor, starts: th.Tensor) -> th.Tensor:
    """:return: the latents of a memory of one layer, with the papers' equations and a loop over steps and heads"""
    (layer,) = memory.layers
    n, k_size, v_size = layer.state_shape
    matrices, step, latents = features.new_zeros(B, n, k_size, v_size), th.zeros(B, 1, dtype=features.dtype), []
    taps = th.ones(1, H, dtype=features.dtype) if layer.taps is None else layer.taps
    recent = [features.new_zeros(B, H)] * len(taps)  # newest first
    for x, start in zip(memory.embed(features).unbind(1), starts.unbind(1), strict=True):
        matrices = th.where(start[:, None, None, None], 0.0, matrices)
        step = th.where(start[:, None], 0.0, step)
        u = layer.norm(x)
        recent = [u, *(th.where(start[:, None], 0.0, old) for old in recent[:-1])]
        mixed = sum(tap * one for tap, one in zip(taps, recent, strict=True))
        code = memory.code(step)[:, 0] if memory.code is not None else u[:, :0]
        q, k = F.silu(layer.to_places(th.cat([mixed, code], dim=1))).chunk(2, dim=1)
        q, k = (F.normalize(t.view(B, n, -1), dim=-1) for t in (q, k))
        v = layer.to_contents(mixed).view(B, n, -1)
        if isinstance(layer, DeltaNetLayer):
            beta, alpha = layer.to_strengths(u).sigmoid()[:, :, None, None].chunk(2, dim=1)
            eye = th.eye(k_size, dtype=u.dtype)
            forget = eye - beta * k.unsqueeze(-1) * k.unsqueeze(-2)
            matrices = alpha * forget @ matrices + beta * k.unsqueeze(-1) * v.unsqueeze(-2)
        else:
            assert isinstance(layer, HadamardLayer)
            row = layer.theta[step[:, 0].long() % layer.n_rows].view(B, n, 1, v_size)
            calibration = 1.0 + (layer.to_calibration(u).view(B, n, k_size, 1) * row).tanh()
            eta = layer.to_strength(u).sigmoid()[:, :, None, None]
            matrices = matrices * calibration + eta * k.unsqueeze(-1) * v.unsqueeze(-2)
        found = layer.found_norm(th.einsum("bnk,bnkv->bnv", q, matrices)).flatten(1)
        latents.append(x + layer.to_output(found * F.silu(layer.to_gate(u))))
        step = step + 1.0
    return th.stack(latents, dim=1)


def some_starts(probability: float = 0.15) -> th.Tensor:
    starts = th.rand(B, T, generator=th.Generator().manual_seed(4)) < probability
    starts[:, 0] = starts[1] = False
    return starts


def memories() -> list[MatrixMemory]:
    th.manual_seed(0)
    return [
        DeltaNetMemory(D, **SIZES, horizon=8.0).double(),
        DeltaNetMemory(D, **SIZES, positions="none").double(),
        DeltaNetMemory(D, **SIZES, conv_size=1).double(),
        SHMMemory(D, **SIZES, n_rows=7, conv_size=1).double(),
        SHMMemory(D, **SIZES, n_rows=7, conv_size=3).double(),
        SHMMemory(D, **SIZES, positions="none").double(),
    ]


@pytest.mark.parametrize("which", range(6))
@pytest.mark.parametrize("starts", [0.0, 0.15, 1.0])
def test_it_is_its_equations_over_several_chunks(which: int, starts: float) -> None:
    memory = memories()[which]
    features, episode_starts = th.randn(B, T, D, dtype=th.float64, requires_grad=True), some_starts(starts)
    latents = memory.unroll(features, memory.initial_state(B), episode_starts)
    by_hand = steps_by_hand(memory, features, episode_starts)
    th.testing.assert_close(latents, by_hand, rtol=0, atol=1e-10)
    weights, learned = th.randn_like(latents), [features, *memory.parameters()]
    gradients, expected = (th.autograd.grad((weights * one).sum(), learned) for one in (latents, by_hand))
    th.testing.assert_close(gradients, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("n_steps", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_matrix_goes_on_from_chunk_to_chunk(n_steps: int) -> None:
    # Keys at right angles, written at full strength, nothing forgotten: all is found again, exactly
    places = th.eye(3 * CHUNK)[:n_steps].expand(2, 1, -1, -1)
    contents = th.randn(2, 1, n_steps, 4)
    ones, nothing = th.ones(2, 1, n_steps), th.zeros(2, 1, 3 * CHUNK, 4)
    starts = th.zeros(2, n_steps, dtype=th.bool)
    heads = places.roll(1, dims=2), places, contents
    found, last = gated_delta_rule(heads, ones, 0.0 * ones, nothing, starts)
    th.testing.assert_close(last[:, :, :n_steps], contents)
    th.testing.assert_close(found[:, :, 1:], contents[:, :, :-1])


def test_digits_are_kept_behind_a_step_that_keeps_little() -> None:
    th.manual_seed(0)
    heads = tuple(F.normalize(th.randn(B, 1, T, 4), dim=-1) for _ in range(3))
    strength, log_keep = th.rand(B, 1, T), -0.1 * th.rand(B, 1, T)
    log_keep[:, :, 3] = -1e5
    arguments = (heads, strength, log_keep, th.randn(B, 1, 4, 4), th.zeros(B, T, dtype=th.bool))
    single, _ = gated_delta_rule(*arguments)  # type: ignore[arg-type]
    doubled = tuple(t.double() for t in heads), strength.double(), log_keep.double(), arguments[3].double()
    exact, _ = gated_delta_rule(*doubled, arguments[4])  # type: ignore[arg-type]
    th.testing.assert_close(single.double(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize("which", [0, 3])
def test_what_it_reads_says_which_step_wrote_it(which: int) -> None:
    # Shares are measured by leaving a step's value out: only the steps whose share it had change
    memory = memories()[which]
    (layer,) = memory.layers
    features, starts = th.randn(B, T, D, dtype=th.float64), some_starts()
    (shares,) = memory.shares(features, starts)
    assert shares.shape == (B, 2, T, T) and (shares >= 0).all()
    th.testing.assert_close(shares.sum(dim=-1), th.ones_like(shares[..., 0]))
    (at_work,) = memory._layers_at_work(features, starts)
    _, normed, (queries, keys, contents), steps = at_work
    nothing = memory.initial_state(B)[0][:, 0]

    def read(values: th.Tensor) -> th.Tensor:
        return layer.write_and_read(normed, (queries, keys, values), steps, nothing, starts)[0]

    whole, sizes = read(contents), []
    for s in range(T):
        without = contents.clone()
        without[:, :, s] = 0.0
        sizes.append((whole - read(without)).norm(dim=-1))
    changed = th.stack(sizes, dim=-1)
    th.testing.assert_close(shares, changed / changed.sum(dim=-1, keepdim=True))


@pytest.mark.parametrize("which", range(6))
def test_strengths_are_shares_of_each_step(which: int) -> None:
    memory = memories()[which]
    strengths = memory.strengths(th.randn(B, T, D, dtype=th.float64), some_starts())
    names = ["write strength β", "kept α"] if which < 3 else ["write strength η"]
    assert list(strengths) == names
    assert all(values.shape == (B, T, 2) and 0 < values.min() and values.max() < 1 for values in strengths.values())


def test_deltanet_begins_with_a_memory_of_about_horizon_steps() -> None:
    (layer,) = DeltaNetMemory(D, **SIZES, horizon=100.0).layers
    assert isinstance(layer, DeltaNetLayer)
    keep = layer.strengths(th.zeros(1, 1, H), th.zeros(1, 1))["kept α"]
    th.testing.assert_close(keep**100, th.full_like(keep, 0.37), rtol=0, atol=0.01)


def test_rows_of_shm_are_taken_in_turn_from_the_first_step_of_an_episode() -> None:
    memory = SHMMemory(D, **SIZES, n_rows=4)
    (layer,) = memory.layers
    starts = th.zeros(1, 9, dtype=th.bool)
    starts[0, 6] = True
    latents = memory.unroll(th.randn(1, 9, D), memory.initial_state(1), starts)
    for last, used in ((5, [0, 1, 2, 3]), (6, []), (8, [1, 2])):  # C of a first step meets an empty matrix
        (gradient,) = th.autograd.grad(latents[0, last].sum(), layer.theta, retain_graph=True, allow_unused=True)
        assert gradient.norm(dim=1).nonzero().flatten().tolist() == used


def test_steps_are_numbered_within_their_episodes() -> None:
    starts = th.tensor([[False, False, True, False, True, True], [False] * 6])
    steps = steps_of(th.tensor([[7.0], [0.0]]), starts)
    assert steps.tolist() == [[7, 8, 0, 1, 0, 0], [0, 1, 2, 3, 4, 5]]
    assert steps_of(th.tensor([[3.0]]), th.zeros(1, 1, dtype=th.bool)).tolist() == [[3]]


def test_codes_of_steps_so_far_apart_are_a_linear_map_away() -> None:
    code = StepCode(8, 100.0).double()
    steps = th.arange(60.0, dtype=th.float64).unsqueeze(0)
    here = code(steps)[0]
    for other in (code(steps + 5.0)[0], code(103.0 - steps)[0]):  # so many steps later; and read back in reverse order
        found = th.linalg.lstsq(here[:30], other[:30], driver="gelsd").solution
        th.testing.assert_close(here @ found, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("positions", "otherwise"), [("distance", "none"), ("none", "distance"), ("episod", "none")])
def test_unknown_positions_are_refused(positions: str, otherwise: str) -> None:
    with pytest.raises(ValueError, match=f"positions='{positions}' is unknown; choose from 'episode', '{otherwise}'"):
        step_code(positions, otherwise)


# The tests' own teeth


class RowsAtRandom(HadamardLayer):
    """Planted: the row of θ is drawn, as in the paper, so that acting and training do not agree."""

    def _calibration(self, normed: th.Tensor, steps: th.Tensor) -> th.Tensor:
        return super()._calibration(normed, th.randint_like(steps, self.n_rows))


class CountsOn(MatrixMemory):
    """Planted: the steps are counted on over episode starts inside a tape."""

    def _code(self, steps: th.Tensor) -> th.Tensor:
        return super()._code(th.arange(steps.shape[1], dtype=steps.dtype) + steps[:, :1])


def test_rows_that_are_drawn_are_caught() -> None:
    th.manual_seed(0)
    layers = [RowsAtRandom(MatrixSizes(H, 0, 1, 4, 3, 1), 16)]
    check_chunks(MatrixMemory(3, H, [HadamardLayer(MatrixSizes(H, 0, 1, 4, 3, 1), 16)], None), "random")
    with pytest.raises(AssertionError):
        check_chunks(MatrixMemory(3, H, layers, None), "random")


def test_a_code_that_goes_on_over_episodes_is_caught() -> None:
    th.manual_seed(0)
    layer = DeltaNetLayer(MatrixSizes(H, 64, 1, 4, 3, 1), 100.0)
    with pytest.raises(AssertionError):
        check_chunks(CountsOn(3, H, [layer], StepCode(32, 100.0)), "random")


def test_a_chunk_that_is_not_cut_at_a_start_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = deltanet._Chunks._cut

    def deaf(self: Any, tensor: th.Tensor, dim: int) -> th.Tensor:
        return cut(self, th.zeros_like(tensor) if dim == 1 else tensor, dim)

    monkeypatch.setattr(deltanet._Chunks, "_cut", deaf)
    with pytest.raises(AssertionError):
        test_it_is_its_equations_over_several_chunks(0, 0.15)
