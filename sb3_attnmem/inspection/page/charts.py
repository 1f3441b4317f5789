"""What was found over many episodes, as the charts of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_attnmem.inspection.memory.contamination import Contaminated, words_of
from sb3_attnmem.inspection.memory.exchange import Exchanged, words_of_exchange
from sb3_attnmem.inspection.memory.history import SURE, HistoryScore
from sb3_attnmem.inspection.memory.reach import GradientReach


def charts_of(
    score: HistoryScore, reach: GradientReach, contaminated: Sequence[Contaminated], exchanged: Exchanged | None
) -> list[dict[str, Any]]:
    """
    Describe charts.

    :param score: against history
    :param reach: of gradients
    :param contaminated: what foreign history does, by its length
    :param exchanged: which past observation later Q-values rest on
    :return: for ``lineChart`` in draw.js
    """
    found = []
    if score.points:
        found.append(_history(score))
    if len(reach.means) > 1:
        found.append(_reach(reach))
    if exchanged is not None:
        found.append(_exchange(exchanged))
    if contaminated:
        found.append(_contamination(contaminated))
    return found


def _history(score: HistoryScore) -> dict[str, Any]:
    marks: list[dict[str, Any]] = [{"y": score.mean, "name": "full memory"}]
    if score.needed is not None:
        marks.append({"x": score.needed, "name": f"enough: {score.needed}"})
    return {
        "title": "Score against history",
        "note": "At every step the state is rebuilt over the last k observations and nothing older; bars: two standard "
        "errors. Where the score is that of full memory, nothing older is needed.",
        "x": "k, observations (the present one included)",
        "log": True,
        "series": [
            {
                "name": "mean return",
                "x": [point.k for point in score.points],
                "y": [point.mean for point in score.points],
                "error": np.nan_to_num([SURE * point.error for point in score.points]).tolist(),
            }
        ],
        "marks": marks,
    }


def _reach(reach: GradientReach) -> dict[str, Any]:
    return {
        "title": "Gradient reach",
        "note": "How much the Q-values of a step move with what the memory read k steps before, mean over "
        f"{reach.counts[0]:,} steps: what could matter, where the score above says what does.",
        "x": "k, steps back from the present",
        "series": [{"name": "|∂Q/∂x|", "x": list(range(len(reach.means))), "y": reach.means.tolist()}],
        "marks": [{"x": reach.observations - 1, "name": f"reached: {reach.observations - 1}"}],
    }


def _exchange(exchanged: Exchanged) -> dict[str, Any]:
    there = np.isfinite(exchanged.gaps[exchanged.step])
    return {
        "title": "Exchanged observations",
        "note": f"{words_of_exchange(exchanged)} ΔQ at step {exchanged.step} of the first episode, where what it saw "
        "before is what other episodes saw.",
        "x": "step, or first step of a block, that is exchanged",
        "series": [
            {
                "name": "ΔQ",
                "x": exchanged.begins[there].tolist(),
                "y": exchanged.gaps[exchanged.step][there].tolist(),
            }
        ],
        "marks": [{"x": exchanged.cause, "name": f"most: {exchanged.cause}"}],
    }


def _contamination(contaminated: Sequence[Contaminated]) -> dict[str, Any]:
    return {
        "title": "Contamination",
        "note": f"{words_of(contaminated)} The memory ran over the last k steps of another episode, then this one "
        "began unannounced; ΔQ, the distance to the Q-values of a clean memory over the largest of them.",
        "x": "step of the episode",
        "series": [
            {"name": f"{one.k} foreign steps", "x": list(range(len(one.gaps))), "y": one.gaps.tolist()}
            for one in contaminated
        ],
        "marks": [],
    }
