"""What window and gated transformer-XL share: each layer attends to exactly its own last M inputs."""

from collections.abc import Sequence

import torch as th
from torch import nn

from sb3_attnmem.attention import Band, KeyList, TransformerBlock, set_layout
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes
from sb3_attnmem.memory.steps import StepCode, steps_of


class BandedTransformer(BaseMemory):
    """
    Causal transformer blocks over the steps of an episode. Each layer attends to the present one and the last M of its
    own inputs, in acting and training alike: a banded mask while training, a cache of each layer's inputs while acting.
    Positions are distances; with a code, each step also says which step of its episode it is, so that a step can be
    found by when it was (reading back in reverse order). Cached latents carry no gradient.

    The layers ``blocks.<i>.attention`` record (B, heads, T, M + 1), from M steps ago to the present one.

    State: (cache, count). The cache (B, L, M, H) holds the last inputs of each of L layers, newest last, zeros where
    there was none; the count (B, 1) says how many there are.
    Reach: L * M steps for information, through the layers; for gradients as well, within the unroll.

    :param input_dim: D
    :param hidden_size: H
    :param blocks: the layers, first to last
    :param n_cached: M
    :param code: of the step within an episode, beside the features; None: positions are distances alone
    """

    state_names = ("cache", "count")

    def __init__(
        self,
        input_dim: int,
        hidden_size: int,
        blocks: Sequence[TransformerBlock],
        n_cached: int,
        code: StepCode | None = None,
    ) -> None:
        super().__init__(input_dim, latent_dim=hidden_size)
        self.n_cached = n_cached
        self.code = code
        width = self.input_dim if code is None else self.input_dim + code.width
        self.embed = nn.Identity() if width == hidden_size and code is None else nn.Linear(width, hidden_size)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(hidden_size)
        set_layout(self, KeyList("steps", tuple(str(age) for age in range(-n_cached, 1))))

    def initial_state(self, batch_size: int) -> MemoryState:
        like = self.norm.weight
        cache = like.new_zeros(batch_size, len(self.blocks), self.n_cached, self.latent_dim)
        return cache, like.new_zeros(batch_size, 1)

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        outputs, inputs = self._run(features, state, episode_starts, len(self.blocks))
        return self.norm(outputs), self._next_state(inputs, state, episode_starts)

    @separate_episodes
    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        return self.norm(self._run(features, state, episode_starts, len(self.blocks))[0])

    @separate_episodes
    def advance(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        # What goes in to the last layer is cached, what comes out of it is not
        outputs, inputs = self._run(features, state, episode_starts, len(self.blocks) - 1)
        return self._next_state([*inputs, outputs], state, episode_starts)

    def _run(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor, n_layers: int
    ) -> tuple[th.Tensor, list[th.Tensor]]:
        """:return: (B, T, H) out of the first ``n_layers`` layers, and what went in to each, (B, T, H)"""
        n_steps = episode_starts.shape[1]
        # Episodes are numbered within their row: 0 goes on from the cache, -1 is where the cache holds nothing
        empty = th.arange(self.n_cached, 0, -1, device=features.device) > state[1]  # (B, M)
        band = Band(-empty.long(), episode_starts.cumsum(dim=1))
        places = th.arange(self.n_cached + n_steps, device=features.device)
        if self.code is not None:
            features = th.cat([features, self.code(steps_of(state[1], episode_starts)).to(features.dtype)], dim=-1)
        latents, inputs = self.embed(features), []
        for i in range(n_layers):
            inputs.append(latents)
            context = th.cat([state[0][:, i].detach(), latents], dim=1)  # (B, M + T, H)
            latents = self.blocks[i](latents, context, band, places[self.n_cached :], places)
        return latents, inputs

    def _next_state(self, inputs: list[th.Tensor], state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        n_steps = episode_starts.shape[1]
        # Steps since the last episode start, that one included
        ages = th.arange(n_steps, 0, -1, device=episode_starts.device)
        since = th.where(episode_starts, ages, n_steps + self.n_cached).amin(dim=1, keepdim=True)
        count = th.where(episode_starts.any(dim=1, keepdim=True), since, state[1] + n_steps)
        if self.code is None:
            count = count.clamp(max=self.n_cached)
        newest = th.stack([layer[:, -self.n_cached :] for layer in inputs], dim=1).detach()  # (B, L, T or M, H)
        cache = th.cat([state[0][:, :, newest.shape[2] :], newest], dim=2)
        gone = th.arange(self.n_cached, 0, -1, device=count.device) > count  # (B, M)
        return cache.masked_fill(gone[:, None, :, None], 0.0), count.to(state[1].dtype)
