"""The laws of DESIGN.md, run against every memory (eval mode, float32, tolerance 1e-5)."""

import itertools
import math

import pytest
import torch as th

from sb3_attnmem.memory import MEMORIES, BaseMemory
from tests.memory.laws import (
    LOOPS,
    MAKERS,
    ROUNDING,
    SCANS,
    TOLERANCE,
    B,
    T,
    check_chunks,
    check_no_loop_over_time,
    check_reset,
    check_reset_from_what_is_not_finite,
    draw,
    make,
    tape,
    warm_state,
)
from tests.toys import SumMemory


@pytest.fixture(params=MAKERS, name="memory")
def _memory(request: pytest.FixtureRequest) -> BaseMemory:
    th.manual_seed(0)
    memory = MAKERS[request.param]().eval()
    with th.no_grad():  # no initial value, such as a bias of zero, shall be what a law rests on
        for weight in memory.parameters():
            weight += 0.1 * th.randn_like(weight)
    return memory


@pytest.mark.parametrize("starts", ["none", "random", "short"])
def test_law_1_any_split_into_chunks_equals_one_unroll(memory: BaseMemory, starts: str) -> None:
    check_chunks(memory, starts)


@pytest.mark.parametrize("position", [0, 1, 6, T - 1])
def test_law_2_nothing_before_an_episode_start_reaches_it(memory: BaseMemory, position: int) -> None:
    check_reset(memory, position)


@pytest.mark.parametrize(
    ("position", "where", "value"),
    [(0, "state", math.nan), (6, "state", math.inf), (6, "features", math.nan)],
)
def test_law_2_holds_for_what_is_not_finite(memory: BaseMemory, position: int, where: str, value: float) -> None:
    check_reset_from_what_is_not_finite(memory, position, value, where)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_step_as_an_agent_acts_is_reset_from_what_is_not_finite(memory: BaseMemory, value: float) -> None:
    features, _ = tape(memory)
    starts = th.ones(B, 1, dtype=th.bool)
    state = tuple(th.full_like(tensor, value) for tensor in memory.initial_state(B))
    latents, last = memory(features[:, :1], state, starts)
    clean, clean_last = memory(features[:, :1], memory.initial_state(B), starts)
    for got, expected in zip((latents, *last), (clean, *clean_last), strict=True):
        assert th.equal(got, expected)


def test_what_is_not_finite_shows_until_its_episode_ends(memory: BaseMemory) -> None:
    # ... in the rows that hold it, at the least from its step on: it is not hidden either
    features, starts = tape(memory, "none")
    starts[:, 8] = True
    expected = memory.unroll(features, memory.initial_state(B), starts)
    features[2, 4] = math.nan
    latents = memory.unroll(features, memory.initial_state(B), starts)
    assert latents[2, 4].isnan().all()
    expected[2, :8] = latents[2, :8] = 0.0
    th.testing.assert_close(latents, expected, **TOLERANCE)


