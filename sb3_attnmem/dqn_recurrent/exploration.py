"""Random actions: how probable they are, and the toss for each environment."""

import numpy as np


def own_generators(seed: int | None) -> tuple[np.random.Generator, np.random.Generator]:
    """
    Make the generators of exploring and of predicting, so that neither disturbs the other.

    :param seed: of both; None draws it from numpy's global generator
    :return: for exploring in training, for ``predict``
    """
    if seed is None:
        return np.random.default_rng(np.random.randint(2**31)), np.random.default_rng(np.random.randint(2**31))
    exploring, predicting = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(exploring), np.random.default_rng(predicting)


def ladder(epsilon: float, alpha: float, n_envs: int) -> float | np.ndarray:
    """
    ε_i = ε^(1 + α·i/(N − 1)) (Ape-X: Horgan et al., 2018, https://arxiv.org/abs/1803.00933; R2D2).

    :param epsilon: ε, the probability of a random action in the first environment
    :param alpha: α; 0 gives all the same
    :param n_envs: N
    :return: the probability in all environments, or (N,) in each
    """
    if alpha == 0 or n_envs == 1:
        return epsilon
    return epsilon ** (1 + alpha * np.arange(n_envs) / (n_envs - 1))


def explore(
    greedy: np.ndarray, epsilon: float | np.ndarray, n_actions: int, generator: np.random.Generator
) -> np.ndarray:
    """
    Replace greedy actions by random ones, tossed for each of them.

    :param greedy: (B,) actions
    :param epsilon: probability of a random action, the same for all or (B,)
    :param n_actions: random actions are drawn from 0 to ``n_actions`` - 1
    :param generator: that tosses and draws
    :return: (B,) actions
    """
    exploring = generator.random(len(greedy)) < epsilon
    if exploring.any():
        greedy = np.where(exploring, generator.integers(n_actions, size=len(greedy)), greedy)
    return greedy
