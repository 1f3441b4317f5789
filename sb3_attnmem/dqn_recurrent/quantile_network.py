"""The Q-network whose head gives quantiles of each action's return."""

import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequencePart


class RecurrentQuantileNetwork(RecurrentQNetwork):
    """
    A Q-network whose Q-values are the means of quantiles, which have doors of their own. Built like
    :class:`~sb3_attnmem.dqn_recurrent.RecurrentQNetwork`, with a
    :class:`~sb3_attnmem.dqn_recurrent.architecture.QuantileArchitecture`. Letters: B sequences or environments,
    T steps, A actions, N quantiles; quantile i belongs to the probability (i + ½) / N.
    """

    def step_quantiles(
        self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        One step of B environments.

        :param observations: (B, ...)
        :param state: tensors (B, ...)
        :param episode_starts: (B,) bool
        :return: quantiles (B, N, A) and the next state
        """
        fused, state = self.fused_step(observations, state, episode_starts)
        return self.q_net.quantiles(fused), state  # type: ignore[operator]

    def unroll_quantiles(self, part: SequencePart, state: MemoryState) -> th.Tensor:
        """
        :param part: (B, T) steps
        :param state: the state before the first step; tensors (B, ...)
        :return: quantiles (B, T, N, A)
        """
        return self.q_net.quantiles(self.fused_unroll(part, state))  # type: ignore[operator]
