"""What stable Hadamard memory and gated DeltaNet share: matrices that are written at one place and read at another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, cast

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes
from sb3_attnmem.memory.convolution import convolve_steps
from sb3_attnmem.memory.steps import StepCode, steps_of

#: What the code of the step weighs at the start in the places of half of the heads (none of one), which then differ
#: from step to step; the others choose theirs by contents
BY_STEP = 4.0
#: Standard deviation of the taps of the convolution at the start, beside 1 for the present step
TAPS_SPREAD = 0.25


class MatrixSizes(NamedTuple):
    """
    :param hidden_size: H, of a layer's inputs and outputs
    :param code_size: numbers in the code of a step; 0: it has none
    :param n_heads: n
    :param key_size: K
    :param value_size: V
    :param conv_size: steps that each channel of the inputs is convolved over; 1 leaves the convolution out
    """

    hidden_size: int
    code_size: int
    n_heads: int
    key_size: int
    value_size: int
    conv_size: int


class MatrixLayer(nn.Module, ABC):
    """
    One layer of a :class:`MatrixMemory`. Keys, queries and values read the layer's inputs, convolved over the last few
    steps; keys and queries the code of the step too.

    Letters: n heads, K numbers in a key, V numbers in a value.

    :param sizes: of inputs, outputs and all between them
    """

    def __init__(self, sizes: MatrixSizes) -> None:
        super().__init__()
        hidden_size, code_size, n_heads, key_size, value_size, conv_size = sizes
        self.state_shape = (n_heads, key_size, value_size)
        #: inputs before the present step that are convolved with it
        self.n_recent = conv_size - 1
        self.taps = None
        if conv_size > 1:
            self.taps = nn.Parameter(TAPS_SPREAD * th.randn(conv_size, hidden_size))
            with th.no_grad():
                self.taps[0] += 1.0
        self.norm = nn.LayerNorm(hidden_size)
        self.to_places = nn.Linear(hidden_size + code_size, 2 * n_heads * key_size, bias=False)  # queries and keys
        with th.no_grad():
            by_head = self.to_places.weight.view(2, n_heads, key_size, -1)
            by_head[:, : n_heads // 2, :, hidden_size:] *= BY_STEP
        self.to_contents = nn.Linear(hidden_size, n_heads * value_size, bias=False)
        self.found_norm = nn.LayerNorm(value_size)
        self.to_gate = nn.Linear(hidden_size, n_heads * value_size)
        self.to_output = nn.Linear(n_heads * value_size, hidden_size)

    @abstractmethod
    def write_and_read(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        state: th.Tensor,
        episode_starts: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Write each step, and read right after it.

        :param normed: (B, T, H), the layer's inputs, normalised
        :param heads: queries and keys (B, n, T, K), each of length 1, and values (B, n, T, V)
        :param steps: (B, T), which step of its episode each is
        :param state: (B, n, K, V), reset already in the rows whose first step starts an episode
        :param episode_starts: (B, T) bool
        :return: what was found (B, n, T, V), and the state after the last step
        """

    @abstractmethod
    def strengths(self, normed: th.Tensor, steps: th.Tensor) -> dict[str, th.Tensor]:
        """
        How much is written and kept.

        :param normed: (B, T, H)
        :param steps: (B, T)
        :return: name -> (B, T, units), in [0, 1]
        """

    @abstractmethod
    def shares(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        episode_starts: th.Tensor,
    ) -> th.Tensor:
        """
        How much of what is read was written when. It may take time and memory of T² steps.

        :param normed: as in :meth:`write_and_read`, as all others
        :return: (B, n, T, T), row t column s: size of what step s left of what step t reads; not negative
        """

    def forward(
        self,
        inputs: th.Tensor,
        code: th.Tensor,
        steps: th.Tensor,
        state: th.Tensor,
        recent: th.Tensor,
        episode_starts: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param inputs: (B, T, H)
        :param code: (B, T, code_size)
        :param steps: (B, T)
        :param state: (B, n, K, V)
        :param recent: (B, conv_size - 1, H), what was convolved last before
        :param episode_starts: (B, T) bool
        :return: (B, T, H), and ``state`` and ``recent`` after the last step
        """
        normed = self.norm(inputs)
        heads, recent = self.heads(normed, code, recent, episode_starts)
        found, state = self.write_and_read(normed, heads, steps, state, episode_starts)
        found = self.found_norm(found).transpose(1, 2).flatten(2)  # (B, n, T, V) -> (B, T, n V)
        return inputs + self.to_output(found * F.silu(self.to_gate(normed))), state, recent

    def heads(
        self, normed: th.Tensor, code: th.Tensor, recent: th.Tensor, episode_starts: th.Tensor
    ) -> tuple[tuple[th.Tensor, th.Tensor, th.Tensor], th.Tensor]:
        """
        :param normed: (B, T, H)
        :param code: (B, T, code_size)
        :param recent: (B, conv_size - 1, H)
        :param episode_starts: (B, T) bool
        :return: queries and keys (B, n, T, K), each of length 1, and values (B, n, T, V); and ``recent`` after the last
            step
        """
        n_heads = self.state_shape[0]
        if self.taps is not None:
            normed, recent = convolve_steps(normed, recent, episode_starts, self.taps)
        places = F.silu(self.to_places(th.cat([normed, code.to(normed.dtype)], dim=-1)))
        queries, keys = (
            F.normalize(part.unflatten(-1, (n_heads, -1)), dim=-1).transpose(1, 2) for part in places.chunk(2, dim=-1)
        )
        contents = self.to_contents(normed).unflatten(-1, (n_heads, -1)).transpose(1, 2)
        return (queries, keys, contents), recent


class MatrixMemory(BaseMemory):
    """
    Residual layers, each with a matrix a head that is written and read at places which the inputs and the step of the
    episode choose.

    State: (matrices, steps, recent): (B, layers, n, K, V); (B, 1), the steps of the episode so far; and
    (B, layers, conv_size - 1, H), the last inputs of the convolutions, oldest first, left out where there are none.
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the latents
    :param layers: first to last
    :param code: of the step within an episode; None: keys and queries do not know it
    """

    state_names: ClassVar[tuple[str, ...]] = ("matrices", "steps")

    def __init__(self, input_dim: int, hidden_size: int, layers: Sequence[MatrixLayer], code: StepCode | None) -> None:
        super().__init__(input_dim, latent_dim=hidden_size)
        if layers[0].n_recent:
            self.state_names = ("matrices", "steps", "recent")  # type: ignore[misc]
        self.embed = nn.Identity() if self.input_dim == hidden_size else nn.Linear(self.input_dim, hidden_size)
        self.code = code
        self.layers = nn.ModuleList(layers)

    def initial_state(self, batch_size: int) -> MemoryState:
        like = next(self.parameters())
        layer, n_layers = cast(MatrixLayer, self.layers[0]), len(self.layers)
        state = like.new_zeros(batch_size, n_layers, *layer.state_shape), like.new_zeros(batch_size, 1)
        if not layer.n_recent:
            return state
        return *state, like.new_zeros(batch_size, n_layers, layer.n_recent, self.latent_dim)

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        matrices, count, recent = self._parts(state)
        steps = steps_of(count, episode_starts)
        code, latents, after = self._code(steps), self.embed(features), []
        for layer, matrix, inputs in zip(self.layers, matrices.unbind(1), recent.unbind(1), strict=True):
            latents, *last = layer(latents, code, steps, matrix, inputs, episode_starts)
            after.append(last)
        matrices, recent = (th.stack(tensors, dim=1) for tensors in zip(*after, strict=True))
        count = steps[:, -1:] + 1.0
        return latents, (matrices, count, recent)[: len(state)]

    def strengths(self, features: th.Tensor, episode_starts: th.Tensor) -> dict[str, th.Tensor]:
        """
        How much each layer writes and keeps at each step.

        :param features: (B, T, D), from the first step of an episode on
        :param episode_starts: (B, T) bool
        :return: name -> (B, T, units), in [0, 1]
        """
        found = {}
        for i, (layer, normed, _, steps) in enumerate(self._layers_at_work(features, episode_starts)):
            prefix = f"layer {i + 1} " if len(self.layers) > 1 else ""
            found.update({prefix + name: values for name, values in layer.strengths(normed, steps).items()})
        return found

    def shares(self, features: th.Tensor, episode_starts: th.Tensor) -> list[th.Tensor]:
        """
        How much of what each layer reads was written when.

        :param features: (B, T, D), from the first step of an episode on
        :param episode_starts: (B, T) bool
        :return: a layer -> (B, n, T, T), row t column s: share of step s in what step t reads; a row sums to 1, or is 0
            where nothing was written
        """
        found = []
        for layer, normed, heads, steps in self._layers_at_work(features, episode_starts):
            sizes = layer.shares(normed, heads, steps, episode_starts)
            found.append(sizes / sizes.sum(dim=-1, keepdim=True).clamp(min=th.finfo(sizes.dtype).tiny))
        return found

    def _layers_at_work(
        self, features: th.Tensor, episode_starts: th.Tensor
    ) -> list[tuple[MatrixLayer, th.Tensor, tuple[th.Tensor, th.Tensor, th.Tensor], th.Tensor]]:
        """:return: a layer -> itself, its normalised inputs, its heads, and the steps"""
        matrices, count, recent = self._parts(self.initial_state(features.shape[0]))
        steps = steps_of(count, episode_starts)
        code, latents, found = self._code(steps), self.embed(features), []
        states = zip(matrices.unbind(1), recent.unbind(1), strict=True)
        for layer, (matrix, inputs) in zip(cast(list[MatrixLayer], list(self.layers)), states, strict=True):
            normed = layer.norm(latents)
            heads, _ = layer.heads(normed, code, inputs, episode_starts)
            found.append((layer, normed, heads, steps))
            latents, _, _ = layer(latents, code, steps, matrix, inputs, episode_starts)
        return found

    def _parts(self, state: MemoryState) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """:return: matrices, count, and what was convolved last (B, layers, conv_size - 1, H)"""
        matrices, count, *more = state
        (recent,) = more or (matrices.new_empty(*matrices.shape[:2], 0, self.latent_dim),)
        return matrices, count, recent

    def _code(self, steps: th.Tensor) -> th.Tensor:
        """:return: (B, T, code_size)"""
        return steps.new_empty(*steps.shape, 0) if self.code is None else self.code(steps)
