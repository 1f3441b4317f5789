"""Differentiable neural computer."""

from typing import NamedTuple

import torch as th
from torch import nn

from sb3_attnmem.attention import AttentionLayer, KeyList
from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes

#: Keeps the cosine of nearly empty slots, and products of unused ones, from having huge gradients
SOFTENING = 1e-3
#: Slots whose usage differs by less are equally used
COARSE = 1e-4


class DNCState(NamedTuple):
    """
    :param h: (B, H), of the controller
    :param c: (B, H), of the controller
    :param memory: (B, N, W), the slots
    :param usage: (B, N), in [0, 1]
    :param links: (B, N, N), row i column j: how far slot i was written right after slot j
    :param precedence: (B, N), how far each slot was the last one written
    :param written: (B, N), the last write weights
    :param read: (B, R, N), the last read weights
    """

    h: th.Tensor
    c: th.Tensor
    memory: th.Tensor
    usage: th.Tensor
    links: th.Tensor
    precedence: th.Tensor
    written: th.Tensor
    read: th.Tensor


class DNCMemory(BaseMemory):
    """
    Differentiable neural computer (Graves et al., 2016, https://doi.org/10.1038/nature20101): an LSTM with N slots of
    W numbers beside it. It writes to one soft place, found by content or the least used, and reads from R, found by
    content or by the order in which they were written. It loops over time.

    Its layers ``reading`` and ``writing`` record (B, R, T, N) and (B, 1, T, N).

    State: eight tensors, see :class:`DNCState`.
    Reach: unlimited for information, the length of the unroll for gradients.

    :param input_dim: D
    :param hidden_size: H, the width of the controller and of the latents
    :param n_slots: N
    :param slot_size: W
    :param n_reads: R, read heads
    :raises ValueError: when a size is not a positive integer
    """

    state_names = DNCState._fields

    def __init__(
        self, input_dim: int, hidden_size: int = 128, n_slots: int = 32, slot_size: int = 16, n_reads: int = 2
    ) -> None:
        super().__init__(input_dim, latent_dim=check_integer("hidden_size", hidden_size))
        input_dim, hidden_size = self.input_dim, self.latent_dim
        self.n_slots = n_slots = check_integer("n_slots", n_slots)
        self.slot_size = slot_size = check_integer("slot_size", slot_size)
        self.n_reads = n_reads = check_integer("n_reads", n_reads)
        self.controller = nn.LSTMCell(input_dim + n_reads * slot_size, hidden_size)
        # Keys and vectors, then strengths, gates and modes
        self.interface_sizes = [n_reads * slot_size, *[slot_size] * 3, n_reads + 1, n_reads + 2, 3 * n_reads]
        self.to_interface = nn.Linear(hidden_size, sum(self.interface_sizes))
        self.to_latents = nn.Linear(hidden_size + n_reads * slot_size, hidden_size)
        self.reading, self.writing = AttentionLayer(), AttentionLayer()
        self.reading.layout = self.writing.layout = KeyList("slots", tuple(map(str, range(n_slots))))

    def initial_state(self, batch_size: int) -> MemoryState:
        n, hidden = self.n_slots, self.latent_dim
        shapes = DNCState((hidden,), (hidden,), (n, self.slot_size), (n,), (n, n), (n,), (n,), (self.n_reads, n))  # type: ignore[arg-type]
        return tuple(self.to_latents.bias.new_zeros(batch_size, *shape) for shape in shapes)

    @separate_episodes
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        resets = self.steps_with_starts(episode_starts)
        outputs, read, written = [], [], []
        for t, inputs in enumerate(features.unbind(dim=1)):
            if t > 0 and resets[t]:
                state = self.reset_where(episode_starts[:, t], state)
            output, now = self._step(inputs, DNCState(*state))
            outputs.append(output)
            read.append(now.read)
            written.append(now.written)
            state = tuple(now)
        if self.reading.recording:
            self.reading.record(th.stack(read, dim=2))
        if self.writing.recording:
            self.writing.record(th.stack(written, dim=1).unsqueeze(1))
        return self.to_latents(th.stack(outputs, dim=1)), state

    def _step(self, inputs: th.Tensor, old: DNCState) -> tuple[th.Tensor, DNCState]:
        """
        :param inputs: (B, D)
        :param old: the state before
        :return: (B, H + R * W), what the controller says and what was read, and the state after
        """
        h, c = self.controller(th.cat([inputs, (old.read @ old.memory).flatten(1)], dim=1), (old.h, old.c))
        read_keys, write_key, erase, write_vector, strengths, gates, modes = self.to_interface(h).split(
            self.interface_sizes, dim=1
        )
        read_keys = read_keys.unflatten(1, (self.n_reads, -1))  # (B, R, W)
        strengths = 1.0 + nn.functional.softplus(strengths).unsqueeze(-1)  # (B, R + 1, 1)
        gates = gates.sigmoid()
        free, allocate, write = gates[:, :-2].unsqueeze(-1), gates[:, -2:-1], gates[:, -1:]
        modes = modes.unflatten(1, (self.n_reads, 3)).softmax(dim=-1)  # (B, R, 3)

        # Write to where nothing is, or to what resembles the key
        retained = (1.0 - free * old.read).prod(dim=1)
        usage = (old.usage + old.written - old.usage * old.written) * retained
        by_content = by_similarity(old.memory, write_key.unsqueeze(1), strengths[:, -1:]).squeeze(1)
        free_slot, allocate = (
            tensor.to(by_content.dtype) for tensor in (allocation(usage), allocate)
        )  # autocast mixes
        written = write * th.lerp(by_content, free_slot, allocate)  # (B, N)
        place = written.unsqueeze(-1)
        memory = old.memory * (1.0 - place * erase.sigmoid().unsqueeze(1)) + place * write_vector.unsqueeze(1)

        # The order of writing: links before precedence, which is the slot written just before
        links = (1.0 - place - place.transpose(1, 2)) * old.links + place * old.precedence.unsqueeze(1)
        links = links.masked_fill(th.eye(self.n_slots, dtype=th.bool, device=links.device), 0.0)
        precedence = (1.0 - written.sum(dim=1, keepdim=True)) * old.precedence + written

        # Read what was written before the last place read, what resembles the key, or what was written after
        ways = [old.read @ links, by_similarity(memory, read_keys, strengths[:, :-1]), old.read @ links.transpose(1, 2)]
        read = (th.stack(ways, dim=-1) * modes.unsqueeze(2)).sum(dim=-1)  # (B, R, N)
        output = th.cat([h, (read @ memory).flatten(1)], dim=1)
        return output, DNCState(h, c, memory, usage, links, precedence, written, read)


