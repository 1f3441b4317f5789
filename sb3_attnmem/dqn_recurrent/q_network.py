"""The Q-network with a memory: features extractor, encoder, memory, fusion and head."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_attnmem.attention import set_layout
from sb3_attnmem.common.observations import n_rows
from sb3_attnmem.dqn_recurrent.architecture import MemoryArchitecture
from sb3_attnmem.dqn_recurrent.branches import Branches
from sb3_attnmem.dqn_recurrent.heads import DuelingHead as DuelingHead  # older imports find it here
from sb3_attnmem.dqn_recurrent.noise import NOISE_OF_EPISODES, NoisyLinear, make_noisy, noise
from sb3_attnmem.dqn_recurrent.normalization import Normalization
from sb3_attnmem.dqn_recurrent.predicting import PredictingNetwork
from sb3_attnmem.extractors import AttentionExtractor
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequencePart


class RecurrentQNetwork(PredictingNetwork):
    """
    Normalisation -> features extractor -> encoder -> memory -> fusion -> Q-head -> the task's units
    (DRQN, https://arxiv.org/abs/1507.06527).
    Letters: B sequences or environments, T steps, A actions, D features (P places x C channels for a memory that reads
    maps).

    :param observation_space: observation space
    :param action_space: ``Discrete``, or ``MultiDiscrete``, of which each combination has a Q-value
    :param features_extractor: the features extractor
    :param features_dim: its width
    :param net_arch: hidden layers between memory and Q-values
    :param activation_fn: activation function of encoder and head
    :param normalize_images: whether to divide images by 255
    :param architecture: what stands between extractor and head
    :raises ValueError: when the memory reads a feature map and the extractor gives a vector, or the other way round
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete | spaces.MultiDiscrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int],
        architecture: MemoryArchitecture,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
    ) -> None:
        shape = architecture.features_shape(features_extractor)  # (D,) or (P, C)
        memory, fusion = architecture.make_memory(shape)
        super().__init__(
            observation_space,
            spaces.Discrete(architecture.n_values(action_space)),
            features_extractor,
            fusion.output_dim,  # what SB3's head reads
            net_arch,
            activation_fn,
            normalize_images,
        )
        self.action_space = action_space  # type: ignore[assignment]
        self.features_dim = features_dim
        self.architecture = architecture
        #: the policy lets the target network share the online network's
        self.normalization = Normalization(observation_space)
        self.encoder = nn.Sequential(*create_mlp(shape[-1], -1, architecture.encoder_arch, activation_fn))
        self.memory = memory
        self.fusion = fusion
        # Of SB3's own head, which is there already, the plain kind makes use
        self.q_net = architecture.make_head(  # type: ignore[assignment]
            self.q_net, fusion.output_dim, action_space, net_arch, activation_fn
        )
        nvec = architecture.branches_of(action_space)
        self.branches = None if nvec is None else Branches(nvec)
        self._noisy_layers: list[NoisyLinear] = make_noisy(self.q_net) if architecture.noisy else []
        self._keeps_noise = architecture.noisy == NOISE_OF_EPISODES
        if isinstance(features_extractor, AttentionExtractor) and features_extractor.places is not None:
            set_layout(memory, features_extractor.places)

    def encode(self, observations: PyTorchObs) -> th.Tensor:
        """
        :param observations: (N, ...) or a dict of such tensors
        :return: (N, D) or (N, P, C), what the memory reads
        """
        return self.encoder(self.extract_features(self.normalization(observations), self.features_extractor))

    def step(
        self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        One step of B environments.

        :param observations: (B, ...)
        :param state: tensors (B, ...)
        :param episode_starts: (B,) bool
        :return: Q-values (B, A) and the next state
        """
        fused, state = self.fused_step(observations, state, episode_starts)
        return self.in_units_of_the_task(self.q_net(fused)), state

    def fused_step(
        self, observations: PyTorchObs, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        """
        One step of B environments, up to the head.

        :param observations: (B, ...)
        :param state: tensors (B, ...)
        :param episode_starts: (B,) bool
        :return: (B, width), what the head reads, and the next state
        """
        features = self.encode(observations).unsqueeze(1)
        latents, state = self.memory(features, state, episode_starts.unsqueeze(1))
        # Without the axis of one step: a product of matrices is faster than one of stacks of them
        return self.fuse(features, latents).squeeze(1), state

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: (B, ...) or a dict of such tensors
        :return: (B, A), the Q-values of first steps of episodes
        """
        n = n_rows(obs)
        starts = th.ones(n, dtype=th.bool, device=self.device)
        return self.step(obs, self.memory.initial_state(n), starts)[0]

    def burn_in(self, part: SequencePart | None, state: MemoryState) -> MemoryState:
        """
        Warm the state up without gradient.

        :param part: (B, T) steps, right-aligned; rows without any frame keep their state
        :param state: tensors (B, ...)
        :return: the state after the last step
        """
        if part is None:
            return state
        with th.no_grad():
            burnt = self.memory.advance(self._lay_out(part), state, part.episode_starts)
            warmed = part.present.any(dim=1)
            return tuple(
                th.where(warmed.view(-1, *[1] * (old.dim() - 1)), new, old)
                for new, old in zip(burnt, state, strict=True)
            )

    def unroll(self, part: SequencePart, state: MemoryState) -> th.Tensor:
        """
        :param part: (B, T) steps
        :param state: the state before the first step; tensors (B, ...)
        :return: Q-values (B, T, A)
        """
        return self.in_units_of_the_task(self.q_net(self.fused_unroll(part, state)))

    def fused_unroll(self, part: SequencePart, state: MemoryState) -> th.Tensor:
        """
        Unroll the memory over T steps, up to the head.

        :param part: (B, T) steps
        :param state: the state before the first step; tensors (B, ...)
        :return: (B, T, width), what the head reads
        """
        features = self._lay_out(part)
        return self.fuse(features, self.memory.unroll(features, state, part.episode_starts))

    def head(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """
        :param features: (B, T, D) or (B, T, P, C), what :meth:`encode` gave
        :param latents: (B, T, H), what the memory gave for them
        :return: Q-values (B, T, A)
        """
        return self.in_units_of_the_task(self.q_net(self.fuse(features, latents)))

    def in_units_of_the_task(self, values: th.Tensor) -> th.Tensor:
        """
        Undo the scale of returns, in which the head gives values.

        :param values: of any shape
        :return: the same shape
        """
        returns = self.normalization.returns
        return values * returns.deviation if returns.active else values

    def fuse(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """
        :param features: (B, T, D) or (B, T, P, C), what :meth:`encode` gave
        :param latents: (B, T, H), what the memory gave for them
        :return: (B, T, width), what the Q-head reads of both (of a map, of its mean over the places)
        """
        if self.architecture.memory_fusion == "none":
            return latents
        return self.fusion(features.mean(dim=2) if self.memory.reads == "map" else features, latents)

    @property
    def is_noisy(self) -> bool:
        """:return: whether the head can be noisy"""
        return bool(self._noisy_layers)

    def noise(
        self, generator: np.random.Generator | None, n_rows: int | None = None, starts: np.ndarray | None = None
    ) -> AbstractContextManager[None]:
        """
        Make the head noisy inside the ``with``, by one draw; outside, and where the head has no noise, values are
        means.

        :param generator: draws the noise; None for means
        :param n_rows: B environments that get noise of their own, for :meth:`step`; None: all share one draw
        :param starts: (B,) bool, environments whose episodes begin; where noise is that of an episode, the others keep
            what they were given with the last ``starts``
        :return: to be entered
        """
        return noise(self._noisy_layers, generator, n_rows, starts if self._keeps_noise else None)

    def _lay_out(self, part: SequencePart) -> th.Tensor:
        """:return: (B, T, D), features where there are frames (only those are encoded), zeros in padding"""
        frames = self.encode(part.observations)
        if len(frames) < part.present.numel():
            frames = frames.new_zeros(part.present.numel(), *frames.shape[1:]).index_copy(0, part.position, frames)
        return frames.view(*part.present.shape, *frames.shape[1:])

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "architecture": self.architecture}
