"""Agents that are built by hand, so that it is known how far they remember."""

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces

from sb3_attnmem import BaseMemory, MemoryState, RecurrentDQN

N_TOKENS = 3


class LastFive(BaseMemory):
    """
    Latents are the last five inputs, newest first; zeros where there was none.

    :param input_dim: D
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim, latent_dim=5 * input_dim)
        self.scale = th.nn.Parameter(th.ones(()))

    def initial_state(self, batch_size: int) -> MemoryState:
        return (self.scale.new_zeros(batch_size, 5, self.input_dim),)

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents = []
        for t, newest in enumerate(features.unbind(dim=1)):
            (held,) = self.reset_where(episode_starts[:, t], state)
            state = (th.cat([newest.unsqueeze(1) * self.scale, held[:, :-1]], dim=1),)
            latents.append(state[0].flatten(1))
        return th.stack(latents, dim=1), state


class First(BaseMemory):
    """
    Latents are the present input and the first one of the episode.

    :param input_dim: D
    """

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim, latent_dim=2 * input_dim)
        self.scale = th.nn.Parameter(th.ones(()))

    def initial_state(self, batch_size: int) -> MemoryState:
        zeros = self.scale.new_zeros
        return zeros(batch_size, self.input_dim), zeros(batch_size, 1)

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents = []
        for t, newest in enumerate(features.unbind(dim=1)):
            first, seen = self.reset_where(episode_starts[:, t], state)
            first = th.where(seen > 0, first, newest * self.scale)
            state = (first, th.ones_like(seen))
            latents.append(th.cat([newest, first], dim=1))
        return th.stack(latents, dim=1), state


class Repeat(gym.Env):
    """
    Random tokens; 1 for naming the one of ``lag`` steps ago. Twelve steps.

    :param lag: 0 asks for the present one
    """

    def __init__(self, lag: int = 4) -> None:
        self.lag = lag
        self.observation_space = spaces.Box(0.0, 1.0, (N_TOKENS,), np.float32)
        self.action_space = spaces.Discrete(N_TOKENS)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.tokens: list[int] = []
        return self._show(), {}

    def _show(self) -> np.ndarray:
        self.tokens.append(int(self.np_random.integers(N_TOKENS)))
        return np.eye(N_TOKENS, dtype=np.float32)[self.tokens[-1]]

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        asked = self.tokens[-1 - self.lag] if len(self.tokens) > self.lag else None
        over = len(self.tokens) == 12
        return self._show(), float(action == asked), over, False, {}


def plain(env: gym.Env, memory_class: Any, **policy_kwargs: Any) -> RecurrentDQN:
    """:return: an agent whose memory reads the observation and whose Q-values are one linear layer of the latents"""
    options = dict(encoder_arch=[], net_arch=[], dueling=False, memory_fusion="none")
    return RecurrentDQN(
        "MlpPolicy", env, seed=0, policy_kwargs=dict(memory_class=memory_class, **{**options, **policy_kwargs})
    )


def set_head(model: RecurrentDQN, weight: Any, bias: Any = 0.0) -> None:
    """
    :param model: of :func:`plain`
    :param weight: (A, H)
    :param bias: (A,)
    """
    (layer,) = model.q_net.q_net
    with th.no_grad():
        layer.weight.copy_(th.as_tensor(weight, dtype=th.float32))
        layer.bias.copy_(th.as_tensor(bias, dtype=th.float32).expand_as(layer.bias))


def repeater(lag: int, says: int | None = None) -> RecurrentDQN:
    """:return: an agent that keeps five observations and names the token of ``says`` (or ``lag``) steps ago"""
    model = plain(Repeat(lag), LastFive)
    weight = np.zeros((N_TOKENS, 5, N_TOKENS))
    weight[:, lag if says is None else says] = np.eye(N_TOKENS)
    set_head(model, weight.reshape(N_TOKENS, -1))
    return model


def maze_walker(env: gym.Env) -> RecurrentDQN:
    """:return: an agent that solves the passive T-Maze by the first observation, the cue, and by nothing else"""
    model = plain(env, First)
    # Latents: junction, y, (first: 0, cue). Actions: right, up, left, down
    set_head(model, [[-2, 0, 0, 0], [2, 0, 0, 1], [0, 0, 0, 0], [2, 0, 0, -1]], [0.5, -2, -10, -2])
    return model
