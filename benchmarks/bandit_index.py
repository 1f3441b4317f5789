"""
What simple players get in popgym's bandits, whose scores say how much is left to learn: the posterior mean of each arm
(uniform prior), plus so many of its standard deviations. With none it is the best that gamma 0 can learn. Two seconds.

    python benchmarks/bandit_index.py
"""

import numpy as np

GAMES = 2_000
#: task -> arms, steps of an episode
TASKS = {"MultiarmedBanditEasy": (10, 200), "MultiarmedBanditMedium": (20, 400)}
DEVIATIONS = (0.0, 0.5, 1.0, 1.5, 2.0)


def mean_return(n_arms: int, n_steps: int, deviations: float, rng: np.random.Generator) -> float:
    """
    :param n_arms: each pays with a probability between 0 and 1, evenly drawn
    :param n_steps: of an episode; each gives 1 / n_steps or takes it
    :param deviations: of the posterior, added to its mean
    :param rng: of arms, payments and ties
    :return: mean over ``GAMES`` episodes
    """
    pays = rng.random((GAMES, n_arms))
    won, lost = np.ones_like(pays), np.ones_like(pays)
    games, total = np.arange(GAMES), 0.0
    for _ in range(n_steps):
        mean = won / (won + lost)
        index = mean + deviations * np.sqrt(mean * (1 - mean) / (won + lost + 1))
        arm = (index + 1e-6 * rng.random(index.shape)).argmax(1)
        paid = rng.random(GAMES) < pays[games, arm]
        won[games, arm] += paid
        lost[games, arm] += ~paid
        total += (2 * paid - 1).mean()
    return total / n_steps


def main() -> None:
    rng = np.random.default_rng(0)
    print(f"| task | {' | '.join(f'{deviations:g} deviations' for deviations in DEVIATIONS)} |")
    print("|---" * (len(DEVIATIONS) + 1) + "|")
    for task, (n_arms, n_steps) in TASKS.items():
        scores = [f"{mean_return(n_arms, n_steps, deviations, rng):.3f}" for deviations in DEVIATIONS]
        print(f"| {task} | {' | '.join(scores)} |")


if __name__ == "__main__":
    main()
