"""The sections of a memory report: what each picture and table shows, and how to read it."""

from collections.abc import Iterator, Sequence

import numpy as np

from sb3_attnmem.inspection.memory.contamination import Contaminated, words_of
from sb3_attnmem.inspection.memory.exchange import Exchanged, words_of_exchange
from sb3_attnmem.inspection.memory.gaps_section import gaps_section
from sb3_attnmem.inspection.memory.history import HistoryScore
from sb3_attnmem.inspection.memory.page import PageImage, Section, Table
from sb3_attnmem.inspection.memory.pictures import (
    age_picture,
    as_png,
    contamination_picture,
    history_picture,
    map_picture,
    reach_picture,
)
from sb3_attnmem.inspection.memory.reach import GradientReach
from sb3_attnmem.inspection.memory.state_gap import StateGaps
from sb3_attnmem.inspection.memory.trace import EpisodeTrace
from sb3_attnmem.inspection.memory.trace_pictures import film_picture, trace_picture
from sb3_attnmem.inspection.memory.verdict import number, with_error

NOW, THEN = "step t that decides", "step s that is looked back at"


def sections_of(
    score: HistoryScore,
    reach: GradientReach,
    trace: EpisodeTrace,
    influence: np.ndarray,
    gaps: StateGaps,
    returns: np.ndarray,
    contaminated: Sequence[Contaminated] = (),
    exchanged: Exchanged | None = None,
) -> list[Section]:
    """
    Put all sections together.

    :param score: against history
    :param reach: of gradients
    :param trace: of an episode
    :param influence: (T, T), gradients in that episode
    :param gaps: ΔQ
    :param returns: (E,), of the episodes with full memory
    :param contaminated: what foreign history does, by its length
    :param exchanged: which past observation later Q-values rest on
    :return: all sections, first to last
    """
    return [
        _history(score, len(returns)),
        _reach(reach),
        *_exchange(exchanged),
        Section("One episode, step by step", list(_episode(trace, influence, returns[0]))),
        gaps_section(gaps),
        *_contamination(contaminated),
    ]


def _history(score: HistoryScore, episodes: int) -> Section:
    rows = [
        (str(point.k), with_error(point.mean, point.error), with_error(point.loss, point.loss_error))
        for point in score.points
    ]
    rows.append((f"{score.whole} (full memory)", with_error(score.mean, score.error), "0"))
    return Section(
        "Score against history",
        [
            "At every step the memory's state is rebuilt from its initial state over the last k observations of the "
            "episode, and nothing older. Where the score is that of full memory, nothing older is needed.",
            PageImage(
                as_png(history_picture(score)),
                f"Mean return of {episodes} greedy episodes; bars and band: two standard errors. In the table, ± is "
                "one.",
            ),
            Table(("k", "mean return", "loss to full memory, same seeds"), rows),
        ],
    )


def _reach(reach: GradientReach) -> Section:
    return Section(
        "Gradient reach",
        [
            "How much the Q-values of step t would move with what the memory read k steps before (the encoded "
            "features; Frobenius norm over all actions and features). A gradient says that something far back could "
            "matter, the score above whether it does.",
            PageImage(
                as_png(reach_picture(reach)),
                f"Mean over {reach.counts[0]:,} steps, {reach.counts[-1]:,} of them with the longest lag.",
            ),
        ],
    )


def _episode(trace: EpisodeTrace, influence: np.ndarray, total: float) -> Iterator[str | PageImage]:
    part = f", its first {trace.n_steps} steps" if trace.n_steps < len(trace.episode.starts) else ""
    yield f"The first episode ({len(trace.episode.starts)} steps, return {number(total)}){part}."
    film = film_picture(trace)
    if film is not None:
        yield PageImage(as_png(film), "Some of what it saw.")
    yield PageImage(as_png(trace_picture(trace)), "What the agent saw, did and got, beside what its memory did.")
    shown = f" (the first {len(influence)} steps)" if len(influence) < len(trace.episode.starts) else ""
    label = "$|\\partial Q_t / \\partial x_s|$ (Q per unit of feature)"
    yield PageImage(
        as_png(map_picture(influence, label, THEN, NOW, log=True)),
        f"Gradients in this episode{shown}: a bright column is an observation that later Q-values go on moving with.",
    )
    for name, weights in trace.past.items():
        yield PageImage(
            as_png(map_picture(weights.max(axis=0), "attention weight, largest of the heads", THEN, NOW)),
            f"Attention over the past, grey where it cannot look: {name}.",
        )
        yield PageImage(as_png(age_picture(weights)), f"The same by age, mean over the steps: {name}.")
    for name, weights in trace.slots.items():
        for head, by_step in enumerate(weights):
            yield PageImage(
                as_png(map_picture(by_step.T, f"{_verb(name)} weight", "step of the episode", "slot", square=False)),
                f"{_verb(name).capitalize()} weights of the slots{f', head {head}' if len(weights) > 1 else ''}.",
            )
    for name, weights in trace.places.items():
        for head, by_step in enumerate(weights):
            yield PageImage(
                as_png(map_picture(by_step.T, "attention weight", "step of the episode", "place", square=False)),
                f"Attention over the places of the feature map, row by row: {name}, head {head}.",
            )


def _exchange(found: Exchanged | None) -> Iterator[Section]:
    if found is None:
        return
    yield Section(
        "Exchanged observations",
        [
            words_of_exchange(found),
            PageImage(
                as_png(
                    map_picture(found.gaps, "ΔQ", "exchanged: step, or block of steps, in order", NOW, square=False)
                ),
                "One by one, the first episode's observations are what other episodes showed at the same step, where "
                "that is something else: a bright column is one that later Q-values rest on. This tells what another "
                "observation would change, where a gradient tells what a small change would.",
            ),
        ],
    )


def _contamination(contaminated: Sequence[Contaminated]) -> Iterator[Section]:
    if not contaminated:
        return
    rows = [
        (str(one.k), number(one.recovery) if np.isfinite(one.recovery) else "never", f"{100 * one.never:.0f} %")
        for one in contaminated
    ]
    yield Section(
        "Contamination",
        [
            words_of(contaminated),
            PageImage(
                as_png(contamination_picture(contaminated)),
                "The memory ran over the last k steps of another episode, then this one began unannounced. Distance to "
                f"the Q-values of a clean memory, mean of {contaminated[0].n_pairs} episodes.",
            ),
            Table(("k foreign steps", "steps until clean (median)", "never clean"), rows),
        ],
    )


def _verb(name: str) -> str:
    return "write" if name.endswith("writing") else "read"
