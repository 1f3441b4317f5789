"""How far back the Q-values move with what the memory read: gradients."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.dqn_recurrent import RecurrentQNetwork
from sb3_attnmem.inspection.memory.played import Moment, PlayedEpisode, burnt_in, draw_moments, windows_before
from sb3_attnmem.inspection.memory.playing import last_q_values
from sb3_attnmem.memory import BaseMemory
from sb3_attnmem.memory.banded import BandedTransformer

#: A lag counts as reached when its gradient is this share of the largest
SHARE = 0.01
#: Numbers in the windows of one backward pass, and windows in it: those of like lengths come together
CHUNK_SIZE, CHUNK_ROWS = 4_000_000, 32


class GradientReach(NamedTuple):
    """
    How large the gradients are, lag by lag.

    :param means: (K,), mean over the moments of |dQ_t / dx_{t-k}| for k = 0, 1, …
    :param counts: (K,), moments that have an observation k steps before, each at least one
    :param observations: the observations that are reached: 1 + the largest lag whose mean is at least ``SHARE`` of the
        largest mean
    """

    means: np.ndarray
    counts: np.ndarray
    observations: int


def observations_held(memory: BaseMemory) -> int | None:
    """
    Tell how many observations a memory can hold.

    :param memory: of an agent
    :return: the observations, the present one included, that can reach what it gives; None where there is no limit
    """
    if isinstance(memory, BandedTransformer):
        return len(memory.blocks) * memory.n_cached + 1
    return None if memory.initial_state(1) else 1


def gradient_reach(
    q_net: RecurrentQNetwork,
    episodes: Sequence[PlayedEpisode],
    max_history: int,
    n_steps: int,
    rng: np.random.Generator,
    tick: Callable[[int], Any],
) -> GradientReach:
    """
    Measure the gradients over many steps.

    :param q_net: of the agent
    :param episodes: the evaluation set
    :param max_history: the largest number of observations to go back over
    :param n_steps: steps to unroll over at most: the longer the windows, the fewer moments are looked back from
    :param rng: that draws them
    :param tick: called with the number of moments that were done
    :return: means over them
    """
    longest = min(max(len(episode.starts) for episode in episodes), max_history)
    moments = draw_moments(episodes, max(n_steps // longest, 1), rng)
    longest = min(max(_age(episodes, moment) for moment in moments), max_history)
    sums, counts = np.zeros(longest), np.zeros(longest, int)
    moments.sort(key=lambda moment: _age(episodes, moment))
    for chunk in chunks_of(moments, longest * episodes[0].features[0].numel()):
        norms = gradient_norms(q_net, episodes, chunk, longest)
        for row, moment in zip(norms, chunk, strict=True):
            n = min(_age(episodes, moment), longest)
            sums[:n] += row[::-1][:n]
            counts[:n] += 1
        tick(len(chunk))
    means = sums / counts
    reached = np.flatnonzero(means >= SHARE * means.max())
    return GradientReach(means, counts, int(reached[-1]) + 1 if means.max() > 0 else 0)


def gradient_map(
    q_net: RecurrentQNetwork, episode: PlayedEpisode, n_steps: int, max_history: int, tick: Callable[[int], Any]
) -> np.ndarray:
    """
    Measure the gradients in one episode.

    :param q_net: of the agent
    :param episode: an episode
    :param n_steps: its first T steps
    :param max_history: the largest number of observations to go back over
    :param tick: called with the number of steps that were done
    :return: (T, T), row t column s: |dQ_t / dx_s|; nan where s lies after t, in another life, or too far back
    """
    found = np.full((n_steps, n_steps), np.nan)
    length = min(n_steps, max_history)
    for chunk in chunks_of([(0, step) for step in range(n_steps)], length * episode.features[0].numel()):
        for row, (_, step) in zip(gradient_norms(q_net, [episode], chunk, length), chunk, strict=True):
            n = min(_age([episode], (0, step)), length)
            found[step, step - n + 1 : step + 1] = row[len(row) - n :]
        tick(len(chunk))
    return found


def gradient_norms(
    q_net: RecurrentQNetwork, episodes: Sequence[PlayedEpisode], moments: Sequence[Moment], length: int
) -> np.ndarray:
    """
    ‖∂Q_t/∂x_s‖, Frobenius norms over all actions and all features that the memory reads. Where an episode is longer
    than ``length``, the state before is that of the whole history, without gradient.

    :param q_net: of the agent
    :param episodes: to look at
    :param moments: N steps t
    :param length: steps s to go back over at most, t included
    :return: (N, L), the last column is s = t
    """
    ends = [(number, step + 1) for number, step in moments]
    features, starts = windows_before(episodes, ends, length)
    n_before = features.shape[1]
    with th.no_grad():
        begins = [(number, max(step + 1 - n_before, episodes[number].begin_of(step))) for number, step in moments]
        longest = max(step - episodes[number].begin_of(step) for number, step in begins)
        state = burnt_in(q_net.memory, episodes, begins, longest)
    # A window that does not begin its episode goes on from the state before it
    goes_on = th.as_tensor([not episodes[number].starts[step] for number, step in begins], device=features.device)
    starts = starts & ~goes_on.unsqueeze(1)
    features.requires_grad_(True)
    # cuDNN's recurrent kernels have no backward pass outside of training
    with th.enable_grad(), th.backends.cudnn.flags(enabled=False):
        latents = q_net.memory.unroll(features, state, starts)
        q_values = last_q_values(q_net, features, latents)
        total = th.zeros_like(features)
        for action, column in enumerate(q_values.unbind(dim=1)):
            last = action + 1 == q_values.shape[1]
            (gradient,) = th.autograd.grad(column.sum(), features, retain_graph=not last)
            total += gradient.square()
    return total.flatten(2).sum(dim=2).sqrt().cpu().numpy()


def _age(episodes: Sequence[PlayedEpisode], moment: Moment) -> int:
    """:return: observations of its episode up to this moment, itself included"""
    number, step = moment
    return step - episodes[number].begin_of(step) + 1


def chunks_of(moments: list[Moment], size: int) -> list[list[Moment]]:
    """
    Cut moments into groups whose windows fit into the machine's memory together.

    :param moments: steps of episodes
    :param size: numbers in a window
    :return: the same in groups, in their order
    """
    n = min(max(CHUNK_SIZE // max(size, 1), 1), CHUNK_ROWS)
    return [moments[i : i + n] for i in range(0, len(moments), n)]
