"""Quantile regression DQN with a memory."""

from typing import ClassVar, TypeVar

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_attnmem.dqn_recurrent.algorithm import RecurrentDQN
from sb3_attnmem.dqn_recurrent.policies import QUANTILE_POLICY_ALIASES, RecurrentQRDQNPolicy
from sb3_attnmem.dqn_recurrent.quantile_network import RecurrentQuantileNetwork
from sb3_attnmem.dqn_recurrent.update import GradientStep, QuantileGradientStep

SelfRecurrentQRDQN = TypeVar("SelfRecurrentQRDQN", bound="RecurrentQRDQN")


class RecurrentQRDQN(RecurrentDQN):
    """
    :class:`~sb3_attnmem.RecurrentDQN` that learns the distribution of each action's return, as quantiles, by quantile
    regression with the Huber loss of κ = 1 (QR-DQN: Dabney et al., 2018, https://arxiv.org/abs/1710.10044). It acts on
    their means. Everything else is ``RecurrentDQN``'s: its parameters, replay, memories, double Q-learning, n-step
    targets, value rescaling (of each sample of a target), priorities (by the error of the mean).

    ``policy_kwargs=dict(n_quantiles=50)`` says how many quantiles (:class:`~sb3_attnmem.RecurrentQRDQNPolicy`).
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = QUANTILE_POLICY_ALIASES
    gradient_step_class: ClassVar[type[GradientStep]] = QuantileGradientStep
    policy: RecurrentQRDQNPolicy
    q_net: RecurrentQuantileNetwork
    q_net_target: RecurrentQuantileNetwork

    def learn(
        self: SelfRecurrentQRDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "RecurrentQRDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfRecurrentQRDQN:
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
