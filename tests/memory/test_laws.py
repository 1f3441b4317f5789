"""The laws of DESIGN.md, run against every memory (eval mode, float32, tolerance 1e-5)."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from torch.overrides import TorchFunctionMode

from sb3_attnmem.memory import MEMORIES, BaseMemory, MemoryState, MinGRUMemory, WindowMemory
from sb3_attnmem.memory.lstm import LSTMMemory
from tests.toys import SumMemory

B, T, D, P = 5, 12, 3, 4
TOLERANCE = dict(rtol=0, atol=1e-5)


def make(name: str, **options: Any) -> BaseMemory:
    memory_class: Any = MEMORIES[name]
    return memory_class((P, D) if memory_class.reads == "map" else D, **options)


MAKERS: dict[str, Callable[[], BaseMemory]] = {name: (lambda name=name: make(name)) for name in MEMORIES}
MAKERS |= {
    "lstm-2-layers": lambda: make("lstm", hidden_size=7, num_layers=2),
    "gru-2-layers": lambda: make("gru", hidden_size=7, num_layers=2),
    "lstm-norm": lambda: make("lstm", hidden_size=7, num_layers=2, layer_norm=True),
    "gru-residual": lambda: make("gru", hidden_size=7, num_layers=3, layer_norm=True, residual=True),
    "min_gru-2-layers": lambda: make("min_gru", hidden_size=7, num_layers=2, layer_norm=True, residual=True),
    "min_gru-no-convolution": lambda: make("min_gru", hidden_size=7, conv_size=1),
    "lru-2-layers": lambda: make("lru", hidden_size=7, num_layers=2, state_size=5),
    "lru-bare": lambda: make("lru", hidden_size=7, layer_norm=False, glu=False),
    "ffm-short": lambda: make("ffm", hidden_size=7, memory_size=5, context_size=3, horizon=8.0),
    # Longer than the tapes is the default; here a tape is several blocks, and not a whole number of them
    "window-5": lambda: make("window", hidden_size=8, window=6, num_layers=2, n_heads=2),
    "window-1-layer": lambda: make("window", hidden_size=8, window=2, num_layers=1, n_heads=2),
    "gtrxl-5": lambda: make("gtrxl", hidden_size=8, memory_length=5, num_layers=3, n_heads=2),
    "gtrxl-1": lambda: make("gtrxl", hidden_size=8, memory_length=1, num_layers=2, n_heads=2),
    "dnc-small": lambda: make("dnc", hidden_size=8, n_slots=3, slot_size=4, n_reads=1),
    "toy-sum": lambda: SumMemory(D),
}
#: memories that may loop over time
LOOPS = ("dnc", "attentive_lstm")
#: and those whose calls into torch may grow with the logarithm of time
SCANS = ("min_gru", "lru", "ffm")


@pytest.fixture(params=MAKERS, name="memory")
def _memory(request: pytest.FixtureRequest) -> BaseMemory:
    th.manual_seed(0)
    return MAKERS[request.param]().eval()


def draw(memory: BaseMemory, n_steps: int, generator: th.Generator | None = None) -> th.Tensor:
    """:return: features (B, n_steps, D), or (B, n_steps, P, D) for a memory that reads maps"""
    shape = (P, D) if memory.reads == "map" else (D,)
    return th.randn(B, n_steps, *shape, generator=generator)


def tape(memory: BaseMemory, starts: str = "random", seed: int = 1) -> tuple[th.Tensor, th.Tensor]:
    """
    :return: features (B, T, ...) and episode starts (B, T)
    """
    generator = th.Generator().manual_seed(seed)
    features = draw(memory, T, generator)
    if starts == "none":
        return features, th.zeros(B, T, dtype=th.bool)
    return features, th.rand(B, T, generator=generator) < 0.25


def warm_state(memory: BaseMemory) -> MemoryState:
    """:return: the state after some steps, different in each row"""
    features, starts = tape(memory, "none", seed=9)
    return tuple(tensor.detach() for tensor in memory.advance(features, memory.initial_state(B), starts))


def check_chunks(memory: BaseMemory, starts: str) -> None:
    features, episode_starts = tape(memory, starts)
    initial = warm_state(memory)
    whole, last = memory(features, initial, episode_starts)
    for sizes in ([1] * T, [5, 7], [1, 4, 4, 3]):
        state, parts = initial, []
        for x, s in zip(features.split(sizes, dim=1), episode_starts.split(sizes, dim=1), strict=True):
            latents, state = memory(x, state, s)
            parts.append(latents)
        th.testing.assert_close(th.cat(parts, dim=1), whole, **TOLERANCE)
        for got, expected in zip(state, last, strict=True):
            th.testing.assert_close(got, expected, **TOLERANCE)


@pytest.mark.parametrize("starts", ["none", "random"])
def test_law_1_any_split_into_chunks_equals_one_unroll(memory: BaseMemory, starts: str) -> None:
    check_chunks(memory, starts)


def check_reset(memory: BaseMemory, position: int) -> None:
    features, episode_starts = tape(memory, "none")
    episode_starts[:, position] = True
    clean, clean_state = memory(features, memory.initial_state(B), episode_starts)
    junk = tuple(th.empty_like(tensor).uniform_(-1e3, 1e3) for tensor in memory.initial_state(B))
    noisy_features = features.clone()
    noisy_features[:, :position] = 1e3
    dirty, dirty_state = memory(noisy_features, junk, episode_starts)
    th.testing.assert_close(dirty[:, position:], clean[:, position:], **TOLERANCE)
    for got, expected in zip(dirty_state, clean_state, strict=True):
        th.testing.assert_close(got, expected, **TOLERANCE)


@pytest.mark.parametrize("position", [0, 1, 6, T - 1])
def test_law_2_nothing_before_an_episode_start_reaches_it(memory: BaseMemory, position: int) -> None:
    check_reset(memory, position)


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


class CountCalls(TorchFunctionMode):
    """Counts calls from Python into torch: a Python loop over time shows as a count that grows with T."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += 1
        return func(*args, **(kwargs or {}))


