"""Fast and forgetful memory."""

import math

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes
from sb3_attnmem.memory.scan import decay_with_starts, linear_scan_pairs
from sb3_attnmem.memory.stack import LONGEST


class FFMMemory(BaseMemory):
    """
    Fast and forgetful memory (Morad et al., 2023, https://arxiv.org/abs/2310.04128): each of M gated traces is summed
    over time under C clocks, each with a decay of its own for the trace and a rotation of its own for the clock:

        e = W_1 x ⊙ σ(W_2 x),  S_t = γ ⊙ S_{t−1} + e_t 1ᵀ,  γ_jk = exp(−a_j + i ω_k),
        y = LN(W_3 [Re S, Im S]) ⊙ σ(W_4 x) + W_5 x ⊙ (1 − σ(W_4 x))

    What is written does not depend on the state, so S is computed over time by a parallel scan (the paper's
    aggregation divides by powers of γ instead, which needs float64 and bounds the length of an episode).

    State: (S,), (B, M, C, 2), complex numbers as real pairs.
    Reach: about ``horizon`` steps for information (it is learned), the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the latents
    :param memory_size: M, traces
    :param context_size: C, clocks
    :param horizon: the traces begin with durations of 1 to ``horizon`` steps, after which 1 % is left, and the clocks
        with periods of 4 to ``horizon``, both spread evenly on a logarithmic scale
    :raises ValueError: when a size is not a positive integer, or ``horizon`` is not above 4
    """

    state_names = ("traces",)

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        memory_size: int = 32,
        context_size: int = 4,
        horizon: float = 1024.0,
    ) -> None:
        super().__init__(input_dim, latent_dim=check_integer("hidden_size", hidden_size))
        memory_size = check_integer("memory_size", memory_size)
        context_size = check_integer("context_size", context_size)
        horizon = check_number("horizon", horizon, above=4.0, most=LONGEST, hint="It is a number of steps.")
        self.state_shape = (memory_size, context_size, 2)
        durations = th.logspace(0.0, 1.0, memory_size, base=horizon)
        periods = 4.0 * th.logspace(0.0, 1.0, context_size, base=horizon / 4.0)
        self.log_decay = nn.Parameter((math.log(100.0) / durations).log())  # log a
        self.frequency = nn.Parameter(2 * math.pi / periods)  # ω
        self.to_trace = nn.Linear(self.input_dim, 2 * memory_size)  # W_1, W_2
        self.from_state = nn.Linear(math.prod(self.state_shape), self.latent_dim)  # W_3
        self.norm = nn.LayerNorm(self.latent_dim, elementwise_affine=False)
        self.to_output = nn.Linear(self.input_dim, 2 * self.latent_dim)  # W_4, W_5

    def initial_state(self, batch_size: int) -> MemoryState:
        return (self.frequency.new_zeros(batch_size, *self.state_shape),)

    def decay(self) -> th.Tensor:
        """:return: γ, (M, C, 2)"""
        size = (-self.log_decay.exp()).exp()  # (M,)
        return size[:, None, None] * th.stack([self.frequency.cos(), self.frequency.sin()], dim=-1)

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        traces, gate = self.to_trace(features).chunk(2, dim=-1)
        traces = traces * gate.sigmoid()  # (B, T, M)
        shape = (*traces.shape, *self.state_shape[1:])
        inputs = traces.new_zeros(shape)
        inputs[..., 0] = traces.unsqueeze(-1)  # real numbers, the same under every clock
        decay = decay_with_starts(self.decay().expand(shape), episode_starts)
        # (B, T, M, C, 2) -> (B, T, M * C, 2) and back
        states = linear_scan_pairs(decay.flatten(2, 3), inputs.flatten(2, 3), state[0].flatten(1, 2))
        gate, skip = self.to_output(features).chunk(2, dim=-1)
        # skip + σ(gate) * (found - skip)
        latents = th.lerp(skip, self.norm(self.from_state(states.flatten(2))), gate.sigmoid())
        return latents, (states[:, -1].unflatten(1, self.state_shape[:2]),)
