"""No memory: the control of every experiment."""

import torch as th

from sb3_attnmem.memory.base import BaseMemory, MemoryState


class NoMemory(BaseMemory):
    """
    Hands the present step's features on and remembers nothing. State: the empty tuple.

    :param input_dim: D, which is also H
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim, latent_dim=input_dim)

    def initial_state(self, batch_size: int) -> MemoryState:
        return ()

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        return features, state
