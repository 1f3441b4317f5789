"""The laws have teeth: memories with a planted mistake break them."""

import math
from typing import Any

import pytest
import torch as th

from sb3_attnmem.memory import GRUMemory, LSTMMemory, MemoryState, MinGRUMemory, WindowMemory
from tests.memory.laws import D, check_chunks, check_no_loop_over_time, check_reset, check_reset_from_what_is_not_finite
from tests.memory.test_laws import test_law_6_one_tape_with_several_episodes_equals_the_episodes_apart as check_law_6


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


class NothingFlushed(LSTMMemory):
    """Planted: the last state is taken without a flush step before the last start."""

    def _run_flushed(self, inputs: th.Tensor, flags: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        latents, _ = super()._run_flushed(inputs, flags, state)
        return latents, super()._run_flushed(inputs, th.zeros_like(flags), state)[1]


class ResetsAfterItsStep(LSTMMemory):
    """Planted: the flag is taken for "the episode ended after this step"."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        return super().forward(features, state, episode_starts.roll(1, dims=1))


@pytest.mark.parametrize("planted", [DeafToInnerStarts, LeakyFlush, NothingFlushed, ResetsAfterItsStep])
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


class ResetByMultiplication(MinGRUMemory):
    """Planted: the state is multiplied by zero where an episode starts."""

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        state = tuple(tensor * ~episode_starts[:, :1] for tensor in state)
        return MinGRUMemory.forward.__wrapped__(self, features, state, episode_starts)  # type: ignore[attr-defined]


class ForwardsOnly(LSTMMemory):
    """Planted: what is not finite is kept out of the latents, but not out of the gradients."""

    def _run_rows_apart(
        self, rows: th.Tensor, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents = []
        for t in range(features.shape[1]):
            out, state = self.forward(features[:, t : t + 1], state, episode_starts[:, t : t + 1])
            latents.append(out)
        return th.cat(latents, dim=1), state


@pytest.mark.parametrize(("planted", "position"), [(ResetByMultiplication, 0), (ForwardsOnly, 6)])
def test_resets_that_let_a_nan_through_are_caught(planted: Any, position: int) -> None:
    th.manual_seed(0)
    with pytest.raises(AssertionError):
        check_reset_from_what_is_not_finite(planted(D).eval(), position, math.nan, "state")


class LearnedBiasInTheFlush(GRUMemory):
    """Planted: flush steps read the bias of the norm instead of nothing."""

    def _run_flushed(self, inputs: th.Tensor, flags: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        assert self.norms is not None
        normed, norms = self.norms[0](inputs), self.norms
        self.norms = None
        try:
            return super()._run_flushed(normed, flags, state)
        finally:
            self.norms = norms


def test_a_flush_step_that_is_not_silent_is_caught() -> None:
    th.manual_seed(0)
    memory = LearnedBiasInTheFlush(D, layer_norm=True)
    with th.no_grad():
        memory.norms[0].bias += 1.0  # type: ignore[index,operator]
    with pytest.raises(AssertionError):
        check_chunks(memory, "random")


@pytest.mark.parametrize("planted", [ScanThroughStarts, EmptyCacheIsSeen, CacheOfAnotherEpisode])
def test_planted_mistakes_in_other_memories_are_caught(planted: Any) -> None:
    th.manual_seed(0)
    with pytest.raises(AssertionError):
        check_law_6(planted(D).eval())


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