def check_no_loop_over_time(memory: BaseMemory, method: str, starts: str, more: int = 0) -> None:
    """:param more: calls that may come with four times the steps"""

    def calls(n_steps: int) -> int:
        features = draw(memory, n_steps)
        episode_starts = th.zeros(B, n_steps, dtype=th.bool)
        if starts == "random":
            episode_starts[:-1, 2::5] = True  # and a row without any
        with CountCalls() as counter, th.no_grad():
            getattr(memory, method)(features, memory.initial_state(B), episode_starts)
        return counter.count

    assert calls(192) <= calls(768) <= calls(192) + more


@pytest.mark.parametrize("name", [name for name in MEMORIES if name not in LOOPS])
@pytest.mark.parametrize("method", ["forward", "unroll", "advance"])
@pytest.mark.parametrize("starts", ["none", "random"])
def test_law_7_no_python_loop_over_time(name: str, method: str, starts: str) -> None:
    # A scan makes one more round of calls for eight times the steps; a loop over 576 more steps would make 576 calls
    check_no_loop_over_time(make(name), method, starts, more=48 if name in SCANS else 0)


@pytest.mark.parametrize("starts", ["none", "random"])
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
    th.testing.assert_close(single.double(), double, **TOLERANCE)
    for got, expected in zip(single_state, double_state, strict=True):
        th.testing.assert_close(got.double(), expected, **TOLERANCE)


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


# The suite's own teeth


class DeafToInnerStarts(LSTMMemory):
    """Planted: resets only where a chunk begins."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        only_first = episode_starts.clone()
        only_first[:, 1:] = False
        return super().forward(features, state, only_first)


class LeakyFlush(LSTMMemory):
    """Planted: the flush keeps the cell."""

    def _flush_column(self, bias_ih: th.Tensor) -> th.Tensor:
        return super()._flush_column(bias_ih).view(4, -1).index_fill(0, th.tensor([1]), 0.0).view(-1, 1)


class PaddedLastState(LSTMMemory):
    """Planted: rows without inner starts take their last state after the kernel ran on into padding."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        return self._run_flushed(features, self.reset_where(episode_starts[:, 0], state), episode_starts)


class ResetsAfterItsStep(LSTMMemory):
    """Planted: the flag is taken for "the episode ended after this step"."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        return super().forward(features, state, episode_starts.roll(1, dims=1))


@pytest.mark.parametrize("planted", [DeafToInnerStarts, LeakyFlush, PaddedLastState, ResetsAfterItsStep])
def test_planted_mistakes_are_caught(planted: type[LSTMMemory]) -> None:
    th.manual_seed(0)
    memory = planted(D).eval()
    with pytest.raises(AssertionError):
        check_chunks(memory, "random")
        check_reset(memory, 6)


class ScanThroughStarts(MinGRUMemory):
    """Planted: the scan hears of episode starts at the first step only."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        first = th.arange(episode_starts.shape[1]) == 0
        return super().forward(features, state, episode_starts & first)


class EmptyCacheIsSeen(WindowMemory):
    """Planted: the zeros of a cache that is not full yet are attended to."""

    def initial_state(self, batch_size: int) -> MemoryState:
        cache, count = super().initial_state(batch_size)
        return cache, count + self.n_cached


class CacheOfAnotherEpisode(WindowMemory):
    """Planted: the count goes on over episode starts."""

    def _next_state(self, inputs: list[th.Tensor], state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        return super()._next_state(inputs, state, th.zeros_like(episode_starts))


@pytest.mark.parametrize("planted", [ScanThroughStarts, EmptyCacheIsSeen, CacheOfAnotherEpisode])
def test_planted_mistakes_in_other_memories_are_caught(planted: Any) -> None:
    th.manual_seed(0)
    with pytest.raises(AssertionError):
        test_law_6_one_tape_with_several_episodes_equals_the_episodes_apart(planted(D).eval())


class StepByStep(LSTMMemory):
    """Planted: a Python loop over time."""

    def _run(self, features: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        parts = []
        for step in features.split(1, dim=1):
            latents, state = super()._run(step, state)
            parts.append(latents)
        return th.cat(parts, dim=1), state


def test_a_planted_loop_over_time_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_no_loop_over_time(StepByStep(D), "unroll", "none")
