"""What the memory of a recurrent agent did in filmed episodes: for the page, everything that inspection computes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.common.observations import map_observation
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.branches import best_actions
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes
from sb3_attnmem.inspection.film.estimates import bars_of
from sb3_attnmem.inspection.memory.cut import cut_q_values
from sb3_attnmem.inspection.memory.played import PlayedEpisode
from sb3_attnmem.inspection.memory.reach import gradient_map, observations_held
from sb3_attnmem.inspection.memory.trace import EpisodeTrace, trace_episode
from sb3_attnmem.replay import split_actions

#: Observations that features are encoded from at once
BATCH = 64


class Remembered(NamedTuple):
    """
    What the memory did in T steps.

    :param trace: state, gates, alpha, attention over the past
    :param ks: numbers of observations
    :param cut_actions: of each of T steps and each k, the bars (see ``FilmStep``) of the greedy action with the state
        rebuilt from the last k observations
    :param gradients: (T, window), |dQ_t / dx_{t-age}|, nan where the episode had not begun
    """

    trace: EpisodeTrace
    ks: list[int]
    cut_actions: list[list[tuple[int, ...]]]
    gradients: np.ndarray


def remember(
    model: RecurrentDQN, filmed: FilmedEpisodes, max_history: int, tick: Callable[[int], Any] = lambda n: None
) -> Remembered:
    """
    Find out what the memory did in filmed episodes.

    :param model: the agent
    :param filmed: what it did
    :param max_history: observations to go back over at most
    :param tick: called with the number of steps that were done, twice for each
    :return: what the memory did
    """
    episode = played_of(model, filmed)
    n_steps = len(episode.starts)
    longest = max(_ages(episode.starts)) + 1
    searched = min(longest, max_history, observations_held(model.q_net.memory) or longest)
    ks = [2**i for i in range(searched.bit_length()) if 2**i <= searched]
    masks = [step.seen.valid for step in filmed.steps if step.seen.valid is not None]
    allowed = th.as_tensor(np.stack(masks)) if masks else None
    cut = []
    for i, k in enumerate(ks):
        q_values = th.as_tensor(cut_q_values(model.q_net, episode, k, tick if i == 0 else lambda n: None))
        numbers = best_actions(q_values, allowed, model.q_net.branches).numpy()
        cut.append([bars_of(model, action) for action in split_actions(model.action_space, numbers)])
    by_step = gradient_map(model.q_net, episode, n_steps, searched, tick)
    gradients = np.full((n_steps, min(searched, n_steps)), np.nan)
    for age in range(gradients.shape[1]):
        gradients[age:, age] = np.diagonal(by_step, -age)
    return Remembered(
        trace_episode(model, episode, n_steps), ks, [list(row) for row in zip(*cut, strict=True)], gradients
    )


def played_of(model: RecurrentDQN, filmed: FilmedEpisodes) -> PlayedEpisode:
    """
    Hand filmed episodes to what looks at memories.

    :param model: the agent
    :param filmed: what it did
    :return: all their steps; the memory begins anew where an episode does
    """
    steps = filmed.steps
    observations = [step.seen.observation for step in steps]
    features = []
    with th.no_grad():
        for begin in range(0, len(steps), BATCH):
            batch = map_observation(lambda *rows: np.stack(rows), *observations[begin : begin + BATCH])
            features.append(model.q_net.encode(model.policy.obs_to_tensor(batch)[0]))
    return PlayedEpisode(
        th.cat(features),
        np.array([step.starts for step in steps]),
        np.array([step.action if model.q_net.branches is not None else step.bars[0] for step in steps]),
        np.array([step.reward for step in steps]),
        np.stack([step.seen.estimate.bars for step in steps]),
        observations,
    )


def _ages(starts: np.ndarray) -> list[int]:
    """:return: steps since the episode, or the life, began"""
    ages: list[int] = []
    for begins in starts:
        ages.append(0 if begins else ages[-1] + 1)
    return ages
