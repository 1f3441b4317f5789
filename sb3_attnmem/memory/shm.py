"""Stable Hadamard memory."""

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_integers
from sb3_attnmem.memory.matrix import MatrixLayer, MatrixMemory, MatrixSizes
from sb3_attnmem.memory.scan import decay_with_starts, linear_scan
from sb3_attnmem.memory.steps import step_code


class HadamardLayer(MatrixLayer):
    """
    M_t = C_t ⊙ M_{t−1} + η_t k_t v_tᵀ and o_t = M_tᵀ q_t, with C_t = 1 + tanh(c(x_t) θ_tᵀ): the calibration of each
    entry, around 1, above it where a memory is to be strengthened. Row t of θ is taken in the t-th step of an episode.

    :param sizes: of the layer
    :param n_rows: rows of θ, taken in turn
    """

    def __init__(self, sizes: MatrixSizes, n_rows: int) -> None:
        super().__init__(sizes)
        self.n_rows = n_rows
        self.theta = nn.Parameter(
            0.1 * th.randn(n_rows, sizes.n_heads * sizes.value_size)
        )  # of the size that the paper begins with
        self.to_calibration = nn.Linear(sizes.hidden_size, sizes.n_heads * sizes.key_size, bias=False)  # c
        self.to_strength = nn.Linear(sizes.hidden_size, sizes.n_heads)  # η before its sigmoid

    def write_and_read(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        state: th.Tensor,
        episode_starts: th.Tensor,
    ) -> tuple[th.Tensor, th.Tensor]:
        queries, keys, contents = (tensor.transpose(1, 2).to(state.dtype) for tensor in heads)  # (B, T, n, K or V)
        strength = self.to_strength(normed).sigmoid().unsqueeze(-1).to(state.dtype)
        writes = (strength * keys).unsqueeze(-1) * contents.unsqueeze(-2)  # (B, T, n, K, V)
        calibration = decay_with_starts(self._calibration(normed, steps), episode_starts)
        states = linear_scan(calibration.flatten(2), writes.flatten(2), state.flatten(1))
        states = states.unflatten(2, self.state_shape)
        found = (queries.unsqueeze(-2) @ states).squeeze(-2)  # (B, T, n, V)
        return found.transpose(1, 2), states[:, -1]

    def strengths(self, normed: th.Tensor, steps: th.Tensor) -> dict[str, th.Tensor]:
        return {"write strength η": self.to_strength(normed).sigmoid()}

    def shares(
        self,
        normed: th.Tensor,
        heads: tuple[th.Tensor, th.Tensor, th.Tensor],
        steps: th.Tensor,
        episode_starts: th.Tensor,
    ) -> th.Tensor:
        queries, keys, contents = heads
        strength = self.to_strength(normed).sigmoid().transpose(1, 2)  # (B, n, T)
        writes = (strength.unsqueeze(-1) * keys).unsqueeze(-1) * contents.unsqueeze(-2)  # (B, n, T, K, V)
        calibration = self._calibration(normed, steps)
        left, rows = th.zeros_like(writes), []
        for t in range(writes.shape[2]):
            left = left * calibration[:, t].unsqueeze(2)  # what is left of each step's write
            left = left.masked_fill(episode_starts[:, t].view(-1, 1, 1, 1, 1), 0.0)
            left[:, :, t] = writes[:, :, t]
            rows.append((queries[:, :, t, None, None] @ left).squeeze(-2).norm(dim=-1))  # (B, n, T)
        return th.stack(rows, dim=2)

    def _calibration(self, normed: th.Tensor, steps: th.Tensor) -> th.Tensor:
        """:return: C, (B, T, n, K, V), in (0, 2)"""
        n_heads = self.state_shape[0]
        rows = steps.remainder(self.n_rows).nan_to_num().long()
        theta = self.theta[rows].unflatten(-1, (n_heads, 1, -1))  # (B, T, n, 1, V)
        by_key = self.to_calibration(normed).unflatten(-1, (n_heads, -1)).unsqueeze(-1)  # (B, T, n, K, 1)
        return 1.0 + (by_key.to(theta.dtype) * theta).tanh()


class SHMMemory(MatrixMemory):
    """
    Stable Hadamard memory (Le et al., 2024, https://arxiv.org/abs/2410.10132): a matrix whose entries are each
    strengthened or weakened at every step, then written to, without any product of the matrix with another one, so that
    a parallel scan computes it over time.

    The paper draws the row of θ at random at every step: the calibrations of different steps are then nearly
    uncorrelated, and the expectation of their product stays bounded (the fixed row it compares with lets the product
    vanish or explode). Drawn while acting and again while training, the memory would not be the same in both. Here the
    rows, random at the start and learned, are taken in turn, one a step from the episode's first on: as uncorrelated
    over ``n_rows`` steps, and the same whenever an episode is run. It is stable in that sense, not whatever is learned:
    a learned C above 1 throughout makes the matrix grow.

    Here keys and queries know the step within the episode too (``positions="episode"``), and a short convolution over
    time comes before keys, queries and values, as in gated DeltaNet.

    State and reach: see :class:`~sb3_attnmem.memory.matrix.MatrixMemory`.

    :param input_dim: D
    :param hidden_size: H, the width of the latents
    :param num_layers: stacked layers
    :param n_heads: n, matrices a layer
    :param key_size: K
    :param value_size: V
    :param n_rows: rows of θ (the paper: 128)
    :param positions: ``"episode"``: keys and queries know the step within the episode; ``"none"``: they do not
    :param conv_size: steps that each channel of a layer's inputs is convolved over; 1 leaves the convolution out
    :raises ValueError: when a size is not a positive integer, or ``positions`` is unknown
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        n_heads: int = 1,
        key_size: int = 64,
        value_size: int = 16,
        n_rows: int = 128,
        positions: str = "episode",
        conv_size: int = 4,
    ) -> None:
        hidden_size, num_layers = check_integers(hidden_size=hidden_size, num_layers=num_layers)
        n_heads, key_size = check_integers(n_heads=n_heads, key_size=key_size)
        value_size, n_rows, conv_size = check_integers(value_size=value_size, n_rows=n_rows, conv_size=conv_size)
        code = step_code(positions)
        code_size = 0 if code is None else code.width
        sizes = MatrixSizes(hidden_size, code_size, n_heads, key_size, value_size, conv_size)
        layers = [HadamardLayer(sizes, n_rows) for _ in range(num_layers)]
        super().__init__(input_dim, hidden_size, layers, code)
