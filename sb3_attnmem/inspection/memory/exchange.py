"""Which past observations Q-values rest on: one by one they are exchanged for those of another episode."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.dqn_recurrent import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.metrics import q_gaps
from sb3_attnmem.inspection.memory.contamination import CLEAN
from sb3_attnmem.inspection.memory.played import PlayedEpisode

#: Blocks that an episode is cut into, exchanges of each at most, steps that are looked at
N_BLOCKS, N_DONORS, MOST_STEPS = 64, 4, 2_000
#: Numbers that the memory reads in one pass
CHUNK_SIZE = 4_000_000


class Exchanged(NamedTuple):
    """
    What Q-values do where past observations are those of other episodes.

    :param begins: (S,), first steps of the blocks that were exchanged, one at a time; each ends where the next begins
    :param gaps: (T, S), mean ΔQ (see :func:`sb3_attnmem.dqn_recurrent.metrics.delta_q`) at step t with block s
        exchanged; nan where t lies before the block, or no other episode has these steps
    :param step: t at which a block that had ended by then moves Q-values most; of the steps at which it changes what
        the agent does, if there are any
    :param cause: the step of this block that does
    :param gap: ΔQ at ``step`` with ``cause`` alone exchanged
    :param other_actions: share of the exchanges of ``cause`` after which the greedy action at ``step`` is another
    :param others: largest ΔQ at ``step`` of all other steps of this block, and all other blocks that had ended by then
    :param n_exchanges: of ``cause``
    """

    begins: np.ndarray
    gaps: np.ndarray
    step: int
    cause: int
    gap: float
    other_actions: float
    others: float
    n_exchanges: int


def exchange(q_net: RecurrentQNetwork, episodes: Sequence[PlayedEpisode], rng: np.random.Generator) -> Exchanged | None:
    """
    Exchange what the memory read at some steps of the first episode for what it read at the same steps of others: in
    blocks first, then step by step in the block that later Q-values rest on most. Unlike a gradient, this tells what
    *another* observation would have changed, of those that occur.

    :param q_net: of the agent
    :param episodes: that it played
    :param rng: draws the other episodes
    :return: what was found; None where there is no memory, no other episode, or nothing after a first step
    """
    n_steps = min(episodes[0].first_life, MOST_STEPS)
    if n_steps < 2 or len(episodes) < 2 or not q_net.memory.initial_state(1):
        return None
    donors = [episodes[i] for i in 1 + rng.permutation(len(episodes) - 1)]
    begins = np.unique(np.linspace(0, n_steps, min(N_BLOCKS, n_steps), endpoint=False).astype(int))
    ends = np.append(begins[1:], n_steps)
    spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
    with th.no_grad():
        gaps, acted, _ = _exchanged(q_net, episodes[0], donors, spans, n_steps)
        steps = np.arange(n_steps)[:, None]
        past = np.where(steps >= ends, np.nan_to_num(gaps, nan=-1.0), -1.0)
        decides = (past >= 0) & (np.nan_to_num(acted) > 0)
        strongest_of = np.where(decides, past, -1.0) if decides.any() else past
        step, block = np.unravel_index(int(strongest_of.argmax()), past.shape)
        alone = [(one, one + 1) for one in range(*spans[block])]
        by_step, other_actions, counts = _exchanged(q_net, episodes[0], donors, alone, n_steps)
    of_steps = np.nan_to_num(by_step[step], nan=-1.0)
    strongest = int(of_steps.argmax())
    return Exchanged(
        begins=begins,
        gaps=np.where(steps >= begins, gaps, np.nan),
        step=int(step),
        cause=int(begins[block]) + strongest,
        gap=float(by_step[step, strongest]),
        other_actions=float(other_actions[step, strongest]),
        others=float(
            max(np.delete(past[step], block).max(initial=0.0), np.delete(of_steps, strongest).max(initial=0.0))
        ),
        n_exchanges=int(counts[strongest]),
    )


def _exchanged(
    q_net: RecurrentQNetwork,
    episode: PlayedEpisode,
    donors: Sequence[PlayedEpisode],
    spans: Sequence[tuple[int, int]],
    n_steps: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:return: (T, S) ΔQ, and how often the greedy action is another; nan where no donor is so long; (S,) exchanges"""
    features = episode.features[:n_steps]
    rows: list[tuple[int, int, int, PlayedEpisode]] = []
    known = np.zeros(len(spans), bool)
    for i, (begin, end) in enumerate(spans):
        long_enough = [donor for donor in donors if donor.first_life > begin]
        known[i] = bool(long_enough)
        spans_of = [(i, begin, min(end, donor.first_life), donor) for donor in long_enough]
        differ = (one for one in spans_of if not th.equal(one[3].features[begin : one[2]], features[begin : one[2]]))
        rows += islice(differ, N_DONORS)
    sums, counts = np.zeros((2, n_steps, len(spans))), np.zeros(len(spans))
    clean = _q_values(q_net, features.unsqueeze(0))
    n = max(CHUNK_SIZE // features.numel(), 1)
    for chunk in (rows[i : i + n] for i in range(0, len(rows), n)):
        changed = features.repeat(len(chunk), *[1] * features.dim())
        for row, (_, begin, end, donor) in zip(changed, chunk, strict=True):
            row[begin:end] = donor.features[begin:end]
        q_values = _q_values(q_net, changed)
        there = th.ones(q_values.shape[:2], dtype=th.bool, device=q_values.device)
        gaps = q_gaps(q_values, clean.expand_as(q_values), there).cpu().numpy()
        other = (q_values.argmax(dim=-1) != clean.argmax(dim=-1)).cpu().numpy()
        for (i, *_), gap, differs in zip(chunk, gaps, other, strict=True):
            sums[:, :, i] += gap, differs
            counts[i] += 1
    gaps, other_actions = np.where(known, sums / np.maximum(counts, 1), np.nan)
    return gaps, other_actions, counts


def _q_values(q_net: RecurrentQNetwork, features: th.Tensor) -> th.Tensor:
    """:return: (B, T, A) of sequences that begin with an episode"""
    starts = th.zeros(features.shape[:2], dtype=th.bool, device=features.device)
    starts[:, 0] = True
    latents = q_net.memory.unroll(features, q_net.memory.initial_state(len(features)), starts)
    return q_net.head(features, latents)


def words_of_exchange(found: Exchanged | None) -> str:
    """
    Say which observation Q-values rest on.

    :param found: what was found
    :return: a sentence; empty where nothing was measured
    """
    if found is None:
        return ""
    if found.gap <= CLEAN:
        return "Past observations exchanged for those of another episode do not move its Q-values."
    back, n = found.step - found.cause, found.n_exchanges
    return (
        f"Of the past, the Q-values of step {found.step} rest on observation {found.cause} most, "
        f"{back} step{'s' * (back > 1)} back: exchanged for that of another episode, it moves them by "
        f"{100 * found.gap:.0f} % and changes the action in {100 * found.other_actions:.0f} % of {n} "
        f"exchange{'s' * (n > 1)}; any other, by {100 * found.others:.0f} % at most."
    )
