"""The λ-discrepancy: whether values learned step by step agree with those learned from whole returns."""

from typing import NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.doctor.playing import Play
from sb3_attnmem.doctor.tables import GAMMA, discounted_returns, return_is_known

#: random cosine features, and the steps that they are fitted to at most
N_FEATURES, LARGEST_SAMPLE = 100, 20_000


class Discrepancy(NamedTuple):
    """
    :param share: root mean square of TD(0)'s minus TD(1)'s values, over the deviation of the returns
    :param error: its standard error
    """

    share: float
    error: float

    @property
    def clear(self) -> bool:
        """:return: whether it is there beyond chance, and large enough to matter"""
        return self.share > 0.05 and self.share > 3 * self.error


def lambda_discrepancy(play: Play, seen: th.Tensor, times: th.Tensor, seed: int, folds: int = 4) -> Discrepancy | None:
    """
    Values V(o) of random play, fitted by TD(0) (LSTD: what one step says) and by TD(1) (the returns). Where the
    observation is the state, the two agree; where it hides something, they do not (Allen et al., 2024,
    https://arxiv.org/abs/2407.07333). Fitted on halves of the episodes, so that chance cancels in their product.

    :param play: episodes
    :param seen: (N, M) observations
    :param times: (N,) steps of the episode before each
    :param seed: of the features and the halves
    :param folds: pairs of halves
    :return: None where random play gave too few returns, or all were alike
    """
    usable = np.flatnonzero(return_is_known(play) & ~play.truncated)
    episodes = np.unique(play.episodes[usable])
    returns = discounted_returns(play)
    if len(episodes) < 20 or returns[usable].std() < 1e-9:
        return None
    generator = th.Generator().manual_seed(seed)
    clock = (times.float() / max(int(times.max()), 1)).unsqueeze(1)
    inputs = th.cat([seen, clock], dim=1)
    directions = th.randn(inputs.shape[1], N_FEATURES, generator=generator) / inputs.shape[1] ** 0.5
    features = th.cat(
        [th.ones(len(seen), 1), inputs, th.cos(inputs @ directions + 6.28 * th.rand(N_FEATURES, generator=generator))],
        1,
    ).double()
    following = th.zeros_like(features)
    same = th.as_tensor(play.episodes[1:] == play.episodes[:-1])
    following[:-1][same] = features[1:][same]
    rng = np.random.default_rng(seed)
    goal, rewards = th.as_tensor(returns), th.as_tensor(play.rewards)
    found = []
    for _ in range(folds):
        halves = np.array_split(rng.permutation(episodes), 2)
        gaps = []
        for half in halves:
            which = usable[np.isin(play.episodes[usable], half)][:LARGEST_SAMPLE]
            x, y = features[which], following[which]
            penalty = 1e-3 * len(which) * th.eye(x.shape[1], dtype=th.float64)
            td_0 = th.linalg.solve(x.T @ (x - GAMMA * y) + penalty, x.T @ rewards[which])
            td_1 = th.linalg.solve(x.T @ x + penalty, x.T @ goal[which])
            gaps.append(features[usable] @ (td_0 - td_1))
        found.append(float((gaps[0] * gaps[1]).mean()) / returns[usable].var())
    shares = np.sqrt(np.maximum(found, 0.0))
    return Discrepancy(float(np.sqrt(max(np.mean(found), 0.0))), float(shares.std() / np.sqrt(folds)))
