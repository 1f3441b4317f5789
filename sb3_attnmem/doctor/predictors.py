"""
Small predictors from the last k observations and actions, built up window by window.

Letters: N steps, T targets, F features, A actions that have a head of their own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch as th
from torch import nn

#: ridge penalties that are tried, in units of the features' variance times the number of samples
PENALTIES = (1e-5, 1e-2, 1.0)
#: training steps that predictors are fitted to at most
LARGEST_SAMPLE = 20_000
#: lags at which the change since then is a feature of its own: velocities are small beside positions
DIFFERENCES = 3


class Split(NamedTuple):
    """
    Steps by what they are used for; an episode is used for one thing only.

    :param train: (n,) indices
    :param valid: (n,) indices, to choose by
    :param test: (n,) indices, to report
    """

    train: th.Tensor
    valid: th.Tensor
    test: th.Tensor


def split_episodes(episodes: np.ndarray, rng: np.random.Generator) -> Split:
    """
    :param episodes: (N,) number of each step's episode
    :param rng: that draws
    :return: 55, 15, 30 % of the episodes
    """
    n = int(episodes.max()) + 1
    place = np.empty(n)
    place[rng.permutation(n)] = (np.arange(n) + 0.5) / n
    of_step = place[episodes]
    train = np.flatnonzero(of_step < 0.55)
    if len(train) > LARGEST_SAMPLE:
        train = np.sort(rng.choice(train, LARGEST_SAMPLE, replace=False))
    valid, test = np.flatnonzero((of_step >= 0.55) & (of_step < 0.7)), np.flatnonzero(of_step >= 0.7)
    return Split(*(th.as_tensor(part) for part in (train, valid, test)))


class Windows:
    """
    The last k steps before each step, as one row of features.

    :param steps: (N, F) features of a step: what was seen and what was done
    :param now: (N, G) features of the present alone: what is seen, and when
    :param times: (N,) steps of the episode before each
    :param n_seen: features of a step that tell what was seen; they come first
    """

    def __init__(self, steps: th.Tensor, now: th.Tensor, times: th.Tensor, n_seen: int) -> None:
        self.steps, self.now, self.times, self.n_seen = steps, now, times, n_seen

    def rows(self, which: th.Tensor, k: int, shuffled: tuple[int, th.Tensor] | None = None) -> th.Tensor:
        """
        :param which: (n,) indices of steps
        :param k: observations, the present one included
        :param shuffled: a lag and (n,) indices of other steps: that lag is taken from there
        :return: (n, G + (k - 1) · (F + 1)); what lies before the episode is 0, and its last number says so
        """
        parts = [self.now[which]]
        for lag in range(1, k):
            source = which if shuffled is None or shuffled[0] != lag else shuffled[1]
            inside = (self.times[source] >= lag).float().unsqueeze(1)
            before = self.steps[(source - lag).clamp(min=0)] * inside
            parts += [before, inside]
            if lag <= DIFFERENCES:
                after = self.steps[(which - lag + 1).clamp(min=0)]
                parts.append((after - before)[:, : self.n_seen] * inside)
        return th.cat(parts, dim=1)


class Heads(nn.Module):
    """A net with a hidden layer that answers for each action, and the answer of the action that was taken."""

    def __init__(self, n_features: int, n_targets: int, n_actions: int, width: int = 96) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, n_targets * n_actions)
        self.n_targets = n_targets
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, rows: th.Tensor, actions: th.Tensor) -> th.Tensor:
        answers = self.head(self.body(rows)).unflatten(1, (-1, self.n_targets))
        return answers[th.arange(len(rows)), actions]


class Targets(NamedTuple):
    """
    What is predicted.

    :param values: (N, T) each of variance 1
    :param known: (N, T) 1.0 where a value is known, else 0.0
    :param blocks: columns of each kind of target
    """

    values: th.Tensor
    known: th.Tensor
    blocks: dict[str, slice]

    def weights(self) -> th.Tensor:
        """:return: (T,) so that each kind counts alike in a loss"""
        weights = th.zeros(self.values.shape[1])
        for columns in self.blocks.values():
            weights[columns] = 1.0 / max(columns.stop - columns.start, 1)
        return weights


class Predictor:
    """
    Predictions from ever longer windows: each window learns what the one before it left unexplained, and is taken as
    far as it helps on validation episodes. So a longer window is worse by chance alone.

    :param targets: what is predicted
    :param actions: (N,) head of each step
    :param n_actions: A
    :param split: of the steps
    :param seed: of the nets
    """

    def __init__(self, targets: Targets, actions: th.Tensor, n_actions: int, split: Split, seed: int) -> None:
        self.targets, self.actions, self.n_actions, self.split = targets, actions, n_actions, split
        self.generator = th.Generator().manual_seed(seed)
        self.predicted = {name: th.zeros(len(part), targets.values.shape[1]) for name, part in split._asdict().items()}

    def state(self) -> dict[str, th.Tensor]:
        """:return: what is predicted so far, to go back to"""
        return {name: part.clone() for name, part in self.predicted.items()}

    def residual(self, part: str) -> th.Tensor:
        """
        :param part: of the split
        :return: (n, T) what is not explained yet; 0 where nothing is known
        """
        which = getattr(self.split, part)
        return (self.targets.values[which] - self.predicted[part]) * self.targets.known[which]

    def learn(self, windows: Windows, k: int, n_nets: int = 1, updates: int = 1_500) -> th.Tensor:
        """
        Learn from a window what is not explained yet.

        :param windows: features
        :param k: observations
        :param n_nets: one after another, each of what the one before left
        :param updates: gradient steps of a net at most
        :return: errors of the test steps (n, T), squared
        """
        rows = {name: windows.rows(part, k) for name, part in self.split._asdict().items()}
        mean, deviation = rows["train"].mean(0), rows["train"].std(0)
        rows = {name: (part - mean) / deviation.clamp(min=1e-3) for name, part in rows.items()}
        self._ridge(rows, per_action=False)
        if self.n_actions > 1:
            self._ridge(rows, per_action=True)
        for _ in range(n_nets):
            self._net(rows, updates)
        return self.residual("test").square()

    def _add(self, steps: dict[str, th.Tensor]) -> None:
        """Add a share of what was learned: for each kind of target the one that validation likes best."""
        known = self.targets.known[self.split.valid]
        residual, step = self.residual("valid"), steps["valid"] * known
        for columns in self.targets.blocks.values():
            r, s = residual[:, columns], step[:, columns]
            best = float((r * s).sum() / s.square().sum().clamp(min=1e-12))
            share = min(max(best, 0.0), 1.0)
            for name, part in steps.items():
                self.predicted[name][:, columns] += share * part[:, columns]

    def _ridge(self, rows: dict[str, th.Tensor], per_action: bool) -> None:
        steps = {name: th.zeros_like(part) for name, part in self.predicted.items()}
        known = self.targets.known[self.split.valid]
        residual, valid_residual = self.residual("train"), self.residual("valid")
        groups: Sequence[int | None] = range(self.n_actions) if per_action else [None]
        with_one = {name: th.cat([part, th.ones(len(part), 1)], dim=1) for name, part in rows.items()}
        for action in groups:
            of_group = {
                name: th.arange(len(part)) if action is None else (self.actions[part] == action).nonzero()[:, 0]
                for name, part in self.split._asdict().items()
            }
            x, y = with_one["train"][of_group["train"]], residual[of_group["train"]]
            if len(x) < max(20, x.shape[1] / 2 if per_action else 0) or not len(of_group["valid"]):
                continue
            gram, moment = x.T @ x, x.T @ y
            trace = gram.diagonal().mean()
            best: tuple[th.Tensor, th.Tensor] | None = None
            for penalty in PENALTIES:
                weights = th.linalg.solve(gram + penalty * trace * th.eye(len(gram)), moment)
                answers = with_one["valid"][of_group["valid"]] @ weights
                gap = (valid_residual[of_group["valid"]] - answers * known[of_group["valid"]]).square().sum(0)
                if best is None:
                    best = gap, weights
                else:
                    better = gap < best[0]
                    best = th.where(better, gap, best[0]), th.where(better, weights, best[1])
            assert best is not None
            for name, part in of_group.items():
                steps[name][part] = with_one[name][part] @ best[1]
        self._add(steps)

    def _net(self, rows: dict[str, th.Tensor], updates: int = 1_500, batch: int = 256, patience: int = 5) -> None:
        n_targets = self.targets.values.shape[1]
        with th.random.fork_rng(devices=[]):
            th.manual_seed(int(th.randint(2**31, (), generator=self.generator)))
            net = Heads(rows["train"].shape[1], n_targets, self.n_actions)
        optimizer = th.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
        weights = self.targets.weights()
        actions = {name: self.actions[part] for name, part in self.split._asdict().items()}
        residual, known = self.residual("train"), self.targets.known[self.split.train]
        valid_residual, valid_known = self.residual("valid"), self.targets.known[self.split.valid]
        best, best_steps, waited = float("inf"), None, 0
        n = len(rows["train"])
        for _ in range(max(updates * batch // max(n, 1), 1)):
            for chosen in th.randperm(n, generator=self.generator).split(batch):
                answers = net(rows["train"][chosen], actions["train"][chosen])
                loss = ((residual[chosen] - answers * known[chosen]).square() * weights).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with th.no_grad():
                valid = net(rows["valid"], actions["valid"])
                gap = float(((valid_residual - valid * valid_known).square() * weights).mean())
            if gap < best * (1 - 2e-3):
                best, waited = gap, 0
                with th.no_grad():
                    best_steps = {name: net(rows[name], actions[name]) for name in rows}
            else:
                waited += 1
                if waited >= patience:
                    break
        if best_steps is not None:
            self._add(best_steps)
