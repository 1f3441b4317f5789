"""How far back an agent must remember: where the error of small predictors stops falling."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from sb3_attnmem.doctor.playing import Play
from sb3_attnmem.doctor.predictors import Predictor, Split, Targets, Windows, split_episodes
from sb3_attnmem.doctor.tables import code_observations, make_targets, make_windows

#: a longer window helps when it explains this share of the variance, and this share of what was unexplained, with so
#: many standard errors
SHARE, RELATIVE, ERRORS = 0.01, 0.05, 2.5
#: what is unexplained of a target that is as good as known
KNOWN = 0.05
#: of a reward as good as not known at all, and how often it must be seen to say that it is chance
UNKNOWN, OFTEN = 0.9, 100
#: episodes drawn again and again for the confidence
N_DRAWS = 200

WORDS = {
    "reward": "the reward",
    "termination": "the end of the episode",
    "return": "the return to go (of random play)",
    "observation": "the next observation",
}


@dataclass
class MemoryNeed:
    """
    :param windows: k, observations that predictors saw, the present one included
    :param unexplained: of each target, the share of its variance that k observations left unexplained, one for each k
    :param needs: of each target, the k where the error stops falling; targets that do not vary are not there
    :param need: the k that matters for acting
    :param confidence: share of resampled sets of episodes that give the same k
    :param at_least: whether the error still fell at the longest window
    :param from_start: whether k reaches back to the beginning of most episodes
    :param with_state: of each target, what the full state left unexplained; None where the environment shows none
    :param why: which target asked for it
    :param unused: targets that never varied
    :param too_rare: targets that nothing foretells, and how often they were seen to differ: too seldom to tell
    """

    windows: list[int]
    unexplained: dict[str, list[float]]
    needs: dict[str, int]
    need: int
    confidence: float
    at_least: bool
    from_start: bool
    with_state: dict[str, float] | None
    why: str
    unused: list[str] = field(default_factory=list)
    too_rare: dict[str, int] = field(default_factory=dict)


class _Errors:
    """Squared errors of the test episodes, window by window."""

    def __init__(self, targets: Targets, split: Split, episodes: np.ndarray) -> None:
        self.targets, self.split = targets, split
        _, self.places = np.unique(episodes[split.test.numpy()], return_inverse=True)
        known = targets.known[split.test]
        values = targets.values[split.test]
        self.n_episodes = int(self.places.max()) + 1
        self.counts = {name: self._sum(known[:, columns]) for name, columns in targets.blocks.items()}
        self.varying = [name for name, columns in targets.blocks.items() if bool((values[:, columns] != 0).any())]
        self.sums: dict[int, dict[str, np.ndarray]] = {}

    def _sum(self, errors: th.Tensor) -> np.ndarray:
        return np.bincount(self.places, weights=errors.sum(1).numpy(), minlength=self.n_episodes)

    def add(self, k: int, errors: th.Tensor) -> None:
        self.sums[k] = {name: self._sum(errors[:, columns]) for name, columns in self.targets.blocks.items()}

    def share(self, k: int, name: str, weights: np.ndarray | None = None) -> float:
        w = np.ones(self.n_episodes) if weights is None else weights
        return float((w * self.sums[k][name]).sum() / max((w * self.counts[name]).sum(), 1e-9))

    def helps(self, name: str, k: int, longer: int, weights: np.ndarray | None = None) -> bool:
        """:return: whether a longer window explains more of a target, clearly and to an extent that matters"""
        before, after = self.share(k, name, weights), self.share(longer, name, weights)
        if before - after < max(SHARE, RELATIVE * before):
            return False
        w = np.ones(self.n_episodes) if weights is None else weights
        gaps = np.repeat(self.sums[k][name] - self.sums[longer][name], w.astype(int))
        return bool(gaps.mean() > ERRORS * gaps.std() / math.sqrt(len(gaps)))

    def need(self, name: str, weights: np.ndarray | None = None) -> int:
        windows = sorted(self.sums)
        for k in windows:
            if not any(self.helps(name, k, longer, weights) for longer in windows if longer > k):
                return k
        return windows[-1]

    def verdict(self, weights: np.ndarray | None = None) -> tuple[int, dict[str, int], str]:
        needs = {name: self.need(name, weights) for name in self.varying}
        acting = {name: k for name, k in needs.items() if name != "observation"}
        k = max(acting.values(), default=1)
        told = [name for name in ("reward", "termination") if name in needs]
        # What is seen next matters only as far as rewards and ends depend on it
        all_known = bool(told) and "reward" in told and all(self.share(k, name, weights) < KNOWN for name in told)
        relevant = acting if all_known else needs
        k = max(relevant.values(), default=1)
        return k, needs, next((name for name, asked in relevant.items() if asked == k), "")


def measure_need(
    play: Play,
    action_space: spaces.Space,
    seed: int,
    max_history: int = 64,
    tick: Callable[[str], Any] = lambda word: None,
) -> MemoryNeed:
    """
    Fit predictors of reward, termination, return to go and next observation from the last k = 1, 2, 4, … observations
    and actions, and find the k beyond which held-out episodes are predicted no better.

    All are given the step of the episode, so that a clock is not taken for memory.

    :param play: episodes
    :param action_space: of the environment
    :param seed: of the split into episodes that are learned from and held out
    :param max_history: the longest window
    :param tick: is told what is being done
    :return: what was found
    :raises ValueError: with fewer than 10 episodes, of which none could be held out
    """
    if play.n_episodes < 10:
        raise ValueError(
            f"{play.n_steps} steps gave {play.n_episodes} episodes; to hold some out, 10 are needed. Pass more "
            "n_steps, or limit the episodes' length (gymnasium.wrappers.TimeLimit)."
        )
    split = split_episodes(play.episodes, np.random.default_rng(seed))
    seen, following = code_observations(play, split.train)
    targets = make_targets(play, seen, following)
    windows, heads, n_heads = make_windows(play, seen, action_space)
    errors = _Errors(targets, split, play.episodes)
    predictor = Predictor(targets, heads, n_heads, split, seed)
    longest = int(play.lengths().max())
    limit = min(max_history, 2 ** math.ceil(math.log2(max(longest, 1))))

    def look(k: int) -> None:
        tick(f"predictors from {k} observation{'s' * (k > 1)}")
        errors.add(k, predictor.learn(windows, k, 2 if k == 1 else 1, 2_500 if k <= 4 else 800))

    k = 1
    while k <= min(limit, 4):
        look(k)
        k *= 2
    if limit > 4:
        # Whether anything is left to find further back
        kept = predictor.state()
        look(limit)
        if any(errors.helps(name, 4, limit) for name in errors.varying):
            predictor.predicted = kept
            while k < limit:
                look(k)
                k *= 2
            look(limit)
    need, needs, why = errors.verdict()
    rng = np.random.default_rng(seed)
    n = errors.n_episodes
    drawn = [errors.verdict(np.bincount(rng.integers(n, size=n), minlength=n))[0] for _ in range(N_DRAWS)]
    tested = sorted(errors.sums)
    return MemoryNeed(
        windows=tested,
        unexplained={name: [errors.share(k, name) for k in tested] for name in errors.varying},
        needs=needs,
        need=need,
        confidence=float(np.mean([one == need for one in drawn])),
        at_least=need == limit and limit < longest,
        from_start=need > 1 and need >= float(np.median(play.lengths())),
        with_state=_with_state(play, seen, windows, targets, heads, n_heads, split, seed, errors, tick),
        why=why,
        unused=[name for name in targets.blocks if name not in errors.varying],
        too_rare=_too_rare(play, {name: min(errors.share(k, name) for k in tested) for name in errors.varying}),
    )


def _too_rare(play: Play, unexplained: dict[str, float]) -> dict[str, int]:
    """
    :param play: episodes
    :param unexplained: of each target, the least share of its variance that some window left
    :return: rewards and ends that no window foretells at all, and how often they came, where that is too seldom to be
        taken for chance
    """
    counts = np.unique(np.round(play.rewards, 6), return_counts=True)[1]
    seen = {"reward": int(play.n_steps - counts.max()), "termination": int(play.terminated.sum())}
    return {name: n for name, n in seen.items() if n < OFTEN and unexplained.get(name, 0.0) > UNKNOWN}


def _with_state(
    play: Play,
    seen: th.Tensor,
    windows: Windows,
    targets: Targets,
    heads: th.Tensor,
    n_heads: int,
    split: Split,
    seed: int,
    errors: _Errors,
    tick: Callable[[str], Any],
) -> dict[str, float] | None:
    """:return: what the environment's own state leaves unexplained, where it has one that tells more"""
    if play.states is None or (
        play.states.shape == play.observations.shape and np.allclose(play.states, play.observations)
    ):
        return None
    tick("predictors from the full state")
    states = th.as_tensor(play.states)
    states = (states - states.mean(0)) / states.std(0).clamp(min=1e-6)
    full = Windows(windows.steps, th.cat([windows.now, states], dim=1), windows.times, seen.shape[1])
    left = predictor_errors(Predictor(targets, heads, n_heads, split, seed), full)
    sums = _Errors(targets, split, play.episodes)
    sums.add(1, left)
    return {name: sums.share(1, name) for name in errors.varying}


def predictor_errors(predictor: Predictor, windows: Windows) -> th.Tensor:
    """
    :param predictor: that has learned nothing yet
    :param windows: features
    :return: (n, T) squared errors of the test steps, from the present alone
    """
    return predictor.learn(windows, 1, 2, 2_500)
