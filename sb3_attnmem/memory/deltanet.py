"""Gated DeltaNet."""

import math

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.common.checks import check_integers, check_number
from sb3_attnmem.memory.matrix import MatrixLayer, MatrixMemory, MatrixSizes
from sb3_attnmem.memory.stack import LONGEST
from sb3_attnmem.memory.steps import step_code

#: Steps a chunk: within one all pairs of steps are compared, from one to the next a matrix is handed on
CHUNK = 16


def gated_delta_rule(
    heads: tuple[th.Tensor, th.Tensor, th.Tensor],
    strength: th.Tensor,
    log_keep: th.Tensor,
    state: th.Tensor,
    episode_starts: th.Tensor,
) -> tuple[th.Tensor, th.Tensor]:
    """
    S_t = α_t (I − β_t k_t k_tᵀ) S_{t−1} + β_t k_t v_tᵀ, and o_t = S_tᵀ q_t: what is found at place k is replaced, by
    the share β, with v; all else is kept, by the share α.

    In chunks (Yang et al., 2024, https://arxiv.org/abs/2406.06484): what the steps of a chunk write depends on one
    another by a triangular system, which is solved for all chunks at once and for any state that a chunk may begin
    with; then the state goes from chunk to chunk, one product each. An episode start cuts a chunk in two: pairs of
    steps on either side of it are masked.

    Letters: B sequences, n heads, T steps, K numbers in a key, V in a value, N chunks of C steps.

    :param heads: queries and keys (B, n, T, K), each of length 1 at most, and values (B, n, T, V)
    :param strength: β, (B, n, T), in [0, 1]
    :param log_keep: log α, (B, n, T), not above 0
    :param state: S before the first step, (B, n, K, V)
    :param episode_starts: (B, T) bool; that of the first step is the caller's
    :return: all o (B, n, T, V), and S after the last step
    """
    dtype, n_steps = state.dtype, episode_starts.shape[1]
    queries, keys, contents, strength, log_keep = (t.to(dtype) for t in (*heads, strength, log_keep))
    if n_steps == 1:
        state = log_keep.exp().unsqueeze(-1) * state
        written = strength.unsqueeze(-1) * (contents - keys @ state)  # (B, n, 1, V)
        state = state + keys.transpose(-1, -2) @ written
        return queries @ state, state
    with th.autocast(state.device.type, enabled=False):
        later = th.arange(n_steps, device=state.device) > 0
        chunks = _Chunks(queries, keys, contents, strength, log_keep, episode_starts & later)
        before, last = chunks.hand_on(state)
        return chunks.read(before)[:, :, :n_steps], last


