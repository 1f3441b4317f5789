"""What acts of an agent that has a policy of its own instead of Q-values: PPO, A2C, TRPO and those of sb3-contrib."""

import copy
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_attnmem.memory import MemoryState

#: spaces of actions that have logits or means
ACTIONS = (spaces.Discrete, spaces.MultiDiscrete, spaces.Box)


def is_actor(model: BaseAlgorithm) -> bool:
    """
    Tell whether an agent draws its actions from a distribution.

    :param model: any agent
    :return: whether it is an actor with a critic (PPO, A2C, TRPO, RecurrentPPO, MaskablePPO)
    """
    return isinstance(model.policy, (ActorCriticPolicy, MaskableActorCriticPolicy))


class Actor(nn.Module):
    """
    The actor, without its critic and without its distribution: a copy on the CPU in eval mode.

    Letters: B environments, A choices (of ``MultiDiscrete`` those of all dimensions), D numbers of an action.

    :param model: the agent, see :func:`is_actor`
    :raises ValueError: when its actions are none of ``Discrete``, ``MultiDiscrete`` and ``Box``
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        super().__init__()
        policy = model.policy
        assert isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy))
        if not isinstance(model.action_space, ACTIONS):
            raise ValueError(
                f"{type(model).__name__} with the actions {model.action_space} cannot be exported; with Discrete, "
                "MultiDiscrete and Box it can."
            )
        self.observation_space, self.normalize_images = policy.observation_space, policy.normalize_images
        # Part by part: what a policy keeps of its last distribution cannot be copied
        self.features_extractor = copy.deepcopy(policy.pi_features_extractor)
        self.lstm: nn.LSTM | None = copy.deepcopy(getattr(policy, "lstm_actor", None))
        self.mlp_extractor = copy.deepcopy(policy.mlp_extractor)
        self.action_net = copy.deepcopy(policy.action_net)
        #: whether actions have means, rather than choices logits
        self.gives_means = isinstance(model.action_space, spaces.Box)
        distribution: Any = policy.action_dist
        self.by_state = isinstance(distribution, StateDependentNoiseDistribution)
        if self.gives_means:
            log_std = policy.get_parameter("log_std").detach()
            if self.by_state:
                self.epsilon = float(distribution.epsilon)
            self.register_buffer(
                "deviation", (distribution.get_std(log_std) if self.by_state else log_std.exp()).clone()
            )
        self.to("cpu").eval().requires_grad_(False)

    def initial_state(self) -> MemoryState:
        """:return: of one environment, tensors (1, layers, H) h and c; empty without a memory"""
        if self.lstm is None:
            return ()
        zeros = th.zeros(1, self.lstm.num_layers, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def step(
        self, observations: PyTorchObs, episode_starts: th.Tensor, state: MemoryState
    ) -> tuple[tuple[th.Tensor, ...], MemoryState]:
        """
        One step of B environments.

        :param observations: (B, ...)
        :param episode_starts: (B,) bool
        :param state: tensors (B, ...)
        :return: logits (B, A), or means and standard deviations (B, D); and the next state
        """
        inputs = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        features = self.features_extractor(inputs)
        if self.lstm is not None:
            begins = episode_starts.view(-1, 1, 1)
            # Layers first, as the kernel wants them; a state that is not finite goes with its episode
            h, c = (th.where(begins, 0.0, part).transpose(0, 1).contiguous() for part in state)
            latents, (h, c) = self.lstm(features.unsqueeze(0), (h, c))
            features, state = latents.squeeze(0), (h.transpose(0, 1), c.transpose(0, 1))
        latents = self.mlp_extractor.forward_actor(features)
        outputs = self.action_net(latents)
        if not self.gives_means:
            return (outputs,), state
        deviation = self.get_buffer("deviation")
        if self.by_state:  # gSDE, https://arxiv.org/abs/2005.05719
            return (outputs, (latents.square() @ deviation.square() + self.epsilon).sqrt()), state
        return (outputs, deviation.expand_as(outputs)), state
