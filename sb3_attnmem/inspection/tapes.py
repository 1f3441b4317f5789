"""Episodes that an agent played, and the windows that are cut from them. Letters as in ``BaseMemory``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.memory import BaseMemory, MemoryState


class Tape(NamedTuple):
    """
    One episode of T steps.

    :param features: (T, D) or (T, P, C), what the memory read
    :param starts: (T,) bool; more than the first where the environment ends with each life and the game goes on
    :param actions: (T,)
    :param rewards: (T,), what followed each action
    :param q_values: (T, A)
    :param observations: of each step, as the agent was given them; empty where they were not kept
    """

    features: th.Tensor
    starts: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    q_values: np.ndarray
    observations: list[Any]

    def begin_of(self, step: int) -> int:
        """
        :param step: t
        :return: where the episode (or life) of this step began
        """
        return int(np.flatnonzero(self.starts[: step + 1])[-1])


#: A tape by its number, and a step on it
Place = tuple[int, int]


def windows_before(tapes: Sequence[Tape], places: Sequence[Place], length: int) -> tuple[th.Tensor, th.Tensor]:
    """
    The steps before each place, of the place's own episode, right-aligned. A flag where the first of them lies keeps
    the padding before it out (nothing earlier reaches an episode start).

    :param tapes: to cut from
    :param places: N of them; the step itself is not among those before it
    :param length: steps at most
    :return: features (N, L, ...) and episode starts (N, L), L the longest of them and at most ``length``
    """
    spans = [(tape, max(tapes[tape].begin_of(step - 1), step - length) if step else 0, step) for tape, step in places]
    longest = max(end - begin for _, begin, end in spans)
    like = tapes[0].features
    features = like.new_zeros(len(spans), longest, *like.shape[1:])
    starts = th.zeros(len(spans), longest, dtype=th.bool, device=like.device)
    for row, (tape, begin, end) in enumerate(spans):
        if end > begin:
            features[row, longest - (end - begin) :] = tapes[tape].features[begin:end]
            starts[row, longest - (end - begin)] = True
    return features, starts


def burnt_in(memory: BaseMemory, tapes: Sequence[Tape], places: Sequence[Place], length: int) -> MemoryState:
    """
    :param memory: whose state it is
    :param tapes: that were played
    :param places: N of them
    :param length: steps before each place at most; 0 for none
    :return: the states that those steps lead to from the initial state, tensors (N, ...); at the first step of an
        episode the initial state
    """
    initial = memory.initial_state(len(places))
    if length < 1:
        return initial
    features, starts = windows_before(tapes, places, length)
    if features.shape[1] == 0:
        return initial
    state = memory.advance(features, initial, starts)
    fresh = th.as_tensor([bool(tapes[tape].starts[step]) for tape, step in places], device=features.device)
    return memory.reset_where(fresh, state)


def draw_places(
    tapes: Sequence[Tape], n_places: int, rng: np.random.Generator, with_history: bool = False
) -> list[Place]:
    """
    :param tapes: that were played
    :param n_places: at most
    :param rng: where the dice come from
    :param with_history: leave out the first steps of episodes
    :return: different places, every step as likely as any other, in the order of the tapes
    """
    places = [
        (i, step)
        for i, tape in enumerate(tapes)
        for step in range(len(tape.starts))
        if not (with_history and tape.starts[step])
    ]
    if len(places) <= n_places:
        return places
    return [places[i] for i in np.sort(rng.choice(len(places), n_places, replace=False))]
