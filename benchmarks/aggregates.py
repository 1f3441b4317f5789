"""
What runs on several tasks come to, with stratified bootstrap intervals (Agarwal et al., 2021,
https://arxiv.org/abs/2108.13264).

    pip install rliable "pandas<3"    # rliable's own requirements want pandas 2
"""

import numpy as np

#: resamples of the bootstrap
RESAMPLES = 2_000


def together(of_tasks: list[list[float]], of_others: list[list[float]] | None = None) -> str:
    """
    :param of_tasks: of each task the scores of as many seeds, two at least
    :param of_others: of another agent
    :return: interquartile mean, or the probability of a better score than the other's, and its interval of 95 %; a dash
        where runs are missing
    """
    if len({len(runs) for runs in of_tasks + (of_others or [])}) != 1 or len(of_tasks[0]) < 2:
        return "–"
    from rliable import library, metrics

    def measure(*runs: np.ndarray) -> np.ndarray:
        return np.array([(metrics.aggregate_iqm if len(runs) == 1 else metrics.probability_of_improvement)(*runs)])

    runs = tuple(np.array(each).T for each in (of_tasks, of_others) if each is not None)  # (seeds, tasks)
    found, intervals = library.get_interval_estimates(
        {"agent": runs if len(runs) == 2 else runs[0]}, measure, reps=RESAMPLES
    )
    low, high = intervals["agent"].ravel()
    return f"{found['agent'][0]:.2f} ({low:.2f} to {high:.2f})"
