"""Contamination: how long the end of another episode, left in the memory, puts the Q-values out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.dqn_recurrent import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.metrics import q_gaps
from sb3_attnmem.inspection.memory.played import Moment, PlayedEpisode, burnt_in

#: Steps of foreign history, pairs of episodes, steps of each that are looked at
LENGTHS, N_PAIRS, MOST_STEPS = (1, 4, 16, 64), 32, 200
#: A ΔQ up to this counts as that of a clean memory
CLEAN = 0.01


class Contaminated(NamedTuple):
    """
    What k steps of foreign history do.

    :param k: steps of another episode that the memory held when this one began, unannounced
    :param gaps: (T,), mean ΔQ (see :func:`sb3_attnmem.dqn_recurrent.metrics.delta_q`) by the step of the episode; a
        step counts the episodes that have it
    :param recovery: median number of steps until ΔQ stays within ``CLEAN``; infinite where half of them never get there
    :param never: share of the episodes that never get there
    :param n_pairs: episodes that were begun so
    """

    k: int
    gaps: np.ndarray
    recovery: float
    never: float
    n_pairs: int


def contamination(
    q_net: RecurrentQNetwork, episodes: Sequence[PlayedEpisode], rng: np.random.Generator
) -> list[Contaminated]:
    """
    Let the memory run over the last k steps before a moment of another episode, then over an episode from its first
    step on without telling that it begins, and compare the Q-values with those that a clean memory gave.

    :param q_net: of the agent
    :param episodes: that it played
    :param rng: draws the pairs
    :return: by k; empty where there are fewer than two episodes, or no memory
    """
    if len(episodes) < 2 or not q_net.memory.initial_state(1):
        return []
    found = []
    for k in LENGTHS:
        donors = _moments_with_past(episodes, k)
        pairs = _pairs(len(episodes), donors, rng)
        if not pairs:
            break
        found.append(_measure(q_net, episodes, pairs, k))
    return found


def _moments_with_past(episodes: Sequence[PlayedEpisode], k: int) -> dict[int, list[int]]:
    """:return: number of an episode -> its steps with at least k before them in the same life"""
    found = {}
    for number, episode in enumerate(episodes):
        age, steps = 0, []
        for step, begins in enumerate(episode.starts):
            age = 0 if begins else age + 1
            if age >= k:
                steps.append(step)
        if steps:
            found[number] = steps
    return found


def _pairs(n_episodes: int, donors: dict[int, list[int]], rng: np.random.Generator) -> list[tuple[int, Moment]]:
    """:return: an episode, and the moment of another one that its memory comes from"""
    pairs = []
    for number in range(n_episodes):
        others = [other for other in donors if other != number]
        if others:
            other = others[rng.integers(len(others))]
            pairs.append((number, (other, int(rng.choice(donors[other])))))
    if len(pairs) <= N_PAIRS:
        return pairs
    return [pairs[i] for i in np.sort(rng.choice(len(pairs), N_PAIRS, replace=False))]


def _measure(
    q_net: RecurrentQNetwork, episodes: Sequence[PlayedEpisode], pairs: list[tuple[int, Moment]], k: int
) -> Contaminated:
    lengths = [min(episodes[number].first_life, MOST_STEPS) for number, _ in pairs]
    longest = max(lengths)
    like = episodes[0].features
    features = like.new_zeros(len(pairs), longest, *like.shape[1:])
    clean = th.zeros(len(pairs), longest, episodes[0].q_values.shape[1], device=like.device)
    there = th.zeros(len(pairs), longest, dtype=th.bool, device=like.device)
    for row, ((number, _), length) in enumerate(zip(pairs, lengths, strict=True)):
        features[row, :length] = episodes[number].features[:length]
        clean[row, :length] = th.as_tensor(episodes[number].q_values[:length])
        there[row, :length] = True
    with th.no_grad():
        state = burnt_in(q_net.memory, episodes, [moment for _, moment in pairs], k)
        latents = q_net.memory.unroll(features, state, th.zeros_like(there))
        gaps = q_gaps(q_net.head(features, latents), clean, there)
    gaps = gaps.masked_fill(~there, 0.0).double()
    means = (gaps.sum(dim=0) / there.sum(dim=0)).cpu().numpy()
    steps = [_recovery(row[:length]) for row, length in zip(gaps.cpu().numpy(), lengths, strict=True)]
    return Contaminated(k, means, float(np.median(steps)), float(np.isinf(steps).mean()), len(pairs))


def _recovery(gaps: np.ndarray) -> float:
    """:return: the step from which on ΔQ is within ``CLEAN``; infinite where its last one is not"""
    wrong = np.flatnonzero(gaps > CLEAN)
    if not len(wrong):
        return 0.0
    return math.inf if wrong[-1] == len(gaps) - 1 else float(wrong[-1] + 1)


def words_of(found: Sequence[Contaminated]) -> str:
    """
    Say what foreign history does.

    :param found: by k
    :return: a sentence or two; empty where nothing was measured
    """
    if not found:
        return ""
    worst = found[-1]
    if all(one.recovery == 0 for one in found):
        return "Foreign history left in its memory does not move its Q-values."
    begin = f"With {worst.k} step{'s' * (worst.k > 1)} of another episode left in its memory,"
    if math.isinf(worst.recovery):
        return (
            f"{begin} {100 * worst.never:.0f} % of the episodes end before the Q-values are those of a clean memory "
            f"(within {100 * CLEAN:g} %): it is fragile. It must be told where episodes begin (episode_start)."
        )
    return (
        f"{begin} the Q-values are those of a clean memory (within {100 * CLEAN:g} %) after {worst.recovery:g} steps "
        f"(median of {worst.n_pairs} episodes"
        + (f"; {100 * worst.never:.0f} % never get there)." if worst.never else ").")
    )
