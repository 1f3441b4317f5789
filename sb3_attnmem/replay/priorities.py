"""Prioritised replay of sequences."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.replay.batches import SequenceSamples
from sb3_attnmem.replay.buffer import SequenceReplayBuffer
from sb3_attnmem.replay.sum_tree import SumTree
from sb3_attnmem.replay.tapes import Tapes


class PrioritizedSequenceReplayBuffer(SequenceReplayBuffer):
    """
    Draws windows in proportion to a power of their priority (Schaul et al., 2016, https://arxiv.org/abs/1511.05952), a
    mixture of the largest and the mean absolute TD error of their learning steps (R2D2, section 2.3).

    A window enters, and enters anew whenever a transition is added to its learning part, at the highest priority seen:
    nothing is overlooked because its beginning was dull. Parameters not listed are those of
    :class:`SequenceReplayBuffer`.

    :param priority_exponent: 0 is uniform, 1 proportional; R2D2 takes 0.9
    :param priority_eta: weight of the largest error against the mean one
    :param importance_exponent: corrects the bias of not drawing uniformly by weights (N P)^-exponent, divided by the
        largest of a batch; 0 (R2D2 found no need for it) corrects nothing, 1 everything
    :param final_importance_exponent: if given, the exponent goes there linearly over ``learn`` (Schaul: 0.4 to 1)
    :raises ValueError: for an exponent below 0, or a share outside [0, 1]
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        *,
        priority_exponent: float = 0.9,
        priority_eta: float = 0.9,
        importance_exponent: float = 0.0,
        final_importance_exponent: float | None = None,
        **sequence_kwargs: Any,
    ) -> None:
        priority_exponent = check_number("priority_exponent", priority_exponent, least=0, hint="0 draws uniformly.")
        priority_eta = check_number("priority_eta", priority_eta, least=0, most=1)
        importance_exponent = check_number("importance_exponent", importance_exponent, least=0, most=1)
        if final_importance_exponent is None:
            final_importance_exponent = importance_exponent
        check_number("final_importance_exponent", final_importance_exponent, least=0, most=1)
        super().__init__(buffer_size, observation_space, action_space, device, n_envs, **sequence_kwargs)
        self.priority_exponent = priority_exponent
        self.priority_eta = priority_eta
        self.importance_exponent = importance_exponent
        self._importance_exponents = importance_exponent, final_importance_exponent
        self._forget_priorities()

    def _forget_priorities(self) -> None:
        self.max_priority = 1.0
        self._tree: SumTree | None = None
        # What the tree knows of: (E,) windows and heads at the last :meth:`_keep_up`
        self._known_first = self._known_heads = np.zeros(self.n_envs, dtype=np.int64)
        self._known_last = self._known_first - 1

    def reset(self) -> None:
        super().reset()
        self._forget_priorities()

    def change_n_envs(self, n_envs: int) -> None:
        super().change_n_envs(n_envs)
        self._forget_priorities()

    @property
    def is_prioritized(self) -> bool:
        return True

    def anneal(self, progress: float) -> None:
        """
        Set ``importance_exponent``.

        :param progress: the share of ``learn`` that is done, in [0, 1]
        """
        first, last = self._importance_exponents
        self.importance_exponent = first + (last - first) * progress

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        rows, windows = self._draw_windows(check_integer("batch_size", batch_size))
        batch = self._read_windows(rows, windows, self.burn_in, env)
        return batch._replace(weights=self._importance_weights(rows, windows))

    def update_priorities(self, drawn: tuple[np.ndarray, np.ndarray], priorities: np.ndarray) -> None:
        """
        Take in the priorities of windows that were learned from.

        :param drawn: what a batch of :meth:`sample` says it drew; windows that were overwritten since are left out
        :param priorities: (B,), eta * max |delta| + (1 - eta) * mean |delta| of each
        :raises ValueError: for a priority that is negative, not finite, or too large to its power; none is taken then
        """
        rows, windows = drawn
        if not (np.asarray(priorities) >= 0).all():  # a NaN is not
            raise ValueError("Priorities must not be negative or NaN; look at the TD errors they come from.")
        self._keep_up()
        first, last = self.window_range()
        alive = (windows >= first[rows]) & (windows <= last[rows])
        # A window without any error keeps a chance; one is enough to find out when that changes
        priorities = np.maximum(priorities, 1e-6)
        assert self._tree is not None
        with np.errstate(over="ignore"):  # the tree refuses what became infinite
            weights = priorities[alive] ** self.priority_exponent
        self._tree.set(self._leaves(rows[alive], windows[alive]), weights)
        if alive.any():
            self.max_priority = max(self.max_priority, float(priorities[alive].max()))

    def _draw_windows(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        self._keep_up()
        assert self._tree is not None
        rows, rest = np.divmod(self._tree.draw(self.rng.random(batch_size)), self._n_coexisting)
        first, _ = self.window_range()
        # Of all windows that share a leaf over time, the one that lives
        return rows, first[rows] + (rest - first[rows]) % self._n_coexisting

    def _importance_weights(self, rows: np.ndarray, windows: np.ndarray) -> th.Tensor | None:
        """:return: (B,), or None where nothing is to be corrected"""
        if self.importance_exponent == 0:
            return None
        assert self._tree is not None
        # N and the total are the same for all of a batch, and fall out when divided by the largest
        weights = self._tree.get(self._leaves(rows, windows)) ** -self.importance_exponent
        return self.to_torch((weights / weights.max()).astype(np.float32), copy=False)

    def _leaves(self, rows: np.ndarray, windows: np.ndarray) -> np.ndarray:
        return rows * self._n_coexisting + windows % self._n_coexisting

    def _keep_up(self) -> None:
        """
        Let the tree know of what was added since: windows that are gone get no weight, windows that gained a learning
        step the highest. Once a batch, and vectorised, instead of once a step.
        """
        first, last = self.window_range()
        tapes = self.tapes
        assert tapes is not None
        if self._tree is None:
            self._start(tapes)
        assert self._tree is not None
        gone_until = np.minimum(first - 1, self._known_last)
        self._tree.set(self._leaves(*_ranges(self._known_first, gone_until)), 0.0)
        gained_from = (self._known_heads - self.burn_in - self.sequence_length) // self.state_interval + 1
        gained_from = np.where(tapes.heads > self._known_heads, np.maximum(first, gained_from), last + 1)
        self._tree.set(self._leaves(*_ranges(gained_from, last)), self.max_priority**self.priority_exponent)
        self._known_first, self._known_last, self._known_heads = first, last, tapes.heads.copy()

    def _start(self, tapes: Tapes) -> None:
        """Begin with an empty tree, wide enough for all windows that a full buffer has at once."""
        # The windows of a full tape, one more for the slot that is being written
        span = tapes.n_slots + self.burn_in + self.sequence_length
        self._n_coexisting = span // self.state_interval + 2
        self._tree = SumTree(tapes.n_envs * self._n_coexisting)


def _ranges(begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Lay ranges of numbers end to end.

    :param begins: (E,)
    :param ends: (E,), inclusive; before ``begins`` where there is nothing
    :return: (n,) rows and (n,) values of all the ranges
    """
    counts = np.maximum(ends - begins + 1, 0)
    rows = np.repeat(np.arange(len(begins)), counts)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, begins[rows] + offsets
