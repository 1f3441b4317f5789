"""The interface every memory implements."""

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeVar

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_integer

MemoryState = tuple[th.Tensor, ...]
Method = TypeVar("Method", bound=Callable[..., Any])


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
        self.input_dim = check_integer("input_dim", input_dim)
        self.latent_dim = check_integer("latent_dim", latent_dim)

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

    def names_of_state(self) -> tuple[str, ...]:
        """
        :return: what each tensor of the state is called: its name in :attr:`state_names`, or its number
        """
        n_tensors = len(self.initial_state(1))
        return self.state_names if len(self.state_names) == n_tensors else tuple(map(str, range(n_tensors)))

    @staticmethod
    def steps_with_starts(episode_starts: th.Tensor) -> list[bool]:
        """
        For memories that loop over time: where :meth:`reset_where` is worth a call.

        :param episode_starts: (B, T) bool
        :return: T, whether an episode may start at a step in any of the sequences (True while a graph is exported,
            where values are not known)
        """
        if becomes_graph():
            return [True] * episode_starts.shape[1]
        return episode_starts.any(dim=0).tolist()

    def reset_where(self, starts: th.Tensor, state: MemoryState) -> MemoryState:
        """
        :param starts: (B,) bool
        :param state: tensors (B, ...)
        :return: ``state`` with the initial state in the rows where ``starts`` is True
        """
        if not becomes_graph() and not starts.any():  # a graph has no branches that depend on values
            return state
        fresh = self.initial_state(starts.shape[0])
        return tuple(_choose_rows(starts, new, old) for new, old in zip(fresh, state, strict=True))

    def _run_rows_apart(
        self, rows: th.Tensor, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        As :meth:`forward`. Some rows are run alone and episode by episode, so that their numbers meet no others,
        neither forwards nor backwards.

        :param rows: (B,) bool, which
        :return: as :meth:`forward`
        """
        order = th.cat([(~rows).nonzero(), rows.nonzero()]).squeeze(1)
        n_others = int((~rows).sum())
        groups = ([order[:n_others]] if n_others else []) + list(order[n_others:].split(1))
        parts = []
        for group in groups:
            run = self.forward if len(group) > 1 or not rows[group] else self._run_by_episode
            parts.append(run(features[group], tuple(tensor[group] for tensor in state), episode_starts[group]))
        back = order.argsort()
        return (
            th.cat([latents for latents, _ in parts])[back],
            tuple(th.cat(tensors)[back] for tensors in zip(*(last for _, last in parts), strict=True)),
        )

    def _run_by_episode(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """As :meth:`forward`, of one row. An episode that is not finite carries no gradient: it would be NaN."""
        begins = sorted({0, *episode_starts[0].nonzero().flatten().tolist()})
        latents = []
        for begin, end in itertools.pairwise([*begins, features.shape[1]]):
            state = self.reset_where(episode_starts[:, begin], state)
            inputs = features[:, begin:end]
            found, last = self.forward(inputs, state, th.zeros_like(episode_starts[:, begin:end]))
            if not _all_finite([inputs, *state, found, *last]):
                found, last = found.detach(), tuple(tensor.detach() for tensor in last)
            latents.append(found)
            state = last
        return th.cat(latents, dim=1), state


def becomes_graph() -> bool:
    """:return: whether what runs is being exported or traced: values are not known, branches must not depend on them"""
    return th.compiler.is_exporting() or th.jit.is_tracing()  # type: ignore[attr-defined]


def separate_episodes(method: Method) -> Method:
    """
    Decorator of a memory's ``forward``, ``unroll`` or ``advance``: nothing of an episode reaches the next one, not even
    what is not finite (0 times NaN is NaN, so that a reset by multiplication lets it through for ever).

    The method gets the state with the initial state in the rows whose first step starts an episode. It has to heed the
    starts inside the tape, and may do so by multiplication: rows in which a number is not finite are run again, each
    alone and episode by episode. What an episode with such a number gives carries no gradient: it would be NaN in the
    weights, which all rows share.

    :param method: takes features, state and episode starts as :meth:`BaseMemory.forward` does
    :return: a method that takes the same
    """

    @functools.wraps(method)
    def separated(self: BaseMemory, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> Any:
        state = self.reset_where(episode_starts[:, 0], state)
        result = method(self, features, state, episode_starts)
        if becomes_graph() or not starts_inside(episode_starts):
            return result
        tensors = [*state, *_tensors_of(result)]
        if _all_finite(tensors):
            return result
        finite = [tensor.isfinite().flatten(1).all(dim=1) for tensor in [features, *tensors]]
        rows = ~th.stack(finite).all(dim=0)  # (B,)
        if not rows.any():  # only the sum was too large
            return result
        latents, last = self._run_rows_apart(rows, features, state, episode_starts)
        return {"forward": (latents, last), "unroll": latents, "advance": last}[method.__name__]

    return separated  # type: ignore[return-value]


def starts_inside(episode_starts: th.Tensor) -> bool:
    """
    :param episode_starts: (B, T) bool
    :return: whether an episode starts behind the first step of a row
    """
    return episode_starts.shape[1] > 1 and bool(episode_starts[:, 1:].any())


def _tensors_of(result: Any) -> list[th.Tensor]:
    """:return: all tensors of latents, of a state, or of both"""
    return [result] if isinstance(result, th.Tensor) else [tensor for part in result for tensor in _tensors_of(part)]


def _all_finite(tensors: Sequence[th.Tensor]) -> bool:
    """:return: whether the sum of all numbers is finite: one pass; False too where only the sum overflows"""
    sums = [tensor.detach().sum(dtype=th.promote_types(tensor.dtype, th.float32)) for tensor in tensors]
    return bool(th.stack(sums).sum().isfinite())


def _choose_rows(rows: th.Tensor, there: th.Tensor, elsewhere: th.Tensor) -> th.Tensor:
    """:return: (B, ...), ``there`` in ``rows`` (B,), ``elsewhere`` in the others"""
    return th.where(rows.view(-1, *[1] * (there.dim() - 1)), there, elsewhere)