def by_similarity(memory: th.Tensor, keys: th.Tensor, strengths: th.Tensor) -> th.Tensor:
    """
    :param memory: (B, N, W)
    :param keys: (B, K, W)
    :param strengths: (B, K, 1), at least 1
    :return: (B, K, N), softmax over the slots of strength * cosine
    """
    return (strengths * (_unit(keys) @ _unit(memory).transpose(1, 2))).softmax(dim=-1)


def _unit(vectors: th.Tensor) -> th.Tensor:
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + SOFTENING).rsqrt()


def allocation(usage: th.Tensor) -> th.Tensor:
    """
    :param usage: (B, N), in [0, 1]
    :return: (B, N): nearly one-hot at the least used slot, the first of equals, if that is free; sums to at most 1
    """
    # Slots that were treated alike differ by rounding errors, which change with the size of the batch. Coarse and
    # stable, the order does not: the first of (almost) equals is taken
    order = (usage.detach() / COARSE).round().sort(dim=1, stable=True).indices
    ascending = (usage * (1.0 - SOFTENING) + SOFTENING).gather(1, order)
    all_before_used = th.cat([th.ones_like(usage[:, :1]), ascending[:, :-1].cumprod(dim=1)], dim=1)
    return th.zeros_like(usage).scatter(1, order, (1.0 - ascending) * all_before_used)
