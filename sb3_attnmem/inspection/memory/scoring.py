"""The score of an agent that plays with less and less of its memory."""

from contextlib import nullcontext

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.common import Bar
from sb3_attnmem.inspection.memory.history import HistoryScore, score_against_history
from sb3_attnmem.inspection.memory.playing import LastSteps, Results, play_episodes
from sb3_attnmem.inspection.memory.reach import observations_held

#: Steps that an episode may have; and how many times the longest with full memory, with less of it
MOST_STEPS, MOST_TIMES = 27_000, 10


def score_with_less(
    model: RecurrentDQN,
    env: VecEnv,
    full: Results,
    episodes: int,
    seed: int,
    tolerance: float,
    max_history: int,
    bar: Bar = lambda name, total, unit: nullcontext(lambda n: None),
) -> tuple[HistoryScore, int]:
    """
    Play the same episodes with the last k observations only, k = 1, 2, 4, …, and find the least k that is enough.

    :param model: the agent
    :param env: that it plays in
    :param full: what it scored with its full memory
    :param episodes: that each score is the mean of
    :param seed: of the first episode
    :param tolerance: share of the return that may be lost
    :param max_history: the largest k
    :param bar: opens a progress bar
    :return: the score against history, and how many episodes were given up
    """
    longest = int(full.lengths.max())
    whole = min(longest, observations_held(model.q_net.memory) or longest)
    most = min(max(MOST_TIMES * longest, 1_000), MOST_STEPS)
    n_cut = 0

    def returns_with(k: int) -> np.ndarray:
        nonlocal n_cut
        with bar(f"the last {k}" if k > 1 else "the present alone", episodes, "episodes") as tick:
            played = play_episodes(model, env, LastSteps(model.q_net, k), episodes, seed, most, tick)
        n_cut += played.n_cut
        return played.returns

    return score_against_history(full.returns, returns_with, whole, max_history, tolerance), n_cut
