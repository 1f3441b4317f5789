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


#: 1 / the golden ratio: multiples of it, without their whole parts, are spread evenly however many there are
SPREAD = (np.sqrt(5) - 1) / 2
#: steps after which an episode that goes on gets a new place on the ladder
LONG_EPISODE = 1_000


class Ladder:
    """
    Gives each episode a rate of exploration of its own: ε^(1 + α·u), u in [0, 1) being spread evenly over the episodes.
    Ape-X (Horgan et al., 2018, https://arxiv.org/abs/1803.00933) and R2D2 give one to each environment instead, which
    asks for many of them; this means the same with any number.

    :param alpha: α; 0 gives all episodes the same rate
    :param n_envs: N, environments
    :param n_episodes: that have begun already
    """

    def __init__(self, alpha: float, n_envs: int, n_episodes: int = 0) -> None:
        self.alpha = alpha
        self.n_episodes = n_episodes
        self._exponents = np.ones(n_envs)
        self._ages = np.zeros(n_envs, dtype=np.int64)

    def rates(self, epsilon: float, episode_starts: np.ndarray) -> float | np.ndarray:
        """
        Rates for the next step of all environments; called once a step.

        :param epsilon: ε
        :param episode_starts: (N,) bool, where an episode begins
        :return: the probability of a random action in all environments, or (N,) in each
        """
        if self.alpha == 0:
            return epsilon
        self._ages += 1
        anew = episode_starts | (self._ages > LONG_EPISODE)
        if anew.any():
            numbers = self.n_episodes + np.arange(anew.sum())
            self.n_episodes += len(numbers)
            self._exponents[anew] = 1 + self.alpha * (numbers * SPREAD % 1)
            self._ages[anew] = 1
        return epsilon**self._exponents


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
