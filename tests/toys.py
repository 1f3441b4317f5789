"""Memories whose answers can be worked out by hand, and arguments that leave everything plain."""

import math
from typing import Any

import torch as th

from sb3_attnmem.memory import BaseMemory, MemoryState, separate_episodes

#: arguments under which nothing happens but what a test sees: no normalisation, and what depends on steps alone
PLAIN: dict[str, Any] = dict(
    learning_rate=5e-4,
    normalize_observations=False,
    normalize_returns=False,
    exploration_ladder=0.0,
    exploration_final_eps=0.05,
    target_update_unit="steps",
    watkins_tolerance=math.inf,
)


class SumMemory(BaseMemory):
    """
    Latents and state are the sum of all features since the episode began. The cheapest memory that remembers
    everything: what it holds tells exactly which steps reached it.

    :param input_dim: D = H
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim, latent_dim=input_dim)
        self.scale = th.nn.Parameter(th.ones(input_dim))

    def initial_state(self, batch_size: int) -> MemoryState:
        return (self.scale.new_zeros(batch_size, self.input_dim),)

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        episode = episode_starts.cumsum(dim=1)  # (B, T): 0 where the state still counts
        together = (episode.unsqueeze(1) == episode.unsqueeze(2)).tril()  # (B, T, T)
        scaled = features * self.scale
        sums = together.to(features.dtype) @ scaled
        sums = th.where((episode == 0).unsqueeze(-1), sums + state[0].unsqueeze(1), sums)
        return sums, (sums[:, -1],)
