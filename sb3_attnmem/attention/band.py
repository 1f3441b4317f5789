"""Which steps a step may look at: itself and the M before it, within its episode."""

import torch as th
from torch.nn import functional as F

#: Steps a block at least. Of M to 4 M, this was the fastest at T = 128 and 512 (benchmarks/memories.py)
LEAST_BLOCK = 64


class Band:
    """
    Stands for the mask of T present steps that look at themselves and the M steps before each, where the keys are the
    M steps of a cache and the T present ones. Long sequences are cut into blocks of S >= M steps that look at the
    block and the M steps before it, so that time and memory grow with T * (M + S), not T².

    Letters: B sequences, n heads, T steps, K = M + T keys, N blocks of S steps.

    :param cached: (B, M) long, the episodes of the steps in the cache; a number that is not in ``present`` is not seen
    :param present: (B, T) long, the episodes of the present steps
    """

    def __init__(self, cached: th.Tensor, present: th.Tensor) -> None:
        self.n_cached = cached.shape[1]
        self.n_steps = present.shape[1]
        self.size = max(self.n_cached, LEAST_BLOCK)
        if self.n_steps < 2 * self.size:
            self.size = self.n_steps
        self.n_blocks = -(-self.n_steps // self.size)
        asking = self.cut_queries(present[:, None, :, None])  # (B N, 1, S, 1)
        seen = self.cut_keys(th.cat([cached, present], dim=1)[:, None, :, None])  # (B N, 1, M + S, 1)
        age = (
            self.n_cached
            + th.arange(self.size, device=present.device)[:, None]
            - th.arange(self.n_cached + self.size, device=present.device)
        )
        #: (B N, 1, S, M + S) bool; every step sees itself
        self.mask = (asking == seen.transpose(2, 3)) & (age >= 0) & (age <= self.n_cached)

    def cut_queries(self, heads: th.Tensor) -> th.Tensor:
        """
        Cut the queries into blocks.

        :param heads: (B, n, T, d)
        :return: (B N, n, S, d)
        """
        if self.n_blocks == 1:
            return heads
        heads = F.pad(heads, (0, 0, 0, self.n_blocks * self.size - self.n_steps))
        return heads.unflatten(2, (self.n_blocks, -1)).transpose(1, 2).flatten(0, 1)

    def cut_keys(self, heads: th.Tensor) -> th.Tensor:
        """
        Cut keys or values into blocks, each with the M steps before it.

        :param heads: (B, n, M + T, d)
        :return: (B N, n, M + S, d)
        """
        if self.n_blocks == 1:
            return heads
        heads = F.pad(heads, (0, 0, 0, (self.n_blocks + 1) * self.size - heads.shape[2]))
        blocks = heads.unflatten(2, (self.n_blocks + 1, -1)).transpose(1, 2)  # (B, N + 1, n, S, d)
        return th.cat([blocks[:, :-1], blocks[:, 1:, :, : self.n_cached]], dim=3).flatten(0, 1)

    def join(self, blocks: th.Tensor) -> th.Tensor:
        """
        Put the blocks of queries together again.

        :param blocks: (B N, n, S, d)
        :return: (B, n, T, d)
        """
        if self.n_blocks == 1:
            return blocks
        return blocks.unflatten(0, (-1, self.n_blocks)).transpose(1, 2).flatten(2, 3)[:, :, : self.n_steps]

    def by_age(self, weights: th.Tensor) -> th.Tensor:
        """
        Sort the weights of each query by the age of its keys.

        :param weights: (B N, n, S, M + S), of the keys
        :return: (B, n, T, M + 1), of the step M steps ago to the present one
        """
        index = th.arange(self.size, device=weights.device)[:, None] + th.arange(
            self.n_cached + 1, device=weights.device
        )
        return self.join(weights.gather(-1, index.expand(*weights.shape[:-1], -1)))
