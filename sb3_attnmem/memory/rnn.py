"""What LSTM and GRU share: PyTorch's fused kernels over time, with a reset of the state at each episode start."""

from abc import abstractmethod
from typing import ClassVar

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_flag, check_integer, check_number
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes, starts_inside
from sb3_attnmem.memory.episodes import Episodes, length_of_short_episodes
from sb3_attnmem.memory.stack import input_norms, spread_steps

#: Shuts a sigmoid gate exactly, in float32 and bfloat16, whatever finite value it is added to
SHUT = -1e8


class RNNMemory(BaseMemory):
    """
    A stacked ``nn.LSTM`` or ``nn.GRU`` over tapes that hold several episodes, in fused kernel calls.

    The kernels have no resets. So a *flush step* is inserted before each episode start inside a tape, with a flag as
    one more input whose weights shut the gates: the state after it is exactly zero, and so is every gradient across it.
    Episodes of one or two steps are run in rows of their own instead where these save enough steps
    (``memory/episodes.py``; docs/performance.md has what was measured).

    State: one (``nn.GRU``: h) or two (``nn.LSTM``: h, c) tensors of shape (B, num_layers, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the state and of the latents
    :param num_layers: stacked layers
    :param layer_norm: whether each layer normalises its inputs
    :param residual: whether each layer but the first adds its inputs to its latents
    :param horizon: units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic scale
        (Tallec & Ollivier, 2018, https://arxiv.org/abs/1804.11188); None: all with about 1, as in ``nn.LSTM``
    :param horizon_share: the share of the units that do; the others begin as in ``nn.LSTM``. With all of them, what was
        seen long ago is in the way of tasks that need none of it
    :raises ValueError: when a size is not a positive integer, a flag is not True or False, or ``horizon`` is below 1
    """

    n_state_tensors: int
    #: gate -> 1 where it keeps the state when open, -1 where it then overwrites it
    spread_gates: ClassVar[dict[int, int]]

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        layer_norm: bool = False,
        residual: bool = False,
        horizon: float | None = 64.0,
        horizon_share: float = 0.25,
    ) -> None:
        super().__init__(input_dim, latent_dim=check_integer("hidden_size", hidden_size))
        self.hidden_size = self.latent_dim
        self.num_layers = check_integer("num_layers", num_layers)
        self.residual = check_flag("residual", residual)
        layer_norm = check_flag("layer_norm", layer_norm)
        horizon_share = check_number("horizon_share", horizon_share, least=0, most=1)
        self.rnn = self._make_rnn()
        if horizon is not None:
            self._spread(horizon, horizon_share)
        self.norms = input_norms(self.input_dim, self.hidden_size, self.num_layers) if layer_norm else None

    @abstractmethod
    def _make_rnn(self) -> nn.LSTM | nn.GRU:
        """:return: the batch-first kernel"""

    @abstractmethod
    def _flush_column(self, bias_ih: th.Tensor) -> th.Tensor:
        """
        :param bias_ih: (gates * H,), the input bias of a layer
        :return: (gates * H, 1), the weights of the flush flag, under which the next state is zero
        """

    @abstractmethod
    def _run_layer(
        self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]
    ) -> tuple[th.Tensor, MemoryState]:
        """
        :param inputs: (B, T, width)
        :param state: tensors (1, B, H)
        :param weights: input and hidden weights, input and hidden biases
        :return: (B, T, H) and the last state
        """

    @abstractmethod
    def _step_layer(self, inputs: th.Tensor, state: MemoryState, weights: tuple[th.Tensor, ...]) -> MemoryState:
        """
        :param inputs: (B, width), one step
        :param state: tensors (B, H)
        :param weights: input and hidden weights, input and hidden biases
        :return: the next state, h first
        """

    def _spread(self, horizon: float, share: float) -> None:
        """Let the last units, a share of them, begin with memories of 1 to ``horizon`` steps."""
        n_units = round(share * self.hidden_size)
        steps = spread_steps(n_units, horizon)
        with th.no_grad():
            for _, _, bias_ih, bias_hh in self.rnn.all_weights:
                for gate, sign in self.spread_gates.items():
                    end = (gate + 1) * self.hidden_size
                    rows = slice(end - n_units, end)
                    bias_ih[rows], bias_hh[rows] = 0.0, sign * steps.log()

    def initial_state(self, batch_size: int) -> MemoryState:
        zeros = self.rnn.all_weights[0][1].new_zeros(batch_size, self.num_layers, self.hidden_size)
        return (zeros,) * self.n_state_tensors

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        if features.shape[1] == 1:
            return self._step(features, state)
        if not starts_inside(episode_starts):
            return self._run(features, state)
        # Two kernel calls, since each is laid out for what it gives; training asks for one or the other
        return self.unroll(features, state, episode_starts), self.advance(features, state, episode_starts)

    @separate_episodes
    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        if not starts_inside(episode_starts):
            return self._run(features, state)[0]
        longest = length_of_short_episodes(episode_starts)
        if longest:
            return self._unroll_in_two(features, state, Episodes.of(episode_starts), longest)
        return self._unroll_together(features, state, episode_starts)

    @separate_episodes
    def advance(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        if not starts_inside(episode_starts):
            return self.forward(features, state, episode_starts)[1]
        # Nothing before the last start of a row matters: those steps become its flush steps
        steps = th.arange(episode_starts.shape[1], device=features.device)
        last_start = (steps * episode_starts).amax(dim=1, keepdim=True)  # (B, 1)
        begin = max(int(last_start.min()) - 1, 0)
        flags = (steps < last_start)[:, begin:].unsqueeze(-1)
        return self._run_flushed(features[:, begin:].masked_fill(flags, 0.0), flags.to(features.dtype), state)[1]

    def _step(self, features: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        """One step, as the agent acts: a cell has half the fixed cost of the kernel over time."""
        latents = features.squeeze(1)
        last: list[MemoryState] = []
        for layer, weights in enumerate(self.rnn.all_weights):
            inputs = self.layer_inputs(layer, latents)
            last.append(self._step_layer(inputs, tuple(tensor[:, layer] for tensor in state), tuple(weights)))
            latents = self.layer_latents(layer, latents, last[-1][0])
        if len(last) == 1:
            return latents.unsqueeze(1), tuple(tensor.unsqueeze(1) for tensor in last[0])
        return latents.unsqueeze(1), tuple(th.stack(tensors, dim=1) for tensors in zip(*last, strict=True))

    def layer_inputs(self, layer: int, inputs: th.Tensor) -> th.Tensor:
        """
        :param layer: its number, from 0 on
        :param inputs: (..., width), what the layer below gave
        :return: the same shape, what the layer's kernel reads (normalised, where there is layer norm)
        """
        return inputs if self.norms is None else self.norms[layer](inputs)

    def layer_latents(self, layer: int, inputs: th.Tensor, outputs: th.Tensor) -> th.Tensor:
        """
        :param layer: its number, from 0 on
        :param inputs: (..., width), what the layer below gave
        :param outputs: (..., H), what the layer's kernel gave
        :return: (..., H), what the next layer is given (with the inputs added, where there is a residual connection)
        """
        return inputs + outputs if self.residual and layer > 0 else outputs

    def _run(self, features: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        """:return: latents and last state of tapes without inner episode starts"""
        # (B, layers, H) <-> (layers, B, H)
        initial = tuple(tensor.transpose(0, 1).contiguous() for tensor in state)
        if self.norms is not None or self.residual:
            return self._run_layers(features, initial)
        latents, last = self.rnn(features, initial if len(initial) > 1 else initial[0])
        last = last if isinstance(last, tuple) else (last,)
        return latents, tuple(tensor.transpose(0, 1) for tensor in last)

    def _run_layers(self, latents: th.Tensor, initial: MemoryState) -> tuple[th.Tensor, MemoryState]:
        """As :meth:`_run`, one kernel call a layer; the initial state is (layers, B, H)."""
        last: list[MemoryState] = []
        for layer, weights in enumerate(self.rnn.all_weights):
            state = tuple(tensor[layer : layer + 1] for tensor in initial)
            outputs, last_of_layer = self._run_layer(self.layer_inputs(layer, latents), state, tuple(weights))
            latents = self.layer_latents(layer, latents, outputs)
            last.append(last_of_layer)
        return latents, tuple(th.cat(tensors).transpose(0, 1) for tensors in zip(*last, strict=True))

    def _unroll_together(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        """:return: latents (B, T, H): of all rows in one call, with a flush step before each inner episode start"""
        n_rows, n_steps, width = features.shape
        inner = episode_starts.clone()
        inner[:, 0] = False
        before = inner.cumsum(dim=1)  # (B, T): inner starts up to each step
        length = n_steps + int(before[:, -1].max())
        rows = th.arange(n_rows, device=features.device).unsqueeze(1)
        index = (th.arange(n_steps, device=features.device) + before + length * rows).flatten()
        flags = features.new_ones(n_rows * length, 1).index_fill_(0, index, 0.0).view(n_rows, length, 1)
        inputs = features.new_zeros(n_rows * length, width).index_copy(0, index, features.flatten(0, 1))
        latents, _ = self._run_flushed(inputs.view(n_rows, length, width), flags, state)
        return latents.flatten(0, 1)[index].view(n_rows, n_steps, -1)

    def _unroll_in_two(self, features: th.Tensor, state: MemoryState, episodes: Episodes, longest: int) -> th.Tensor:
        """
        :param longest: steps of an episode that is run in a row of its own; the others stay in their tapes
        :return: latents (B, T, H)
        """
        n_rows, n_steps, width = features.shape
        flat = features.flatten(0, 1)
        is_short = episodes.length <= longest  # (E,)
        short = is_short[episodes.of_step]  # (B * T,)
        # The short episodes, a row each; the first of a tape goes on from the tape's state
        index = (is_short.cumsum(dim=0) - 1)[episodes.of_step[short]] * longest + episodes.age[short]
        n_short, first = int(is_short.sum()), episodes.of_step[::n_steps]
        inputs = flat.new_zeros(n_short * longest, width).index_copy(0, index, flat[short])
        initial = tuple(
            tensor.new_zeros(len(is_short), *tensor.shape[1:]).index_copy(0, first, tensor)[is_short]
            for tensor in state
        )
        latents = [self._run(inputs.view(n_short, longest, width), initial)[0].flatten(0, 1)[index]]
        # The others, moved together
        kept = ~short.view(n_rows, n_steps)
        rows = kept.any(dim=1)
        if rows.any():
            state = tuple(tensor[rows] for tensor in self.reset_where(short[::n_steps], state))
            column = kept[rows].cumsum(dim=1) - 1
            length = int(column.max()) + 1
            row = th.arange(len(column), device=features.device).unsqueeze(1)
            index = (column + length * row)[kept[rows]]
            inputs = flat.new_zeros(len(column) * length, width).index_copy(0, index, flat[~short])
            starts = th.zeros(len(inputs), dtype=th.bool, device=features.device)
            starts = starts.index_copy(0, index, episodes.begins[kept]).view(-1, length)
            latents.append(self._unroll_together(inputs.view(-1, length, width), state, starts).flatten(0, 1)[index])
        order = th.cat([short.nonzero(), (~short).nonzero()]).squeeze(1)
        return th.cat(latents)[order.argsort()].view(n_rows, n_steps, -1)

    def _run_flushed(self, inputs: th.Tensor, flags: th.Tensor, state: MemoryState) -> tuple[th.Tensor, MemoryState]:
        """
        :param inputs: (B, T, D), zeros in flush steps
        :param flags: (B, T, 1), 1 in flush steps, else 0
        :param state: before the first step
        :return: latents and last state, which are zero in flush steps
        """
        latents = inputs
        last: list[MemoryState] = []
        for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(self.rnn.all_weights):
            weights = (th.cat([weight_ih, self._flush_column(bias_ih)], dim=1), weight_hh, bias_ih, bias_hh)
            initial = tuple(tensor[:, layer].unsqueeze(0).contiguous() for tensor in state)
            inputs = self.layer_inputs(layer, latents)
            if self.norms is not None:  # whose biases, once learned, make something of the nothing in a flush step
                inputs = inputs.masked_fill(flags.bool(), 0.0)
            outputs, last_of_layer = self._run_layer(th.cat([inputs, flags], dim=2), initial, weights)
            latents = self.layer_latents(layer, latents, outputs)
            last.append(last_of_layer)
        return latents, tuple(th.cat(tensors).transpose(0, 1) for tensors in zip(*last, strict=True))
