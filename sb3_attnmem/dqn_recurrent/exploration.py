"""Random actions: how probable they are, how long they last, and the toss for each environment."""

import numpy as np

#: exponent of the distribution of how long random actions are held, the best one of Dabney et al. (2020)
MU = 2.0


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

    :param n_envs: N, environments
    :param n_episodes: that have begun already
    :param stride: from the number of one episode to that of the next: where several share one ladder, each begins with
        a number of its own
    """

    def __init__(self, n_envs: int, n_episodes: int = 0, stride: int = 1) -> None:
        self.n_episodes, self.stride = n_episodes, stride
        self._places = np.zeros(n_envs)  # u
        self._ages = np.zeros(n_envs, dtype=np.int64)

    def rates(self, epsilon: float, alpha: float, episode_starts: np.ndarray) -> float | np.ndarray:
        """
        Rates for the next step of all environments; called once a step.

        :param epsilon: ε
        :param alpha: α; 0 gives all episodes the same rate
        :param episode_starts: (N,) bool, where an episode begins
        :return: the probability of a random action in all environments, or (N,) in each
        """
        self._ages += 1
        anew = episode_starts | (self._ages > LONG_EPISODE)
        if anew.any():
            numbers = self.n_episodes + np.arange(anew.sum()) * self.stride
            self.n_episodes += len(numbers) * self.stride
            self._places[anew] = numbers * SPREAD % 1
            self._ages[anew] = 1
        return epsilon ** (1 + alpha * self._places) if alpha > 0 else epsilon

    @staticmethod
    def middle(epsilon: float, alpha: float) -> float:
        """
        :param epsilon: ε
        :param alpha: α
        :return: the rate of the episode in the middle, u = 1/2: as many explore more as less
        """
        return epsilon ** (1 + alpha / 2)


def draw_actions(n: int, n_actions: int, generator: np.random.Generator, valid: np.ndarray | None = None) -> np.ndarray:
    """
    Draw random actions.

    :param n: B
    :param n_actions: A
    :param generator: that draws
    :param valid: (B, A) bool, the actions to draw from, at least one in each row; None: all
    :return: (B,) actions
    """
    if valid is None:
        return generator.integers(n_actions, size=n)
    counts = valid.sum(axis=1)
    place = (generator.random(n) * counts).astype(np.int64)  # of the valid ones, which is drawn
    return (valid.cumsum(axis=1) > place[:, None]).argmax(axis=1)


def explore(
    greedy: np.ndarray,
    epsilon: float | np.ndarray,
    n_actions: int,
    generator: np.random.Generator,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """
    Replace greedy actions by random ones, tossed for each of them.

    :param greedy: (B,) actions
    :param epsilon: probability of a random action, the same for all or (B,)
    :param n_actions: random actions are drawn from 0 to ``n_actions`` - 1
    :param generator: that tosses and draws
    :param valid: (B, n_actions) bool, the actions to draw from; None: all
    :return: (B,) actions
    """
    exploring = generator.random(len(greedy)) < epsilon
    if exploring.any():
        greedy = np.where(exploring, draw_actions(len(greedy), n_actions, generator, valid), greedy)
    return greedy


class HeldActions:
    """
    Temporally extended ε-greedy exploration (Dabney et al., 2020, https://arxiv.org/abs/2006.01782): a random action is
    held for k steps, k drawn from a zeta distribution, p(k) ∝ k^-2, cut off at a longest k. ε is the
    probability that one begins at a step where none is held, so that the share of random steps is larger than ε.

    :param n_envs: B, environments, each of which holds actions of its own
    :param longest: the largest k
    """

    def __init__(self, n_envs: int, longest: int) -> None:
        self.longest = longest
        #: (B,) the actions held last, and the steps that each is still to be held
        self.actions, self.left = np.zeros(n_envs, dtype=np.int64), np.zeros(n_envs, dtype=np.int64)
        weights = np.arange(1, longest + 1, dtype=np.float64) ** -MU
        self._cumulative = np.cumsum(weights / weights.sum())

    def end(self, which: np.ndarray) -> None:
        """
        Let go of actions, since their episodes ended.

        :param which: (B,) bool, of these environments
        """
        self.left[which] = 0

    def explore(
        self,
        greedy: np.ndarray,
        epsilon: float | np.ndarray,
        n_actions: int,
        generator: np.random.Generator,
        valid: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Go on with what is held; elsewhere replace greedy actions by random ones, tossed for each of them.

        :param greedy: (B,) actions
        :param epsilon: probability that a random action begins, the same for all or (B,)
        :param n_actions: random actions are drawn from 0 to ``n_actions`` - 1
        :param generator: that tosses and draws, as often at every step
        :param valid: (B, n_actions) bool, the actions that may be taken; what is held ends where it may not. None: all
        :return: (B,) actions
        """
        n_envs = len(greedy)
        if valid is not None:
            self.left[~valid[np.arange(n_envs), self.actions]] = 0
        begins = (generator.random(n_envs) < epsilon) & (self.left == 0)
        drawn = draw_actions(n_envs, n_actions, generator, valid)
        durations = np.searchsorted(self._cumulative, generator.random(n_envs), side="right") + 1
        self.actions = np.where(begins, drawn, self.actions)
        self.left = np.where(begins, np.minimum(durations, self.longest), self.left)
        held = self.left > 0
        self.left -= held
        return np.where(held, self.actions, greedy)
