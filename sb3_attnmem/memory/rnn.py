"""What LSTM and GRU share: a fused kernel over time that knows no resets, given them."""

from abc import abstractmethod
from typing import ClassVar

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_flag, check_integer
from sb3_attnmem.memory.base import BaseMemory, MemoryState, join_rows, separate_episodes, starts_inside
from sb3_attnmem.memory.stack import input_norms, spread_steps

#: Shuts a sigmoid gate exactly, in float32 and bfloat16, whatever finite value it is added to
SHUT = -1e8


class RNNMemory(BaseMemory):
    """
    A stacked ``nn.LSTM`` or ``nn.GRU`` over tapes that hold several episodes, in fused kernel calls.

    The kernel knows no resets. So a *flush step* is slipped in before each episode start inside a tape, with a flag as
    one more input whose weights shut the gates: the state after it is exactly zero, and so is every gradient across it.
    (Cutting the tape into one padded row an episode cost twice as much where episodes are short: docs/performance.md.)

    State: one (``nn.GRU``: h) or two (``nn.LSTM``: h, c) tensors of shape (B, num_layers, H).
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the state and of the latents
    :param num_layers: stacked layers
    :param layer_norm: whether each layer normalises its inputs
    :param residual: whether each layer but the first adds its inputs to its latents
    :param horizon: if given, the units begin with memories of 1 to ``horizon`` steps, spread evenly on a logarithmic
        scale (Tallec & Ollivier, 2018, https://arxiv.org/abs/1804.11188); else all with about 1, as in ``nn.LSTM``
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
        horizon: float | None = None,
    ) -> None:
        super().__init__(input_dim, latent_dim=check_integer("hidden_size", hidden_size))
        self.hidden_size = self.latent_dim
        self.num_layers = check_integer("num_layers", num_layers)
        self.residual = check_flag("residual", residual)
        layer_norm = check_flag("layer_norm", layer_norm)
        self.rnn = self._make_rnn()
        if horizon is not None:
            self._spread(horizon)
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
        :param weights: as in :meth:`_run_layer`
        :return: the next state, h first
        """

    def _spread(self, horizon: float) -> None:
        """Let the units begin with memories of 1 to ``horizon`` steps."""
        steps = spread_steps(self.hidden_size, horizon)
        with th.no_grad():
            for _, _, bias_ih, bias_hh in self.rnn.all_weights:
                for gate, sign in self.spread_gates.items():
                    rows = slice(gate * self.hidden_size, (gate + 1) * self.hidden_size)
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
        # Rows with inner starts can be made equally long, so their last state is exact; those without stay as they are
        with_starts = episode_starts[:, 1:].any(dim=1)
        if with_starts.all():
            return self._run_flushed(features, state, episode_starts)
        rows = th.cat([with_starts.nonzero(), (~with_starts).nonzero()]).squeeze(1)
        n = int(with_starts.sum())
        parts = [
            self._run_flushed(features[rows[:n]], tuple(x[rows[:n]] for x in state), episode_starts[rows[:n]]),
            self._run(features[rows[n:]], tuple(x[rows[n:]] for x in state)),
        ]
        return join_rows(rows, parts)

    @separate_episodes
    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        if not starts_inside(episode_starts):
            return self._run(features, state)[0]
        # One call: the kernel runs on behind rows without inner starts, which spoils only a state that nobody reads
        return self._run_flushed(features, state, episode_starts)[0]

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

    def _run_flushed(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """:return: latents, and the last state of the rows with inner episode starts"""
        n_rows, n_steps, width = features.shape
        inner = episode_starts.clone()
        inner[:, 0] = False
        before = inner.cumsum(dim=1)  # (B, T): inner starts up to each step
        in_row = before[:, -1:]
        most = int(in_row.max())
        # A row with fewer starts than others flushes longer before its first, so that all rows end together
        position = th.arange(n_steps, device=features.device) + before + (before > 0) * (most - in_row)
        length = n_steps + most
        index = (position + length * th.arange(n_rows, device=features.device).unsqueeze(1)).flatten()
        flags = features.new_ones(n_rows * length, 1).index_fill_(0, index, 0.0).view(n_rows, length, 1)
        inputs = features.new_zeros(n_rows * length, width).index_copy(0, index, features.flatten(0, 1))
        latents = inputs.view(n_rows, length, width)
        last: list[MemoryState] = []
        for layer, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(self.rnn.all_weights):
            weights = (th.cat([weight_ih, self._flush_column(bias_ih)], dim=1), weight_hh, bias_ih, bias_hh)
            initial = tuple(tensor[:, layer].unsqueeze(0).contiguous() for tensor in state)
            inputs = self.layer_inputs(layer, latents)
            if self.norms is not None:  # whose biases, once learned, make something of the nothing in a flush step
                inputs = inputs.masked_fill(flags.bool(), 0.0)
            inputs = th.cat([inputs, flags], dim=2)
            outputs, last_of_layer = self._run_layer(inputs, initial, weights)
            latents = self.layer_latents(layer, latents, outputs)
            last.append(last_of_layer)
        return (
            latents.flatten(0, 1)[index].view(n_rows, n_steps, -1),
            tuple(th.cat(tensors).transpose(0, 1) for tensors in zip(*last, strict=True)),
        )
