"""Episodes that an agent played, and the windows that are cut from them. Letters as in ``BaseMemory``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.memory import BaseMemory, MemoryState


class PlayedEpisode(NamedTuple):
    """
    One episode of T steps.

    :param features: (T, D) or (T, P, C), what the memory read
    :param starts: (T,) bool; more than the first where the environment ends with each life and the game goes on
    :param actions: (T,), or (T, D) of a ``MultiDiscrete`` whose choices have Q-values each
    :param rewards: (T,), what followed each action
    :param q_values: (T, A), or of all choices
    :param observations: of each step, as the agent was given them; empty where they were not kept
    """

    features: th.Tensor
    starts: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    q_values: np.ndarray
    observations: list[Any]

    @property
    def first_life(self) -> int:
        """Steps until the memory is told that something begins, or all."""
        again = np.flatnonzero(self.starts[1:])
        return int(again[0]) + 1 if len(again) else len(self.starts)

    def begin_of(self, step: int) -> int:
        """
        Find the start of an episode.

        :param step: t
        :return: where the episode (or life) of this step began
        """
        return int(np.flatnonzero(self.starts[: step + 1])[-1])


#: An episode by its number, and a step of it
Moment = tuple[int, int]


def windows_before(
    episodes: Sequence[PlayedEpisode], moments: Sequence[Moment], length: int
) -> tuple[th.Tensor, th.Tensor]:
    """
    The steps before each moment, of the moment's own episode, right-aligned. A flag where the first of them lies keeps
    the padding before it out (nothing earlier reaches an episode start).

    :param episodes: to cut from
    :param moments: N of them; the step itself is not among those before it
    :param length: steps at most
    :return: features (N, L, ...) and episode starts (N, L), L the longest of them and at most ``length``
    """
    spans = [
        (number, max(episodes[number].begin_of(step - 1), step - length) if step else 0, step)
        for number, step in moments
    ]
    longest = max(end - begin for _, begin, end in spans)
    like = episodes[0].features
    features = like.new_zeros(len(spans), longest, *like.shape[1:])
    starts = th.zeros(len(spans), longest, dtype=th.bool, device=like.device)
    for row, (number, begin, end) in enumerate(spans):
        if end > begin:
            features[row, longest - (end - begin) :] = episodes[number].features[begin:end]
            starts[row, longest - (end - begin)] = True
    return features, starts


def burnt_in(
    memory: BaseMemory, episodes: Sequence[PlayedEpisode], moments: Sequence[Moment], length: int
) -> MemoryState:
    """
    Run a memory over the steps before moments.

    :param memory: whose state it is
    :param episodes: that were played
    :param moments: N of them
    :param length: steps before each moment at most; 0 for none
    :return: the states that those steps lead to from the initial state, tensors (N, ...); at the first step of an
        episode the initial state
    """
    initial = memory.initial_state(len(moments))
    if length < 1:
        return initial
    features, starts = windows_before(episodes, moments, length)
    if features.shape[1] == 0:
        return initial
    state = memory.advance(features, initial, starts)
    fresh = th.as_tensor([bool(episodes[number].starts[step]) for number, step in moments], device=features.device)
    return memory.reset_where(fresh, state)


def draw_moments(
    episodes: Sequence[PlayedEpisode], n_moments: int, rng: np.random.Generator, with_history: bool = False
) -> list[Moment]:
    """
    Draw moments from episodes.

    :param episodes: that were played
    :param n_moments: at most
    :param rng: random generator
    :param with_history: leave out the first steps of episodes
    :return: different moments, every step as likely as any other, in the order of the episodes
    """
    moments = [
        (i, step)
        for i, episode in enumerate(episodes)
        for step in range(len(episode.starts))
        if not (with_history and episode.starts[step])
    ]
    if len(moments) <= n_moments:
        return moments
    return [moments[i] for i in np.sort(rng.choice(len(moments), n_moments, replace=False))]
