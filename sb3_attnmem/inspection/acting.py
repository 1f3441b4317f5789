"""A recurrent agent plays greedily, with its whole memory or with a part of it."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, is_vecenv_wrapped

from sb3_attnmem.dqn_recurrent import RecurrentDQN, RecurrentQNetwork
from sb3_attnmem.inspection.tapes import Tape
from sb3_attnmem.memory import MemoryState


class Actor(Protocol):
    """Q-values of B environments, step by step, by whatever it remembers of them."""

    def begin(self, n_envs: int) -> None:
        """
        :param n_envs: B
        """

    def keep(self, which: th.Tensor) -> None:
        """
        :param which: (B,) bool, the environments that go on
        """

    def __call__(self, features: th.Tensor, starts: th.Tensor) -> th.Tensor:
        """
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
    :param q_net: of the agent
    :param features: (B, T, ...)
    :param latents: (B, T, H)
    :return: (B, A), of the last step
    """
    return q_net.head(features[:, -1:], latents[:, -1:]).squeeze(1)


class Played(NamedTuple):
    """
    :param returns: (E,), sums of true rewards
    :param lengths: (E,), steps
    :param tapes: the episodes, if they were kept
    :param n_cut: episodes that were given up after the most steps that were allowed
    """

    returns: np.ndarray
    lengths: np.ndarray
    tapes: list[Tape]
    n_cut: int


def play(
    model: RecurrentDQN,
    env: VecEnv,
    actor: Actor,
    episodes: int,
    seed: int,
    max_steps: int,
    tick: Callable[[int], Any],
    keep: bool = False,
) -> Played:
    """
    Play greedily. Episode i begins from the reset with seed ``seed + i`` whoever plays it, so that two actors can be
    compared episode by episode.

    :param model: the agent
    :param env: that fits it
    :param actor: who says what the Q-values are
    :param episodes: E
    :param seed: of the first episode
    :param max_steps: after which an episode is given up
    :param tick: called with the number of episodes that ended, as they end
    :param keep: whether to keep tapes, and the observations of the first episode
    :return: all episodes, in the order of their seeds
    """
    monitored = is_vecenv_wrapped(env, VecMonitor) or any(env.env_is_wrapped(Monitor))
    returns, lengths = np.zeros(episodes), np.zeros(episodes, int)
    steps: list[list[tuple[Any, ...]]] = [[] for _ in range(episodes)]
    observations: list[Any] = []
    n_cut = 0
    for first in range(0, episodes, env.num_envs):
        env.seed(seed + first)
        observation = env.reset()
        rows = np.arange(min(env.num_envs, episodes - first))  # the environments whose first episode goes on
        actor.begin(len(rows))
        starts = np.ones(env.num_envs, bool)
        while len(rows):
            with th.no_grad():
                tensors, _ = model.policy.obs_to_tensor(rows_of(observation, rows))
                features = model.q_net.encode(tensors)
                q_values = actor(features, th.as_tensor(starts[rows], device=model.device))
            if keep and first == 0 and rows[0] == 0:
                observations.append(rows_of(observation, 0))
            actions = np.zeros(env.num_envs, int)
            actions[rows] = q_values.argmax(dim=1).cpu().numpy()
            was_start = starts
            observation, rewards, starts, infos = env.step(actions)
            ended = np.zeros(len(rows), bool)
            for j, row in enumerate(rows):
                episode = first + row
                returns[episode] += rewards[row]
                lengths[episode] += 1
                if keep:
                    step = (features[j], was_start[row], actions[row], rewards[row], q_values[j].cpu().numpy())
                    steps[episode].append(step)
                # A lost life may end an episode while the game goes on: the Monitor knows
                if starts[row] and (not monitored or "episode" in infos[row]):
                    ended[j] = True
                    if monitored:
                        returns[episode] = infos[row]["episode"]["r"]
                elif lengths[episode] >= max_steps:
                    ended[j] = True
                    n_cut += 1
            if ended.any():
                rows = rows[~ended]
                actor.keep(th.as_tensor(~ended, device=model.device))
                tick(int(ended.sum()))
    tapes = [_as_tape(episode, observations if i == 0 else []) for i, episode in enumerate(steps)] if keep else []
    return Played(returns, lengths, tapes, n_cut)


def _as_tape(steps: list[tuple[Any, ...]], observations: list[Any]) -> Tape:
    features, starts, actions, rewards, q_values = zip(*steps, strict=True)
    return Tape(
        th.stack(features), np.array(starts), np.array(actions), np.array(rewards), np.stack(q_values), observations
    )


def rows_of(observation: Any, which: Any) -> Any:
    """
    :param observation: (B, ...) or a dict of such arrays
    :param which: rows
    :return: these
    """
    if isinstance(observation, dict):
        return {key: np.asarray(array)[which] for key, array in observation.items()}
    return np.asarray(observation)[which]
