"""What the laws of every memory are checked with: the memories, tapes to run them on, and the checks."""

import copy
from collections.abc import Callable
from typing import Any

import torch as th
from torch.overrides import TorchFunctionMode

from sb3_attnmem.memory import MEMORIES, BaseMemory, MemoryState
from tests.toys import SumMemory

B, T, D, P = 5, 12, 3, 4
TOLERANCE = dict(rtol=0, atol=1e-5)
#: of float32 against other orders of the same sums, or float64: a layer norm of small numbers enlarges its rounding
ROUNDING = dict(rtol=0, atol=3e-5)


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
    "shm-2-layers": lambda: make("shm", hidden_size=7, num_layers=2, n_heads=2, key_size=5, value_size=3, n_rows=4),
    "shm-no-positions": lambda: make("shm", hidden_size=7, key_size=5, value_size=3, positions="none"),
    "deltanet-2-layers": lambda: make("deltanet", hidden_size=7, num_layers=2, n_heads=3, key_size=5, value_size=4),
    "deltanet-no-positions": lambda: make("deltanet", hidden_size=7, key_size=5, value_size=3, positions="none"),
    "shm-no-convolution": lambda: make("shm", hidden_size=7, num_layers=2, key_size=5, value_size=3, conv_size=1),
    "deltanet-no-convolution": lambda: make("deltanet", hidden_size=7, key_size=5, value_size=3, conv_size=1),
    # Longer than the tapes is the default; here a tape is several blocks, and not a whole number of them
    "window-5": lambda: make("window", hidden_size=8, window=6, num_layers=2, n_heads=2),
    "window-1-layer": lambda: make("window", hidden_size=8, window=2, num_layers=1, n_heads=2),
    "gtrxl-5": lambda: make("gtrxl", hidden_size=8, memory_length=5, num_layers=3, n_heads=2),
    "gtrxl-1": lambda: make("gtrxl", hidden_size=8, memory_length=1, num_layers=2, n_heads=2),
    "window-episode": lambda: make("window", hidden_size=8, window=4, n_heads=2, positions="episode"),
    "gtrxl-episode": lambda: make("gtrxl", hidden_size=8, memory_length=3, n_heads=2, positions="episode"),
    "dnc-small": lambda: make("dnc", hidden_size=8, n_slots=3, slot_size=4, n_reads=1),
    "toy-sum": lambda: SumMemory(D),
}
#: memories that may loop over time
LOOPS = ("dnc", "attentive_lstm")
#: and those whose calls into torch may grow with the logarithm of time
SCANS = ("min_gru", "lru", "ffm", "shm", "deltanet")


def draw(memory: BaseMemory, n_steps: int, generator: th.Generator | None = None) -> th.Tensor:
    """:return: features (B, n_steps, D), or (B, n_steps, P, D) for a memory that reads maps"""
    shape = (P, D) if memory.reads == "map" else (D,)
    return th.randn(B, n_steps, *shape, generator=generator)


def tape(memory: BaseMemory, starts: str = "random", seed: int = 1) -> tuple[th.Tensor, th.Tensor]:
    """
    :param starts: "none", "random" (an episode lasts 4 steps in the mean), or "short" (most last one or two)
    :return: features (B, T, ...) and episode starts (B, T)
    """
    generator = th.Generator().manual_seed(seed)
    features = draw(memory, T, generator)
    if starts == "none":
        return features, th.zeros(B, T, dtype=th.bool)
    if starts == "short":
        episode_starts = th.ones(B, T, dtype=th.bool)
        episode_starts[1, 1::2] = episode_starts[2, 5:] = episode_starts[3] = episode_starts[4, :5] = False
        return features, episode_starts
    return features, th.rand(B, T, generator=generator) < 0.25


def warm_state(memory: BaseMemory) -> MemoryState:
    """:return: the state after some steps, different in each row"""
    features, starts = tape(memory, "none", seed=9)
    return tuple(tensor.detach() for tensor in memory.advance(features, memory.initial_state(B), starts))


def check_chunks(memory: BaseMemory, starts: str) -> None:
    # In float64 nothing but a mistake differs
    for dtype, tolerance in ((th.float64, dict(rtol=0, atol=1e-9)), (th.float32, ROUNDING)):
        typed, (features, episode_starts) = copy.deepcopy(memory).to(dtype), tape(memory, starts)
        features, initial = features.to(dtype), tuple(tensor.to(dtype) for tensor in warm_state(memory))
        whole, last = typed(features, initial, episode_starts)
        for sizes in ([1] * T, [5, 7], [1, 4, 4, 3]):
            state, parts = initial, []
            for x, s in zip(features.split(sizes, dim=1), episode_starts.split(sizes, dim=1), strict=True):
                latents, state = typed(x, state, s)
                parts.append(latents)
            for got, expected in zip([th.cat(parts, dim=1), *state], [whole, *last], strict=True):
                th.testing.assert_close(got, expected, **tolerance)


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


def check_reset_from_what_is_not_finite(memory: BaseMemory, position: int, value: float, where: str) -> None:
    """
    Rows 1 to 3 hold a number that is not finite before an episode starts in rows 1 to 4. What comes after it, in all
    rows, is as if it had not been there: latents, state, and the gradients of a loss on these latents.

    :param position: of the start
    :param value: NaN or infinity
    :param where: "state", or "features" (those of the step before the start)
    """
    features, episode_starts = tape(memory, "none")
    episode_starts[1:, position] = True
    state = tuple(tensor.double() for tensor in warm_state(memory))
    memory, features = copy.deepcopy(memory).double(), features.double()  # gradients that cancel say nothing in float32
    spoilt, spoilt_state = features.clone(), tuple(tensor.clone() for tensor in state)
    for tensor in spoilt_state if where == "state" else [spoilt[:, position - 1]]:
        tensor[1:4] = value
    counts = th.ones(B, T, dtype=th.bool)
    counts[1:4, :position] = False
    found = [_run(memory, *given, episode_starts, counts) for given in ((features, state), (spoilt, spoilt_state))]
    for got, expected in zip(found[1], found[0], strict=True):
        th.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)


def _run(
    memory: BaseMemory, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor, counts: th.Tensor
) -> list[th.Tensor]:
    """:return: the latents of the steps that count, by either way; the last state by either way; all gradients"""
    memory.zero_grad()
    features = features.clone().requires_grad_()
    latents, last = memory(features, state, episode_starts)
    unrolled = memory.unroll(features, state, episode_starts)
    advanced = memory.advance(features, state, episode_starts)
    weights = th.randn(latents.shape, generator=th.Generator().manual_seed(3))
    ((latents + unrolled) * weights)[counts].sum().backward()
    assert features.grad is not None
    gradients = [weight.grad.clone() for weight in memory.parameters() if weight.grad is not None]
    return [latents[counts], unrolled[counts], *last, *advanced, features.grad[counts], *gradients]


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
        if starts != "none":
            episode_starts[:-1, 2 :: 5 if starts == "random" else 1] = True  # and a row without any
        with CountCalls() as counter, th.no_grad():
            getattr(memory, method)(features, memory.initial_state(B), episode_starts)
        return counter.count

    assert calls(192) <= calls(768) <= calls(192) + more
