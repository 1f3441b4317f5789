"""What the figures say, in plain words with the numbers behind them."""

import math

from sb3_attnmem.inspection.memory.history import HistoryScore, Point, within
from sb3_attnmem.inspection.memory.reach import SHARE, GradientReach


def verdict(score: HistoryScore, episodes: int, has_memory: bool) -> str:
    """
    Say how much history the agent uses.

    :param score: against history
    :param episodes: that each figure is the mean of
    :param has_memory: False for ``memory_class="none"``
    :return: the verdict, one sentence or a few
    """
    alone = score.point(1)
    full = with_error(score.mean, score.error)
    if not has_memory:
        return f"This agent has no memory: each action depends on the present observation alone (return {full})."
    if score.needed is None:
        worst = score.point(score.searched)
        assert worst is not None
        return (
            f"This agent uses more than {score.searched} steps of history: rebuilt from so many, "
            f"{_falls(worst, score.mean)}. Search further with a larger max_history. {_alone(alone, score)}"
        ).strip()
    if score.needed == 1:
        if alone is None:
            return "Every episode ends after its first step: there is nothing to remember."
        if _undecided(score, alone):
            return (
                f"No use of memory was found: with k = 1 {_falls(alone, score.mean)}, but {episodes} episodes tell "
                f"only losses above {number(alone.noise)} from chance. Play more episodes."
            )
        return f"Memory is not used: with k = 1 {_falls(alone, score.mean)}."
    chosen = score.point(score.needed)
    if chosen is None:  # full memory itself
        words = f"This agent uses all the history there is, {score.needed} observations: with it, it scores {full},"
        return f"{words} {_fewer(score)} {_alone(alone, score)}".strip()
    about = "" if score.needed <= 32 else "about "
    if _undecided(score, chosen):  # fewer are clearly too few, so many may be
        about = "at least " + about
    words = (
        f"This agent uses {about}{score.needed} steps of history: with its state rebuilt from the last {score.needed} "
        f"observations it scores {with_error(chosen.mean, chosen.error)}, with full memory {full},"
    )
    return f"{words} {_fewer(score)} {_alone(alone, score)}".strip()


def remarks(score: HistoryScore, reach: GradientReach, episodes: int) -> list[str]:
    """
    Say what else there is to know.

    :param score: against history
    :param reach: of gradients
    :param episodes: that each figure is the mean of
    :return: what else to know before the verdict is believed
    """
    found = []
    if reach.observations:
        found.append(
            f"Gradients reach back over the last {reach.observations} observations: the Q-values' gradient at a lag of "
            f"{reach.observations - 1} is still at least {100 * SHARE:g} % of the largest."
            + (f" {_as_far(score)}" if reach.observations == len(reach.means) > 1 else "")
        )
    else:
        found.append("The Q-values do not move with any observation.")
    chosen = score.point(score.needed) if score.needed is not None else None
    if chosen is not None and score.needed != 1 and _undecided(score, chosen):
        found.append(
            f"With {episodes} episodes, a loss at k = {chosen.k} of up to {number(chosen.noise)} cannot be "
            f"told from chance, more than the {number(score.allowed)} allowed: play more episodes to be sure of k."
        )
    lucky = [point for point in score.points if score.needed and point.k < score.needed and within(score, point)]
    if lucky:
        found.append(
            f"The score does not rise evenly: at k = {lucky[0].k} it is within the tolerance already "
            f"({with_error(lucky[0].mean, lucky[0].error)}), and falls below it again before k = {score.needed}."
        )
    if episodes == 1:
        found.append("One episode tells nothing about chance: play more.")
    better = [point for point in score.points if -point.loss > max(score.allowed, point.noise)]
    if better:
        best = min(better, key=lambda point: point.loss)
        found.append(
            f"Older history harms: with the last {best.k} observations alone the return is "
            f"{with_error(-best.loss, best.loss_error)} higher than with full memory."
        )
    return found


def number(value: float) -> str:
    """:return: with three digits, or all before the point"""
    if not math.isfinite(value):
        return "?"
    return _rounded(value, 3)


def with_error(value: float, error: float) -> str:
    """:return: a mean ± its standard error, both to the error's second digit"""
    if not math.isfinite(error) or error == 0:
        return f"{number(value)} ± {number(error)}"
    decimals = max(1 - math.floor(math.log10(error)), 0)
    return f"{value:,.{decimals}f} ± {error:,.{decimals}f}"


def _rounded(value: float, digits: int) -> str:
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0) if abs(value) >= 1e-4 else 4
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _undecided(score: HistoryScore, point: Point) -> bool:
    """:return: whether chance could hide more than the tolerance"""
    return point.noise > score.allowed and point.loss + point.noise > score.allowed


def _falls(point: Point, full: float) -> str:
    """:return: the loss in words, as a share where there is something to be a share of"""
    share = f"{100 * abs(point.loss) / abs(full):.0f} %" if abs(full) > 1e-9 else number(abs(point.loss))
    way = "falls" if point.loss >= 0 else "rises"
    return (
        f"the return {way} by {share} (from {number(full)} to {number(point.mean)}; the difference is "
        f"{with_error(abs(point.loss), point.loss_error)})"
    )


def _as_far(score: HistoryScore) -> str:
    if score.searched == score.whole:
        return "That is all there is: the beginning of the longest episodes, or all that the memory can hold."
    return "That is as far back as was looked."


def _fewer(score: HistoryScore) -> str:
    """:return: what the largest k scored that is clearly too few"""
    assert score.needed is not None
    below = [point for point in score.points if point.k < score.needed]
    clear = [point for point in below if point.loss > 2 * max(score.allowed, point.noise)] or below
    point = max(clear, key=lambda point: point.k)
    return f"with the last {point.k} only {with_error(point.mean, point.error)}."


def _alone(alone: Point | None, score: HistoryScore) -> str:
    below = [point.k for point in score.points if score.needed is None or point.k < score.needed]
    if alone is None or below == [1]:
        return ""
    return f"With the present observation alone it scores {with_error(alone.mean, alone.error)}."
