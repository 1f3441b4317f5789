"""How far back the Q-values move with what the memory read: gradients."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.dqn_recurrent import RecurrentQNetwork
from sb3_attnmem.inspection.acting import last_q_values
from sb3_attnmem.inspection.tapes import Place, Tape, burnt_in, draw_places, windows_before
from sb3_attnmem.memory import BaseMemory
from sb3_attnmem.memory.banded import BandedTransformer

#: A lag counts as reached when its gradient is this share of the largest
SHARE = 0.01
#: Numbers in the windows of one backward pass, and windows in it: those of like lengths come together
CHUNK_SIZE, CHUNK_ROWS = 4_000_000, 32


class GradientReach(NamedTuple):
    """
    :param means: (K,), mean over the places of |dQ_t / dx_{t-k}| for k = 0, 1, …
    :param counts: (K,), places that have an observation k steps before, each at least one
    :param observations: the observations that are reached: 1 + the largest lag whose mean is at least ``SHARE`` of the
        largest mean
    """

    means: np.ndarray
    counts: np.ndarray
    observations: int


def observations_held(memory: BaseMemory) -> int | None:
    """
    :param memory: of an agent
    :return: the observations, the present one included, that can reach what it gives; None where there is no limit
    """
    if isinstance(memory, BandedTransformer):
        return len(memory.blocks) * memory.n_cached + 1
    return None if memory.initial_state(1) else 1


def gradient_reach(
    q_net: RecurrentQNetwork,
    tapes: Sequence[Tape],
    max_history: int,
    n_steps: int,
    rng: np.random.Generator,
    tick: Callable[[int], Any],
) -> GradientReach:
    """
    :param q_net: of the agent
    :param tapes: the evaluation set
    :param max_history: the largest number of observations to go back over
    :param n_steps: steps to unroll over at most: the longer the windows, the fewer places are looked back from
    :param rng: that draws them
    :param tick: called with the number of places that were done
    :return: means over them
    """
    longest = min(max(len(tape.starts) for tape in tapes), max_history)
    places = draw_places(tapes, max(n_steps // longest, 1), rng)
    longest = min(max(_age(tapes, place) for place in places), max_history)
    sums, counts = np.zeros(longest), np.zeros(longest, int)
    places.sort(key=lambda place: _age(tapes, place))
    for chunk in _chunks(places, longest * tapes[0].features[0].numel()):
        norms = gradient_norms(q_net, tapes, chunk, longest)
        for row, place in zip(norms, chunk, strict=True):
            n = min(_age(tapes, place), longest)
            sums[:n] += row[::-1][:n]
            counts[:n] += 1
        tick(len(chunk))
    means = sums / counts
    reached = np.flatnonzero(means >= SHARE * means.max())
    return GradientReach(means, counts, int(reached[-1]) + 1 if means.max() > 0 else 0)


def gradient_map(
    q_net: RecurrentQNetwork, tape: Tape, n_steps: int, max_history: int, tick: Callable[[int], Any]
) -> np.ndarray:
    """
    :param q_net: of the agent
    :param tape: an episode
    :param n_steps: its first T steps
    :param max_history: the largest number of observations to go back over
    :param tick: called with the number of steps that were done
    :return: (T, T), row t column s: |dQ_t / dx_s|; nan where s lies after t, in another life, or too far back
    """
    found = np.full((n_steps, n_steps), np.nan)
    length = min(n_steps, max_history)
    for chunk in _chunks([(0, step) for step in range(n_steps)], length * tape.features[0].numel()):
        for row, (_, step) in zip(gradient_norms(q_net, [tape], chunk, length), chunk, strict=True):
            n = min(_age([tape], (0, step)), length)
            found[step, step - n + 1 : step + 1] = row[len(row) - n :]
        tick(len(chunk))
    return found


def gradient_norms(q_net: RecurrentQNetwork, tapes: Sequence[Tape], places: Sequence[Place], length: int) -> np.ndarray:
    """
    ‖∂Q_t/∂x_s‖, Frobenius norms over all actions and all features that the memory reads. Where an episode is longer
    than ``length``, the state before is that of the whole history, without gradient.

    :param q_net: of the agent
    :param tapes: to look at
    :param places: N steps t
    :param length: steps s to go back over at most, t included
    :return: (N, L), the last column is s = t
    """
    ends = [(tape, step + 1) for tape, step in places]
    features, starts = windows_before(tapes, ends, length)
    n_before = features.shape[1]
    with th.no_grad():
        begins = [(tape, max(step + 1 - n_before, tapes[tape].begin_of(step))) for tape, step in places]
        longest = max(step - tapes[tape].begin_of(step) for tape, step in begins)
        state = burnt_in(q_net.memory, tapes, begins, longest)
    # A window that does not begin its episode goes on from the state before it
    goes_on = th.as_tensor([not tapes[tape].starts[step] for tape, step in begins], device=features.device)
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


def _age(tapes: Sequence[Tape], place: Place) -> int:
    """:return: observations of its episode up to this place, itself included"""
    tape, step = place
    return step - tapes[tape].begin_of(step) + 1


def _chunks(places: list[Place], size: int) -> list[list[Place]]:
    n = min(max(CHUNK_SIZE // max(size, 1), 1), CHUNK_ROWS)
    return [places[i : i + n] for i in range(0, len(places), n)]
