"""A recurrent agent plays greedily, with its whole memory or with a part of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.common.observations import copy_observation, rows_of
from sb3_attnmem.dqn_recurrent import MaskedPlayer, RecurrentDQN, RecurrentQNetwork, playing_masked
from sb3_attnmem.dqn_recurrent.branches import best_actions
from sb3_attnmem.inspection.common import Step, play
from sb3_attnmem.inspection.memory.played import PlayedEpisode
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import join_actions, split_actions


class Player(Protocol):
    """Gives the Q-values of B environments, step by step, from what it remembers of them."""

    def begin(self, n_envs: int) -> None:
        """
        Forget everything.

        :param n_envs: B
        """

    def keep(self, which: th.Tensor) -> None:
        """
        Forget the environments whose episode ended.

        :param which: (B,) bool, the environments that go on
        """

    def __call__(self, features: th.Tensor, starts: th.Tensor) -> th.Tensor:
        """
        Take one step in.

        :param features: (B, ...), what the memory reads at this step
        :param starts: (B,) bool
        :return: (B, A)
        """


class FullMemory:
    """
    The agent as it is.

    :param q_net: of the agent
    """

    def __init__(self, q_net: RecurrentQNetwork) -> None:
        self.q_net = q_net

    def begin(self, n_envs: int) -> None:
        self.state: MemoryState = self.q_net.memory.initial_state(n_envs)

    def keep(self, which: th.Tensor) -> None:
        self.state = tuple(tensor[which] for tensor in self.state)

    def __call__(self, features: th.Tensor, starts: th.Tensor) -> th.Tensor:
        inputs = features.unsqueeze(1)
        latents, self.state = self.q_net.memory(inputs, self.state, starts.unsqueeze(1))
        return last_q_values(self.q_net, inputs, latents)


class LastSteps:
    """
    The agent with its state rebuilt at every step: from the initial state, over the last k observations of the episode.

    :param q_net: of the agent
    :param k: the present observation included
    """

    def __init__(self, q_net: RecurrentQNetwork, k: int) -> None:
        self.q_net = q_net
        self.k = k

    def begin(self, n_envs: int) -> None:
        self.window: th.Tensor | None = None  # (B, L, ...), L <= k
        self.ages = th.zeros(n_envs, dtype=th.long, device=self.q_net.device)  # steps in the window, of this episode

    def keep(self, which: th.Tensor) -> None:
        self.ages = self.ages[which]
        if self.window is not None:
            self.window = self.window[which]

    def __call__(self, features: th.Tensor, starts: th.Tensor) -> th.Tensor:
        self.ages = (self.ages.masked_fill(starts, 0) + 1).clamp(max=self.k)
        length = int(self.ages.max())
        newest = features.unsqueeze(1)
        if self.window is not None:
            newest = th.cat([self.window[:, self.window.shape[1] - (length - 1) :], newest], dim=1)
        self.window = newest
        # Nothing reaches the first of the k steps: the state is the initial one there
        first = th.arange(length, device=newest.device) == (length - self.ages).unsqueeze(1)
        latents = self.q_net.memory.unroll(newest, self.q_net.memory.initial_state(len(newest)), first)
        return last_q_values(self.q_net, newest, latents)


def last_q_values(q_net: RecurrentQNetwork, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
    """
    Compute the Q-values of the last step.

    :param q_net: of the agent
    :param features: (B, T, ...)
    :param latents: (B, T, H)
    :return: (B, A), of the last step
    """
    return q_net.head(features[:, -1:], latents[:, -1:]).squeeze(1)


class Results(NamedTuple):
    """
    What the episodes brought.

    :param returns: (E,), sums of true rewards
    :param lengths: (E,), steps
    :param episodes: step by step, if they were kept
    :param n_cut: episodes that were given up after the most steps that were allowed
    """

    returns: np.ndarray
    lengths: np.ndarray
    episodes: list[PlayedEpisode]
    n_cut: int


def play_episodes(
    model: RecurrentDQN,
    env: VecEnv,
    player: Player,
    n_episodes: int,
    seed: int,
    max_steps: int,
    tick: Callable[[int], Any],
    keep: bool = False,
) -> Results:
    """
    Play greedily. Episode i begins from the reset with seed ``seed + i`` whoever plays it, so that two players can be
    compared episode by episode.

    :param model: the agent
    :param env: that fits it
    :param player: gives the Q-values
    :param n_episodes: E
    :param seed: of the first episode
    :param max_steps: after which an episode is given up
    :param tick: called with the number of episodes that ended, as they end
    :param keep: whether to keep the episodes, and the observations of the first one
    :return: all episodes, in the order of their seeds
    """
    parts: list[Results] = []
    with playing_masked(model, env) as masked:
        for first in range(0, n_episodes, env.num_envs):
            n = min(env.num_envs, n_episodes - first)
            batch = _Batch(masked, player, n, max_steps, keep, keep_observations=keep and first == 0)
            for step in play(env, batch.act, seed + first):
                tick(batch.take(step))
                if not len(batch.rows):
                    break
            parts.append(batch.results())
    return Results(
        np.concatenate([part.returns for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        [episode for part in parts for episode in part.episodes],
        sum(part.n_cut for part in parts),
    )


class _Batch:
    """
    Episodes that are played side by side, the first one of each environment.

    :param model: the agent, with the environment's action masks
    :param player: says what the Q-values are
    :param n: episodes, at most as many as environments
    :param max_steps: after which an episode is given up
    :param keep: whether to keep the episodes
    :param keep_observations: of the first environment
    """

    def __init__(
        self,
        model: MaskedPlayer,
        player: Player,
        n: int,
        max_steps: int,
        keep: bool,
        keep_observations: bool,
    ) -> None:
        self.model, self.player, self.max_steps = model, player, max_steps
        self.keep, self.keep_observations = keep, keep_observations
        self.rows = np.arange(n)  # the environments whose episode goes on
        self.returns, self.lengths, self.n_cut = np.zeros(n), np.zeros(n, int), 0
        self.steps: list[list[tuple[Any, ...]]] = [[] for _ in range(n)]
        self.observations: list[Any] = []
        player.begin(n)

    def act(self, observations: Any, starts: np.ndarray) -> tuple[np.ndarray, tuple[th.Tensor, th.Tensor]]:
        """:return: greedy actions where an episode goes on, valid ones elsewhere; those rows' features and Q-values"""
        with th.no_grad():
            tensors, _ = self.model.policy.obs_to_tensor(rows_of(observations, self.rows))
            features = self.model.q_net.encode(tensors)
            q_values = self.player(features, th.as_tensor(starts[self.rows], device=self.model.device))
        if not q_values.isfinite().all():
            raise ValueError(
                f"The agent's Q-values are not finite ({q_values[~q_values.isfinite().all(dim=1)][0].tolist()}): its "
                "weights, or the observation, hold NaN or infinity."
            )
        if self.keep_observations and self.rows[0] == 0:
            self.observations.append(copy_observation(rows_of(observations, 0)))
        valid = self.model.valid_at(observations)
        actions = np.zeros(len(starts), int) if valid is None else valid.argmax(axis=1)
        allowed = None if valid is None else th.as_tensor(valid[self.rows], device=self.model.device)
        actions[self.rows] = best_actions(q_values, allowed, self.model.q_net.branches).cpu().numpy()
        return split_actions(self.model.action_space, actions), (features, q_values)

    def take(self, step: Step) -> int:
        """:return: how many episodes ended with this step"""
        features, q_values = step.kept
        ended = np.zeros(len(self.rows), bool)
        actions = step.actions
        if self.model.q_net.branches is None:
            actions = join_actions(self.model.action_space, actions)
        for j, row in enumerate(self.rows):
            self.returns[row] += step.rewards[row]
            self.lengths[row] += 1
            if self.keep:
                numbers = step.starts[row], actions[row], step.rewards[row], q_values[j].cpu().numpy()
                self.steps[row].append((features[j], *numbers))
            if step.over[row]:
                ended[j] = True
                if step.monitored is not None:
                    self.returns[row] = step.monitored[row]
            elif self.lengths[row] >= self.max_steps:
                ended[j] = True
                self.n_cut += 1
        if ended.any():
            self.rows = self.rows[~ended]
            self.player.keep(th.as_tensor(~ended, device=self.model.device))
        return int(ended.sum())

    def results(self) -> Results:
        episodes = []
        for number, steps in enumerate(self.steps if self.keep else []):
            features, starts, actions, rewards, q_values = zip(*steps, strict=True)
            arrays = np.array(starts), np.array(actions), np.array(rewards), np.stack(q_values)
            episodes.append(PlayedEpisode(th.stack(features), *arrays, self.observations if number == 0 else []))
        return Results(self.returns, self.lengths, episodes, self.n_cut)
