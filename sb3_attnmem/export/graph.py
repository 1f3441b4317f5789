"""The torch module that becomes the graph: raw observation in, Q-values or logits or means out, state in, state out."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_attnmem.common.observations import arrays_of, named_arrays
from sb3_attnmem.dqn_recurrent import RecurrentDQN, RecurrentQNetwork, RecurrentQuantileNetwork
from sb3_attnmem.export.actors import Actor, is_actor
from sb3_attnmem.export.names import (
    DEVIATIONS,
    EPISODE_START,
    LOGITS,
    MEANS,
    NEXT_STATE,
    Q_VALUES,
    QUANTILES,
    STATE,
    observation_name,
)
from sb3_attnmem.export.normalization import ObservationNormalizer, raw_space
from sb3_attnmem.memory import MemoryState

Step = Callable[[PyTorchObs, th.Tensor, MemoryState], tuple[tuple[th.Tensor, ...], MemoryState]]
#: Algorithms that can be exported, for messages
KNOWN = "RecurrentDQN, RecurrentQRDQN, DQN, QRDQN, PPO, A2C, TRPO, RecurrentPPO and MaskablePPO"


class Core(NamedTuple):
    """
    :param network: its weights, a copy on the CPU in eval mode
    :param step: observations (B, ...), episode starts (B,) and state to the values, tensors (B, ...), and the next
        state
    :param state: of one environment
    :param state_names: of its tensors
    :param value_names: of the values
    """

    network: nn.Module
    step: Step
    state: MemoryState
    state_names: tuple[str, ...]
    value_names: tuple[str, ...] = (Q_VALUES,)


def core_of(model: BaseAlgorithm) -> Core:
    """
    :param model: a ``RecurrentDQN`` or ``RecurrentQRDQN``, a stock ``DQN`` or ``QRDQN``, or an actor with a critic
    :return: the part of it that acts
    :raises ValueError: for another algorithm, or an actor whose actions are of another kind
    """
    if isinstance(model, RecurrentDQN):
        network = _copy(model.q_net)
        assert isinstance(network, RecurrentQNetwork)
        state = tuple(tensor.detach() for tensor in network.memory.initial_state(1))
        names = network.memory.names_of_state()
        if isinstance(network, RecurrentQuantileNetwork):
            ask = network.step_quantiles

            def quantile_step(obs: PyTorchObs, starts: th.Tensor, state: MemoryState) -> Any:
                quantiles, state = ask(obs, state, starts)
                return _with_means(quantiles), state

            return Core(network, quantile_step, state, names, (Q_VALUES, QUANTILES))

        def step(obs: PyTorchObs, starts: th.Tensor, state: MemoryState) -> Any:
            q_values, state = network.step(obs, state, starts)
            return (q_values,), state

        return Core(network, step, state, names)
    if isinstance(model, QRDQN):
        quantiles = _copy(model.quantile_net)
        return Core(
            quantiles, lambda obs, starts, state: (_with_means(quantiles(obs)), ()), (), (), (Q_VALUES, QUANTILES)
        )
    if isinstance(model, DQN):
        q_net = _copy(model.q_net)
        return Core(q_net, lambda obs, starts, state: ((q_net(obs),), ()), (), ())
    if is_actor(model):
        actor = Actor(model)
        state = actor.initial_state()
        value_names = (MEANS, DEVIATIONS) if actor.gives_means else (LOGITS,)
        return Core(actor, actor.step, state, ("h", "c") if state else (), value_names)
    raise ValueError(
        f"{type(model).__name__} cannot be exported: there are neither Q-values in it nor a policy of a kind that is "
        f"known here. {KNOWN} can."
    )


def _with_means(quantiles: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """:return: of (B, N, A) the means (B, A), the Q-values, and themselves"""
    return quantiles.mean(dim=1), quantiles


def _copy(network: nn.Module) -> nn.Module:
    # The model itself may be training
    return copy.deepcopy(network).to("cpu").eval().requires_grad_(False)


def _random(space: spaces.Space, batch_size: int, seed: int) -> th.Tensor:
    """:return: (B, ...); of floats near zero, since many a space is as wide as its numbers go"""
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        normal = np.random.default_rng(seed).normal(size=(batch_size, *space.shape))
        return th.as_tensor(np.clip(normal, space.low, space.high).astype(space.dtype))
    space.seed(seed)
    return th.as_tensor(np.stack([space.sample() for _ in range(batch_size)]))


def _parts(space: spaces.Space) -> spaces.Space | dict[str, spaces.Space]:
    """:return: the space, or the dict of a Dict's spaces"""
    return dict(space.spaces) if isinstance(space, spaces.Dict) else space


class PolicyGraph(nn.Module):
    """
    One step of B environments. Inputs and outputs are flat, in the order of :attr:`input_names` and
    :attr:`output_names`: observations as the environment gives them, then ``episode_start``, then the state; Q-values,
    and quantiles where the agent has them, or logits, or means and deviations; then the next state. SB3's preprocessing
    and VecNormalize's statistics are inside.

    :param model: the agent
    :param vec_normalize: of its run, if it had one
    :raises ValueError: for an algorithm that is not known here, or statistics of other observations
    """

    def __init__(self, model: BaseAlgorithm, vec_normalize: VecNormalize | None) -> None:
        super().__init__()
        core = core_of(model)
        self.network = core.network
        self._step = core.step
        self._state = core.state
        #: of the observations that come in
        self.space = copy.deepcopy(raw_space(model.observation_space, vec_normalize))
        self.normalizer = ObservationNormalizer(vec_normalize)
        self.keys: list[str | None] = [key for key, _ in named_arrays(_parts(self.space))]
        self.input_names = [
            *map(observation_name, self.keys),
            EPISODE_START,
            *(f"{STATE}{name}" for name in core.state_names),
        ]
        self.state_names = core.state_names
        self.output_names = [*core.value_names, *(f"{NEXT_STATE}{name}" for name in core.state_names)]
        self.eval()

    def forward(self, *inputs: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param inputs: tensors (B, ...), see above
        :return: tensors (B, ...), see above
        """
        n_keys = len(self.keys)
        parts = {key: self.normalizer(values, key) for key, values in zip(self.keys, inputs[:n_keys], strict=True)}
        observations: Any = parts[None] if None in parts else parts
        values, state = self._step(observations, inputs[n_keys], inputs[n_keys + 1 :])
        return (*values, *state)

    def examples(self, batch_size: int, seed: int = 0) -> list[th.Tensor]:
        """
        :param batch_size: B
        :param seed: of the observations
        :return: inputs: random observations, all first steps of episodes, the state before these
        """
        parts = arrays_of(_parts(self.space))
        observations = [_random(part, batch_size, seed + i) for i, part in enumerate(parts)]
        state = [tensor.repeat(batch_size, *[1] * (tensor.dim() - 1)) for tensor in self._state]
        return [*observations, th.ones(batch_size, dtype=th.bool), *state]
