"""The interface every memory implements."""

from abc import ABC, abstractmethod
from numbers import Integral
from typing import ClassVar, Literal

import torch as th
from torch import nn

MemoryState = tuple[th.Tensor, ...]


class BaseMemory(nn.Module, ABC):
    """
    What a Q-network carries from one step to the next.

    Letters: B sequences (or environments), T steps, D features in, H latents out.
    The caller owns the state; a memory holds weights only, so acting, evaluation and the
    target network never disturb one another.

    A subclass sets its own named options in ``__init__`` and implements :meth:`initial_state` and :meth:`forward`.

    :param input_dim: D, the number of features a step brings
    :param latent_dim: H, the number of latents a step gives
    :raises ValueError: when a dimension is not a positive integer

    :cvar reads: "vector", or "map" for a memory that attends by itself: its features are (B, T, P, C), P places of
        C channels, it is built with ``input_dim=(P, C)`` and calls this ``__init__`` with P * C
    :cvar state_names: what the tensors of the state are called where somebody reads them (exported graphs); numbers for
        a memory that names none, as one with a tensor a layer
    """

    reads: ClassVar[Literal["vector", "map"]] = "vector"
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, input_dim: int, latent_dim: int) -> None:
        super().__init__()
        self._check_sizes(input_dim=input_dim, latent_dim=latent_dim)
        self.input_dim = int(input_dim)
        self.latent_dim = int(latent_dim)

    @abstractmethod
    def initial_state(self, batch_size: int) -> MemoryState:
        """
        :param batch_size: B
        :return: the state before the first step of an episode, on the memory's device; every tensor is (B, ...)
        """

    @abstractmethod
    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        :param features: (B, T, D) float
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool, True on the first step of an episode;
            nothing earlier, ``state`` included, may reach that step or a later one
        :return: latents (B, T, H), and the state after the last step with the structure, shapes and dtypes of ``state``
        """

    def unroll(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> th.Tensor:
        """
        The latents alone, for training, where nobody reads the last state.
        A memory whose last state costs extra overrides this.

        :param features: (B, T, D)
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool
        :return: latents (B, T, H)
        """
        return self(features, state, episode_starts)[0]

    def advance(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> MemoryState:
        """
        The last state alone, for burn-in, where nobody reads the latents.

        :param features: (B, T, D)
        :param state: the state before the first of these steps
        :param episode_starts: (B, T) bool
        :return: the state after the last step
        """
        return self(features, state, episode_starts)[1]

    @classmethod
    def _check_sizes(cls, **sizes: int) -> None:
        """
        :param sizes: option -> its value
        :raises ValueError: when one is not an integer of at least 1
        """
        for name, value in sizes.items():
            if not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{cls.__name__} got {name}={value!r}; it must be an integer of at least 1.")

    @staticmethod
    def steps_with_starts(episode_starts: th.Tensor) -> list[bool]:
        """
        For memories that loop over time: where :meth:`reset_where` is worth a call.

        :param episode_starts: (B, T) bool
        :return: T, whether an episode may start at a step in any of the sequences (True while a graph is exported,
            where values are not known)
        """
        if th.compiler.is_exporting():
            return [True] * episode_starts.shape[1]
        return episode_starts.any(dim=0).tolist()

    def reset_where(self, starts: th.Tensor, state: MemoryState) -> MemoryState:
        """
        :param starts: (B,) bool
        :param state: tensors (B, ...)
        :return: ``state`` with the initial state in the rows where ``starts`` is True
        """
        if not th.compiler.is_exporting() and not starts.any():  # a graph has no branches that depend on values
            return state
        fresh = self.initial_state(starts.shape[0])
        return tuple(
            th.where(starts.view(-1, *[1] * (old.dim() - 1)), new, old) for new, old in zip(fresh, state, strict=True)
        )
