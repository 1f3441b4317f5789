"""The Q-network with a memory: features extractor, encoder, memory, fusion and head."""

import warnings
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

from sb3_attnmem.attention import set_layout
from sb3_attnmem.common.callers import levels_to_caller
from sb3_attnmem.common.observations import check_finite, n_rows
from sb3_attnmem.dqn_recurrent.architecture import MemoryArchitecture
from sb3_attnmem.dqn_recurrent.branches import Branches, best_actions
from sb3_attnmem.dqn_recurrent.heads import DuelingHead as DuelingHead  # older imports find it here
from sb3_attnmem.dqn_recurrent.masks import masks_to_tensor
from sb3_attnmem.dqn_recurrent.noise import NoisyLinear, make_noisy, noise
from sb3_attnmem.extractors import AttentionExtractor
from sb3_attnmem.memory import MemoryState, NoMemory
from sb3_attnmem.replay import SequencePart, n_actions_of, split_actions


class RecurrentQNetwork(QNetwork):
    """
    Features extractor -> encoder -> memory -> fusion -> Q-head (DRQN, https://arxiv.org/abs/1507.06527).
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
        self._forgetful_calls = 0
        self.encoder = nn.Sequential(*create_mlp(shape[-1], -1, architecture.encoder_arch, activation_fn))
        self.memory = memory
        self.fusion = fusion
        # Of SB3's own head, which is there already, the plain kind makes use
        self.q_net = architecture.make_head(  # type: ignore[assignment]
            self.q_net, fusion.output_dim, action_space, net_arch, activation_fn
        )
        self.branches = Branches(action_space.nvec.tolist()) if architecture.branching else None  # type: ignore[union-attr]
        self._noisy_layers: list[NoisyLinear] = make_noisy(self.q_net) if architecture.noisy else []
        if isinstance(features_extractor, AttentionExtractor) and features_extractor.places is not None:
            set_layout(memory, features_extractor.places)

    def encode(self, observations: PyTorchObs) -> th.Tensor:
        """
        :param observations: (N, ...) or a dict of such tensors
        :return: (N, D) or (N, P, C), what the memory reads
        """
        return self.encoder(self.extract_features(observations, self.features_extractor))

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
        return self.q_net(fused), state

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
        return self.q_net(self.fused_unroll(part, state))

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
        return self.q_net(self.fuse(features, latents))

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

    def noise(self, generator: np.random.Generator | None, n_rows: int | None = None) -> AbstractContextManager[None]:
        """
        Make the head noisy inside the ``with``, by one draw; outside, and where the head has no noise, values are
        means.

        :param generator: draws the noise; None for means
        :param n_rows: B environments that get noise of their own, for :meth:`step`; None: all share one draw
        :return: to be entered
        """
        return noise(self._noisy_layers, generator, n_rows)

    def _lay_out(self, part: SequencePart) -> th.Tensor:
        """:return: (B, T, D), features where there are frames (only those are encoded), zeros in padding"""
        frames = self.encode(part.observations)
        if len(frames) < part.present.numel():
            frames = frames.new_zeros(part.present.numel(), *frames.shape[1:]).index_copy(0, part.position, frames)
        return frames.view(*part.present.shape, *frames.shape[1:])

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
        noise: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The greedy action, and the state to pass with the next observation.

        :param observation: one observation or a batch of B
        :param state: what the call before returned, arrays (B, ...); None at the first step
        :param episode_start: (B,) bool, True where an episode begins; None: nowhere
        :param deterministic: not used: exploring is the algorithm's business
        :param action_masks: (B, A) or (A,), True where an action is valid; None: all are
        :param noise: draws the noise of a noisy head; None for its means
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, and the next state
        :raises ValueError: when ``state`` has another structure or belongs to another batch size, the observation is
            not finite, or a mask allows no action
        """
        if isinstance(observation, tuple):
            raise ValueError(
                "predict() got a tuple instead of an observation. `obs, info = env.reset()` is Gymnasium's API, "
                "`obs = vec_env.reset()` that of SB3's VecEnv."
            )
        self.set_training_mode(False)
        obs_tensor, vectorized = self.obs_to_tensor(observation)
        # In a memory it would stay, whatever is predicted next
        check_finite("observation", observation, None if vectorized else 0, "Nothing was predicted from it.")
        n = n_rows(obs_tensor)
        starts = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        if starts.shape != (n,):
            raise ValueError(f"episode_start has shape {starts.shape}, but there are {n} observations.")
        valid = masks_to_tensor(action_masks, n, n_actions_of(self.action_space), self.device)
        with th.no_grad(), self.noise(noise, n):
            q_values, next_state = self.step(
                obs_tensor, self.state_to_tensors(state, starts), th.as_tensor(starts, device=self.device)
            )
        actions = split_actions(self.action_space, best_actions(q_values, valid, self.branches).cpu().numpy())
        return actions if vectorized else actions.squeeze(axis=0), tuple(tensor.cpu().numpy() for tensor in next_state)

    def state_to_tensors(self, state: tuple[np.ndarray, ...] | None, episode_starts: np.ndarray) -> MemoryState:
        """
        :param state: what :meth:`predict` returned, arrays (B, ...); None: the state that episodes begin with
        :param episode_starts: (B,) bool
        :return: the state that :meth:`step` takes, tensors (B, ...)
        :raises ValueError: when ``state`` has another structure, or belongs to another batch size
        """
        n = len(episode_starts)
        initial = self.memory.initial_state(n)
        if state is None:
            self._warn_if_forgetful(episode_starts)
            return initial
        self._forgetful_calls = 0
        if not isinstance(state, tuple) or len(state) != len(initial):
            raise ValueError(
                f"state must be a tuple of {len(initial)} arrays, as the last predict() returned it; got "
                f"{type(state).__name__}{f' of {len(state)}' if isinstance(state, (tuple, list)) else ''}."
            )
        for i, (given, expected) in enumerate(zip(state, initial, strict=True)):
            if np.shape(given) != tuple(expected.shape):
                raise ValueError(
                    f"state[{i}] has shape {tuple(np.shape(given))}, expected {tuple(expected.shape)} for {n} "
                    "observation(s). Pass the state that the last predict() returned for the same environments, "
                    "or None to begin."
                )
        return tuple(
            th.as_tensor(given, dtype=expected.dtype, device=self.device)
            for given, expected in zip(state, initial, strict=True)
        )

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """:return: (B,) greedy actions at first steps of episodes, whatever came before; :meth:`predict` remembers"""
        self._warn_if_forgetful(np.zeros(n_rows(observation), bool))
        numbers = best_actions(self(observation), None, self.branches).cpu().numpy()
        return th.as_tensor(split_actions(self.action_space, numbers), device=self.device)

    def _warn_if_forgetful(self, starts: np.ndarray) -> None:
        """Warn at the second call in the middle of an episode that has no state of the first."""
        if starts.all() or isinstance(self.memory, NoMemory):
            return
        self._forgetful_calls += 1
        if self._forgetful_calls == 2:
            warnings.warn(
                "The policy was called again without a state: the agent forgets everything before each call. Pass the "
                "state on: `action, state = model.predict(obs, state=state, episode_start=episode_start)`.",
                stacklevel=levels_to_caller(),
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "architecture": self.architecture}