class _Chunks:
    """The steps of a tape in chunks, the last one filled up with steps that write nothing."""

    def __init__(
        self,
        queries: th.Tensor,
        keys: th.Tensor,
        contents: th.Tensor,
        strength: th.Tensor,
        log_keep: th.Tensor,
        episode_starts: th.Tensor,
    ) -> None:
        self.n_chunks = -(-episode_starts.shape[1] // CHUNK)
        q, k, v, beta, g = (self._cut(t, dim=2) for t in (queries, keys, contents, strength, log_keep))
        beta = beta.unsqueeze(-1)  # (B, n, N, C, 1)
        episode = self._cut(episode_starts.long(), dim=1).cumsum(dim=-1).unsqueeze(1)  # (B, 1, N, C)
        not_before = th.ones(CHUNK, CHUNK, dtype=th.bool, device=episode.device).triu()
        apart = (episode.unsqueeze(-1) != episode.unsqueeze(-2)).logical_or(not_before.triu(1))
        # What step j wrote that is there at step i, (B, n, N, C, C): sums of their own, as a difference of two sums
        # would lose digits behind a step that keeps little. And of the state before the chunk, (B, n, N, C, 1)
        between = g.unsqueeze(-1).masked_fill(not_before, 0.0).cumsum(dim=-2)
        kept = between.masked_fill(apart, -math.inf).exp()
        kept_of_state = g.cumsum(dim=-1).masked_fill(episode > 0, -math.inf).exp().unsqueeze(-1)
        system = beta * kept * (k @ k.transpose(-1, -2))
        sides = th.cat([beta * v, beta * kept_of_state * k], dim=-1)
        solved = th.linalg.solve_triangular(system, sides, upper=False, unitriangular=True)
        # What is written is `writes - overwrites @ S`, with S the state before the chunk
        self.writes, self.overwrites = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
        self.at_end = (kept[..., -1, :].unsqueeze(-1) * k).transpose(-1, -2)  # (B, n, N, K, C)
        self.state_at_end = kept_of_state[..., -1:, :]  # (B, n, N, 1, 1)
        self.found = kept * (q @ k.transpose(-1, -2))  # (B, n, N, C, C)
        self.found_in_state = kept_of_state * q

    def _cut(self, tensor: th.Tensor, dim: int) -> th.Tensor:
        """:return: (..., N, C, ...) of (..., T, ...)"""
        missing = self.n_chunks * CHUNK - tensor.shape[dim]
        padded = F.pad(tensor, [0, 0] * (tensor.dim() - 1 - dim) + [0, missing])
        return padded.unflatten(dim, (self.n_chunks, CHUNK))

    def hand_on(self, state: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param state: (B, n, K, V), before the first chunk
        :return: the states before all chunks (B, n, N, K, V), and the one after the last
        """
        diagonal = th.eye(state.shape[-2], dtype=state.dtype, device=state.device)
        factors = (self.state_at_end * diagonal - self.at_end @ self.overwrites).flatten(0, 1)  # (B n, N, K, K)
        added = (self.at_end @ self.writes).flatten(0, 1)  # (B n, N, K, V)
        states = [state.flatten(0, 1)]
        for factor, more in zip(factors.unbind(1), added.unbind(1), strict=True):
            states.append(th.baddbmm(more, factor, states[-1]))
        last = states.pop()
        return th.stack(states, dim=1).unflatten(0, state.shape[:2]), last.unflatten(0, state.shape[:2])

    def read(self, before: th.Tensor) -> th.Tensor:
        """
        :param before: (B, n, N, K, V), the states before all chunks
        :return: (B, n, N C, V)
        """
        written = self.writes - self.overwrites @ before
        return (self.found_in_state @ before + self.found @ written).flatten(2, 3)


class DeltaNetLayer(MatrixLayer):
    """
    The gated delta rule, with β = σ(w x) and α = σ(w' x + log horizon).

    :param sizes: of the layer
    :param horizon: at zero inputs what was written fades by a factor of e in about that many steps
    """

    def __init__(self, sizes: MatrixSizes, horizon: float) -> None:
        super().__init__(sizes)
        self.to_strengths = nn.Linear(sizes.hidden_size, 2 * sizes.n_heads)  # β and α before their sigmoid
        with th.no_grad():
            self.to_strengths.bias[: sizes.n_heads] = 0.0
            self.to_strengths.bias[sizes.n_heads :] = math.log(horizon)

    def write_and_read(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        state: th.Tensor,
        episode_starts: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor]:
        strength, keep = self.to_strengths(normed).transpose(1, 2).chunk(2, dim=1)  # (B, n, T) each
        return gated_delta_rule(heads, strength.sigmoid(), F.logsigmoid(keep), state, episode_starts)

    def strengths(self, normed: th.Tensor, steps: th.Tensor) -> dict[str, th.Tensor]:
        strength, keep = self.to_strengths(normed).sigmoid().chunk(2, dim=-1)
        return {"write strength β": strength, "kept α": keep}

    def shares(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        episode_starts: th.Tensor,
    ) -> th.Tensor:
        # With values that name the step which wrote them, what is found says which step it is from
        queries, keys, contents = heads
        batch, n_heads, n_steps, _ = contents.shape
        names = th.eye(n_steps, dtype=contents.dtype, device=contents.device).expand(batch, n_heads, -1, -1)
        empty = contents.new_zeros(batch, *self.state_shape[:2], n_steps)
        found, _ = self.write_and_read(normed, (queries, keys, names), steps, empty, episode_starts)
        return found.abs() * contents.norm(dim=-1).unsqueeze(-2)


class DeltaNetMemory(MatrixMemory):
    """
    Gated DeltaNet (Yang et al., 2024, https://arxiv.org/abs/2412.06464): a matrix a head is a look-up table of soft
    places. A step finds what is at its key and replaces it, by a learned share, with its value; and reads at its query.
    What is written does not see the state but through what it replaces, so that the steps are computed in chunks.

    Here keys and queries know the step within the episode too, so that what came at a certain step, or so many steps
    ago, has a place of its own (``positions="episode"``). As in the paper a short convolution over time comes before
    keys, queries and values, here one for all three: what came a few steps ago needs no place then.

    State and reach: see :class:`~sb3_attnmem.memory.matrix.MatrixMemory`. A matrix holds K values without confusion.

    :param input_dim: D
    :param hidden_size: H, the width of the latents
    :param num_layers: stacked layers
    :param n_heads: n, matrices a layer
    :param key_size: K
    :param value_size: V
    :param horizon: at the start what was written fades by a factor of e in about that many steps; it is learned
    :param positions: ``"episode"``: keys and queries know the step within the episode; ``"none"``: they do not
    :param conv_size: steps that each channel of a layer's inputs is convolved over; 1 leaves the convolution out
    :raises ValueError: when a size is not a positive integer, ``horizon`` is below 1, or ``positions`` is unknown
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        n_heads: int = 2,
        key_size: int = 64,
        value_size: int = 32,
        horizon: float = 1000.0,
        positions: str = "episode",
        conv_size: int = 4,
    ) -> None:
        hidden_size, num_layers = check_integers(hidden_size=hidden_size, num_layers=num_layers)
        n_heads, key_size = check_integers(n_heads=n_heads, key_size=key_size)
        value_size, conv_size = check_integers(value_size=value_size, conv_size=conv_size)
        horizon = check_number("horizon", horizon, least=1.0, most=LONGEST, hint="It is a number of steps.")
        code = step_code(positions)
        code_size = 0 if code is None else code.width
        sizes = MatrixSizes(hidden_size, code_size, n_heads, key_size, value_size, conv_size)
        layers = [DeltaNetLayer(sizes, horizon) for _ in range(num_layers)]
        super().__init__(input_dim, hidden_size, layers, code)