@pytest.mark.parametrize("starts", ["none", "random"])
def test_law_3_the_future_never_changes_the_past(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    before, _ = memory(features, warm_state(memory), episode_starts)
    changed, changed_starts = features.clone(), episode_starts.clone()
    changed[:, 7:] += 5.0
    changed_starts[:, 7:] ^= True
    after, _ = memory(changed, warm_state(memory), changed_starts)
    th.testing.assert_close(after[:, :7], before[:, :7], **TOLERANCE)
    # The law has teeth only where the change shows at all
    assert not th.allclose(after[:, 7:], before[:, 7:])


def test_law_4_permuting_the_batch_permutes_the_outputs(memory: BaseMemory) -> None:
    features, starts = tape(memory)
    state = warm_state(memory)
    order = th.tensor([3, 0, 4, 2, 1])
    latents, last = memory(features, state, starts)
    permuted, permuted_last = memory(features[order], tuple(tensor[order] for tensor in state), starts[order])
    th.testing.assert_close(permuted, latents[order], **TOLERANCE)
    for got, expected in zip(permuted_last, last, strict=True):
        th.testing.assert_close(got, expected[order], **TOLERANCE)


@pytest.mark.parametrize("n_steps", [1, T])
@pytest.mark.parametrize("starts", ["none", "random"])
def test_law_5_the_state_keeps_structure_shapes_and_dtypes(memory: BaseMemory, n_steps: int, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    initial = memory.initial_state(B)
    latents, last = memory(features[:, :n_steps], initial, episode_starts[:, :n_steps])
    assert latents.shape == (B, n_steps, memory.latent_dim)
    assert isinstance(last, tuple) and len(last) == len(initial)
    for got, expected in zip(last, initial, strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype and got.shape[0] == B


def test_law_6_one_tape_with_several_episodes_equals_the_episodes_apart(memory: BaseMemory) -> None:
    features, _ = tape(memory)
    starts = th.zeros(B, T, dtype=th.bool)
    bounds = [[0, 4, 5, T], [0, 1, 11, T], [0, T], [0, 6, T], [0, 2, 4, 6, 8, T]]
    for row, episodes in enumerate(bounds):
        starts[row, episodes[:-1]] = True
    together, last = memory(features, warm_state(memory), starts)
    for row, episodes in enumerate(bounds):
        for begin, end in itertools.pairwise(episodes):
            alone, alone_last = memory(
                features[row : row + 1, begin:end],
                memory.initial_state(1),
                th.zeros(1, end - begin, dtype=th.bool),
            )
            th.testing.assert_close(together[row, begin:end], alone[0], **TOLERANCE)
        for got, expected in zip(last, alone_last, strict=True):
            th.testing.assert_close(got[row], expected[0], **TOLERANCE)


@pytest.mark.parametrize("name", [name for name in MEMORIES if name not in LOOPS])
@pytest.mark.parametrize("method", ["forward", "unroll", "advance"])
@pytest.mark.parametrize("starts", ["none", "random", "short"])
def test_law_7_no_python_loop_over_time(name: str, method: str, starts: str) -> None:
    # A scan makes one more round of calls for eight times the steps; a loop over 576 more steps would make 576 calls
    check_no_loop_over_time(make(name), method, starts, more=48 if name in SCANS else 0)


@pytest.mark.parametrize("starts", ["none", "random", "short"])
def test_unroll_and_advance_are_the_two_halves_of_forward(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    latents, last = memory(features, warm_state(memory), episode_starts)
    th.testing.assert_close(memory.unroll(features, warm_state(memory), episode_starts), latents, **TOLERANCE)
    for got, expected in zip(memory.advance(features, warm_state(memory), episode_starts), last, strict=True):
        th.testing.assert_close(got, expected, **TOLERANCE)


def test_gradients_stop_at_episode_starts_and_reach_every_parameter(memory: BaseMemory) -> None:
    features, starts = tape(memory, "none")
    starts[:, 6] = True
    features.requires_grad_()
    latents = memory.unroll(features, memory.initial_state(B), starts)
    latents[:, 6:].square().sum().backward()
    assert features.grad is not None
    assert th.count_nonzero(features.grad[:, :6]) == 0
    assert th.count_nonzero(features.grad[:, 6:]) > 0
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None and th.count_nonzero(parameter.grad) > 0, name


@pytest.mark.parametrize("starts", ["none", "random"])
def test_float64_is_kept_and_agrees_with_float32(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    single, single_state = memory(features, warm_state(memory), episode_starts)
    state = tuple(tensor.double() for tensor in warm_state(memory))
    memory.double()
    double, double_state = memory(features.double(), state, episode_starts)
    assert double.dtype == th.float64
    assert all(tensor.dtype == th.float64 for tensor in (*memory.initial_state(2), *double_state))
    th.testing.assert_close(single.double(), double, **ROUNDING)
    for got, expected in zip(single_state, double_state, strict=True):
        th.testing.assert_close(got.double(), expected, **ROUNDING)


@pytest.mark.parametrize("n_steps", [1, T])
def test_a_batch_may_be_empty(memory: BaseMemory, n_steps: int) -> None:
    features, starts = (tensor[:0, :n_steps] for tensor in tape(memory))
    state = memory.initial_state(0)
    latents, last = memory(features, state, starts)
    assert latents.shape == (0, n_steps, memory.latent_dim)
    assert [tensor.shape for tensor in last] == [tensor.shape for tensor in state]
    assert memory.unroll(features, state, starts).shape == latents.shape
    assert [tensor.shape for tensor in memory.advance(features, state, starts)] == [tensor.shape for tensor in state]


@pytest.mark.parametrize("starts", ["random", "short"])
def test_how_tensors_lie_in_storage_does_not_matter(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    state = warm_state(memory)

    def scattered(tensor: th.Tensor) -> th.Tensor:
        """:return: the same numbers, time before batch and with gaps between them"""
        return th.stack([tensor, tensor], dim=-1).transpose(0, 1).contiguous().transpose(0, 1)[..., 0]

    latents, last = memory(features, state, episode_starts)
    found, found_last = memory(scattered(features), tuple(map(scattered, state)), scattered(episode_starts))
    for got, expected in zip((found, *found_last), (latents, *last), strict=True):
        th.testing.assert_close(got, expected, **TOLERANCE)


@pytest.mark.parametrize("starts", ["random", "short"])
def test_under_autocast_to_bfloat16_it_is_about_the_same(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    features.requires_grad_()
    state = warm_state(memory)
    expected = memory.unroll(features, state, episode_starts)
    with th.autocast("cpu", dtype=th.bfloat16):
        latents, last = memory(features, state, episode_starts)
        _, again = memory(features[:, :1], last, episode_starts[:, :1])  # what comes out can go in
        memory.unroll(features, state, episode_starts).float().sum().backward()
    assert all(tensor.isfinite().all() for tensor in again)
    assert (latents.float() - expected).square().mean() < 0.01 * expected.square().mean()


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru", "lru", "ffm", "dnc", "attentive_lstm"])
def test_gradients_flow_over_200_steps(name: str) -> None:
    th.manual_seed(0)
    memory = make(name).double()  # what gates of one half leave after 200 steps is below the least float32
    features = draw(memory, 200).double().requires_grad_()
    latents = memory.unroll(features, memory.initial_state(B), th.zeros(B, 200, dtype=th.bool))
    (gradient,) = th.autograd.grad(latents[:, -1].square().sum(), features)
    assert gradient.isfinite().all()
    assert (gradient.flatten(2).norm(dim=2) > 0).all()
    if name in SCANS:  # they begin with memories this long
        ratio = gradient[:, 0].norm() / gradient[:, -1].norm()
        assert ratio > 1e-4, f"{ratio:.1e}"


def test_the_toy_memory_sums_what_it_saw() -> None:
    features = th.tensor([[[1.0], [2.0], [4.0], [8.0]]])
    starts = th.tensor([[False, False, True, False]])
    latents, (state,) = SumMemory(1)(features, (th.tensor([[100.0]]),), starts)
    assert latents.flatten().tolist() == [101.0, 103.0, 4.0, 12.0] and state.item() == 12.0
