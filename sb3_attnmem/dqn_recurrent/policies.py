"""Q-networks and policies with a memory."""

import inspect
import warnings
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from sb3_attnmem.attention import set_layout
from sb3_attnmem.extractors import IMAGE_EXTRACTORS, AttentionExtractor, get_extractor_class
from sb3_attnmem.memory import (
    MEMORIES,
    BaseMemory,
    MemoryState,
    check_fusion,
    check_memory_kwargs,
    get_memory_class,
)
from sb3_attnmem.replay import SequencePart


class DuelingHead(nn.Module):
    """
    Q(s, a) = V(s) + A(s, a) - mean_a A(s, a) (Wang et al., 2016, https://arxiv.org/abs/1511.06581).

    :param input_dim: width of the latents
    :param n_actions: number of actions
    :param net_arch: hidden layers of each of the two streams
    :param activation_fn: activation function
    """

    def __init__(self, input_dim: int, n_actions: int, net_arch: list[int], activation_fn: type[nn.Module]) -> None:
        super().__init__()
        # Both streams' first layers in one product: half the calls, and the wider product is the faster
        self.first = nn.Sequential(*create_mlp(input_dim, -1, [2 * width for width in net_arch[:1]], activation_fn))
        stream_dim = net_arch[0] if net_arch else input_dim
        self.value = nn.Sequential(*create_mlp(stream_dim, 1, net_arch[1:], activation_fn))
        self.advantage = nn.Sequential(*create_mlp(stream_dim, n_actions, net_arch[1:], activation_fn))
        self.split = bool(net_arch)

    def streams(self, latents: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """
        :param latents: (..., input_dim)
        :return: V (..., 1) and A (..., n_actions), not yet centred
        """
        for_value, for_advantage = self.first(latents).chunk(2, dim=-1) if self.split else (latents, latents)
        return self.value(for_value), self.advantage(for_advantage)

    def forward(self, latents: th.Tensor) -> th.Tensor:
        value, advantage = self.streams(latents)
        return value + advantage - advantage.mean(dim=-1, keepdim=True)


class RecurrentQNetwork(QNetwork):
    """
    Features extractor -> encoder -> memory -> fusion -> Q-head (DRQN, https://arxiv.org/abs/1507.06527).
    Letters: B sequences or environments, T steps, A actions, D features (P places x C channels for a memory that reads
    maps).

    :param observation_space: observation space
    :param action_space: action space
    :param features_extractor: the features extractor
    :param features_dim: its width
    :param memory_class: the memory's class
    :param memory_kwargs: the memory's options
    :param encoder_arch: hidden layers between extractor and memory
    :param net_arch: hidden layers between memory and Q-values
    :param activation_fn: activation function of encoder and head
    :param normalize_images: whether to divide images by 255
    :param dueling: whether the head has a value and an advantage stream
    :param memory_fusion: what the head reads, see :mod:`sb3_attnmem.memory.fusion`
    :param memory_fusion_kwargs: its options
    :raises ValueError: when the memory reads a feature map and the extractor gives a vector, or the other way round
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        memory_class: type[BaseMemory],
        memory_kwargs: dict[str, Any],
        encoder_arch: list[int],
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        dueling: bool = True,
        memory_fusion: str = "none",
        memory_fusion_kwargs: dict[str, Any] | None = None,
    ) -> None:
        shape = _check_features(features_extractor, memory_class)  # (D,) or (P, C)
        n_features = encoder_arch[-1] if encoder_arch else shape[-1]
        memory_input: Any = n_features if memory_class.reads == "vector" else (shape[0], n_features)
        memory = memory_class(memory_input, **memory_kwargs)
        fusion = check_fusion(memory_fusion, memory_fusion_kwargs or {})(
            n_features, memory.latent_dim, **memory_fusion_kwargs or {}
        )
        super().__init__(
            observation_space,
            action_space,
            features_extractor,
            fusion.output_dim,  # what SB3's head reads
            net_arch,
            activation_fn,
            normalize_images,
        )
        self.features_dim = features_dim
        self.memory_class = memory_class
        self.memory_kwargs = memory_kwargs
        self.encoder_arch = encoder_arch
        self.dueling = dueling
        self.memory_fusion = memory_fusion
        self.memory_fusion_kwargs = memory_fusion_kwargs
        self.encoder = nn.Sequential(*create_mlp(shape[-1], -1, encoder_arch, activation_fn))
        self.memory = memory
        self.fusion = fusion
        if dueling:
            self.q_net = DuelingHead(fusion.output_dim, int(action_space.n), net_arch, activation_fn)  # type: ignore[assignment]
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
        features = self.encode(observations).unsqueeze(1)
        latents, state = self.memory(features, state, episode_starts.unsqueeze(1))
        return self.q_net(self.fuse(features, latents).squeeze(1)), state

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: (B, ...) or a dict of such tensors
        :return: (B, A), the Q-values of first steps of episodes
        """
        n = next(iter(obs.values())).shape[0] if isinstance(obs, dict) else obs.shape[0]
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
        features = self._lay_out(part)
        return self.head(features, self.memory.unroll(features, state, part.episode_starts))

    def head(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """
        Q-values from what the memory read and what it gave.

        :param features: (B, T, D), or (B, T, P, C) for a memory that reads maps
        :param latents: (B, T, H)
        :return: (B, T, A)
        """
        return self.q_net(self.fuse(features, latents))

    def fuse(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """
        What the Q-head reads: features and latents joined by the fusion (of a feature map, its mean over the places).

        :param features: (B, T, D), or (B, T, P, C) for a memory that reads maps
        :param latents: (B, T, H)
        :return: (B, T, width)
        """
        if self.memory_fusion == "none":
            return latents
        return self.fusion(features.mean(dim=2) if self.memory.reads == "map" else features, latents)

    def _lay_out(self, part: SequencePart) -> th.Tensor:
        """:return: (B, T, D), features where there are frames (only those are encoded), zeros in padding"""
        frames = self.encode(part.observations)
        if len(frames) < part.present.numel():
            frames = frames.new_zeros(part.present.numel(), *frames.shape[1:]).index_copy(0, part.position, frames)
        return frames.view(*part.present.shape, *frames.shape[1:])

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            memory_class=self.memory_class,
            memory_kwargs=self.memory_kwargs,
            encoder_arch=self.encoder_arch,
            dueling=self.dueling,
            memory_fusion=self.memory_fusion,
            memory_fusion_kwargs=self.memory_fusion_kwargs,
        )
        return data


class RecurrentDQNPolicy(DQNPolicy):
    """
    Policy of :class:`~sb3_attnmem.RecurrentDQN`: two Q-networks with a memory, online and target.

    :param observation_space: observation space
    :param action_space: action space
    :param lr_schedule: learning rate schedule
    :param net_arch: hidden layers between memory and Q-values; default [64] for vectors and dicts, [] for images
    :param activation_fn: activation function of encoder and head
    :param features_extractor_class: a class, or a registered name such as "spatial_attention_cnn"; default by
        observation space: ``NatureCNN`` for images, ``CombinedExtractor`` for dicts, else ``FlattenExtractor``
    :param features_extractor_kwargs: options of the features extractor
    :param normalize_images: whether to divide images by 255
    :param optimizer_class: the optimiser
    :param optimizer_kwargs: its options, the learning rate excluded
    :param memory_class: a registered name ("none", "lstm", "gru", "lru", …: docs/memories.md) or a subclass of
        ``BaseMemory``
    :param memory_kwargs: the memory's own options, for example ``dict(hidden_size=128)``
    :param encoder_arch: hidden layers between extractor and memory; default [64] for vectors and dicts, [] for images
    :param dueling: whether the head has a value and an advantage stream
    :param memory_fusion: what the head reads of the features s, which matter now, and the latents h, which remember:
        "none" is h, "gate" α·s + (1 − α)·h with a learned α in [0, 1], "concat" both, "residual" h + s
    :param memory_fusion_kwargs: options of the fusion; ``dict(per_unit=False)`` gives the gate one α for all units
    :raises ValueError: for an unknown memory or fusion, an option that it does not take, or a memory that does not fit
        the extractor
    """

    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: str | type[BaseFeaturesExtractor] | None = None,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        memory_class: str | type[BaseMemory] = "lstm",
        memory_kwargs: dict[str, Any] | None = None,
        encoder_arch: list[int] | None = None,
        dueling: bool = True,
        memory_fusion: str = "none",
        memory_fusion_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if features_extractor_class is None:
            features_extractor_class = default_features_extractor_class(observation_space, normalize_images)
        features_extractor_class = get_extractor_class(features_extractor_class)
        # Those of images are wide enough to need no layers of their own
        wide = issubclass(features_extractor_class, (NatureCNN, *IMAGE_EXTRACTORS.values()))
        # Kept before super().__init__, which builds the networks
        self.memory_class = get_memory_class(memory_class)
        self.memory_kwargs = memory_kwargs or {}
        check_memory_kwargs(self.memory_class, self.memory_kwargs)
        self.encoder_arch = ([] if wide else [64]) if encoder_arch is None else encoder_arch
        self.dueling = dueling
        check_fusion(memory_fusion, memory_fusion_kwargs or {})
        if self.memory_class.reads == "map" and not issubclass(features_extractor_class, AttentionExtractor):
            raise _vector_error(features_extractor_class, self.memory_class)
        self.memory_fusion = memory_fusion
        self.memory_fusion_kwargs = memory_fusion_kwargs
        self._forgetful_calls = 0
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            ([] if wide else [64]) if net_arch is None else net_arch,
            activation_fn,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images,
            optimizer_class,
            optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        learning = [weight for weight in self.q_net.parameters() if weight.requires_grad]
        self.optimizer = self.optimizer_class(learning, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def make_q_net(self) -> RecurrentQNetwork:
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return RecurrentQNetwork(
            **net_args,
            memory_class=self.memory_class,
            memory_kwargs=self.memory_kwargs,
            encoder_arch=self.encoder_arch,
            dueling=self.dueling,
            memory_fusion=self.memory_fusion,
            memory_fusion_kwargs=self.memory_fusion_kwargs,
        ).to(self.device)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        The greedy action, and the state to pass with the next observation.

        :param observation: one observation or a batch of B
        :param state: what the call before returned, tensors (B, ...) (B = 1 for one observation);
            None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :param deterministic: not used: exploring is the algorithm's business
        :return: actions, (B,) or (), and the next state
        :raises ValueError: when ``state`` has another structure, or belongs to another batch size
        """
        if isinstance(observation, tuple):
            raise ValueError(
                "predict() got a tuple instead of an observation. `obs, info = env.reset()` is Gymnasium's API, "
                "`obs = vec_env.reset()` that of SB3's VecEnv."
            )
        self.set_training_mode(False)
        obs_tensor, vectorized = self.obs_to_tensor(observation)
        n = next(iter(obs_tensor.values())).shape[0] if isinstance(obs_tensor, dict) else obs_tensor.shape[0]
        starts = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start, bool).reshape(-1)
        if starts.shape != (n,):
            raise ValueError(f"episode_start has shape {starts.shape}, but there are {n} observations.")
        with th.no_grad():
            q_values, next_state = self.q_net.step(
                obs_tensor, self._state_to_tensors(state, n, starts), th.as_tensor(starts, device=self.device)
            )
        actions = q_values.argmax(dim=1).cpu().numpy()
        return actions if vectorized else actions.squeeze(axis=0), tuple(tensor.cpu().numpy() for tensor in next_state)

    def _state_to_tensors(self, state: tuple[np.ndarray, ...] | None, n: int, starts: np.ndarray) -> MemoryState:
        initial = self.q_net.memory.initial_state(n)
        if state is None:
            self._warn_if_forgetful(starts)
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

    def _warn_if_forgetful(self, starts: np.ndarray) -> None:
        if starts.all() or self.memory_class is get_memory_class("none"):
            return
        self._forgetful_calls += 1
        if self._forgetful_calls == 2:
            warnings.warn(
                "predict() was called again without a state: the agent forgets everything before each call. Pass the "
                "state on: `action, state = model.predict(obs, state=state, episode_start=episode_start)`.",
                stacklevel=5,
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            memory_class=self.memory_class,
            memory_kwargs=self.memory_kwargs,
            encoder_arch=self.encoder_arch,
            dueling=self.dueling,
            memory_fusion=self.memory_fusion,
            memory_fusion_kwargs=self.memory_fusion_kwargs,
        )
        return data


def _check_features(extractor: BaseFeaturesExtractor, memory_class: type[BaseMemory]) -> tuple[int, ...]:
    """
    :param extractor: what the memory will read
    :param memory_class: the memory that will be built
    :return: the shape of one observation's features, (D,) or (P, C)
    :raises ValueError: when the memory does not read such features
    """
    shape = extractor.features_shape if isinstance(extractor, AttentionExtractor) else (extractor.features_dim,)
    if len(shape) == 1 and memory_class.reads == "map":
        raise _vector_error(type(extractor), memory_class)
    if len(shape) == 2 and memory_class.reads == "vector":
        readers = [name for name, known in MEMORIES.items() if known.reads == "map"]
        raise ValueError(
            f"{memory_class.__name__} reads a vector, but {type(extractor).__name__} gives a feature map of {shape[0]} "
            f"places x {shape[1]} channels. Leave output='map' out of features_extractor_kwargs, or choose a "
            f"memory_class that reads maps: {readers}."
        )
    return shape


def _vector_error(extractor_class: type[BaseFeaturesExtractor], memory_class: type[BaseMemory]) -> ValueError:
    makers = [name for name, known in IMAGE_EXTRACTORS.items() if "output" in inspect.signature(known).parameters]
    return ValueError(
        f"{memory_class.__name__} reads a feature map, but {extractor_class.__name__} gives a vector. Pass "
        f"policy_kwargs=dict(features_extractor_class={makers[0]!r}, features_extractor_kwargs=dict(output='map')); "
        f"these give maps: {makers}."
    )


def default_features_extractor_class(
    observation_space: spaces.Space, normalize_images: bool = True
) -> type[BaseFeaturesExtractor]:
    """
    :param observation_space: observation space
    :param normalize_images: False where images arrive as floats in [0, 1]
    :return: the extractor that SB3's policy for this kind of space uses
    """
    if isinstance(observation_space, spaces.Dict):
        return CombinedExtractor
    if is_image_space(observation_space, normalized_image=not normalize_images):
        return NatureCNN
    return FlattenExtractor


POLICY_ALIASES: dict[str, type[BasePolicy]] = {
    f"{prefix}{memory}Policy": RecurrentDQNPolicy for prefix in ("Mlp", "Cnn", "MultiInput") for memory in ("", "Lstm")
}
