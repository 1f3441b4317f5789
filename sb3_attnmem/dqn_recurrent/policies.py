"""The policies of ``RecurrentDQN`` and ``RecurrentQRDQN``: their two networks, and their names."""

from typing import Any, ClassVar

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
)
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from sb3_attnmem.dqn_recurrent.architecture import MemoryArchitecture, QuantileArchitecture, default_fusion
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.quantile_network import RecurrentQuantileNetwork
from sb3_attnmem.extractors import IMAGE_EXTRACTORS, get_extractor_class
from sb3_attnmem.memory import BaseMemory, get_memory_class


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
        "concat" both (the default), "none" h alone (the default without a memory), "gate" α·s + (1 − α)·h with a
        learned α in [0, 1], "residual" h + s
    :param memory_fusion_kwargs: options of the fusion; ``dict(per_unit=False)`` gives the gate one α for all units
    :param noisy: explore by learned noise on the head's weights instead of random actions (NoisyNet: Fortunato et al.,
        2018, https://arxiv.org/abs/1706.10295); ε is 0 then, after warm-up. True draws it at every step as in the
        paper; "episode" once an episode, which explores in a direction and keeps to it: for long corridors
    :param branching: for ``MultiDiscrete`` actions of many combinations: a value for each choice in each dimension, and
        one that they share (Tavakoli et al., 2018, https://arxiv.org/abs/1711.08946); the value of a combination is the
        mean of its choices' values. If False, each combination has a value of its own
    :raises ValueError: for an unknown memory or fusion, an option that it does not take, or a memory that does not fit
        the extractor
    """

    network_class: ClassVar[type[RecurrentQNetwork]] = RecurrentQNetwork
    architecture_class: ClassVar[type[MemoryArchitecture]] = MemoryArchitecture
    q_net: RecurrentQNetwork
    q_net_target: RecurrentQNetwork
    #: options of the architecture that a subclass adds
    head_options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete | spaces.MultiDiscrete,
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
        memory_fusion: str | None = None,
        memory_fusion_kwargs: dict[str, Any] | None = None,
        noisy: bool | str = False,
        branching: bool = False,
    ) -> None:
        if features_extractor_class is None:
            features_extractor_class = default_features_extractor_class(observation_space, normalize_images)
        features_extractor_class = get_extractor_class(features_extractor_class)
        # Those of images are wide enough to need no layers of their own
        wide = issubclass(features_extractor_class, (NatureCNN, *IMAGE_EXTRACTORS.values()))
        # Kept before super().__init__, which builds the networks
        self.architecture = self.architecture_class(
            get_memory_class(memory_class),
            memory_kwargs or {},
            ([] if wide else [64]) if encoder_arch is None else encoder_arch,
            dueling,
            memory_fusion or default_fusion(get_memory_class(memory_class)),
            memory_fusion_kwargs or {},
            noisy,
            branching,
            **self.head_options,
        )
        self.architecture.check_extractor_class(features_extractor_class)
        super().__init__(
            observation_space,
            action_space,  # type: ignore[arg-type]
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
        # Both look at the same experience
        self.q_net_target.normalization = self.q_net.normalization
        learning = [weight for weight in self.q_net.parameters() if weight.requires_grad]
        kwargs = dict(self.optimizer_kwargs)
        if self.optimizer_class is th.optim.Adam and not {"fused", "foreach", "differentiable"} & set(kwargs):
            kwargs["fused"] = self.device.type in ("cpu", "cuda")  # one call instead of a dozen for each weight
        self.optimizer = self.optimizer_class(learning, lr=lr_schedule(1), **kwargs)  # type: ignore[call-arg]

    def make_q_net(self) -> RecurrentQNetwork:
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return self.network_class(**net_args, architecture=self.architecture).to(self.device)

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
        :param state: what the call before returned, tensors (B, ...) (B = 1 for one observation);
            None at the first step
        :param episode_start: (B,) bool, True where an episode begins: nothing before reaches that step. None: nowhere
        :param deterministic: not used: exploring is the algorithm's business
        :param action_masks: (B, A) or (A,), True where an action is valid; None: all are
        :param noise: draws the noise of a noisy head; None for its means
        :return: actions, (B,) or (), with the axis of their dimensions for ``MultiDiscrete``, and the next state
        :raises ValueError: when ``state`` has another structure or belongs to another batch size, the observation is
            not finite, or a mask allows no action
        """
        return self.q_net.predict(observation, state, episode_start, deterministic, action_masks, noise)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(vars(self.architecture))
        return data


class RecurrentQRDQNPolicy(RecurrentDQNPolicy):
    """
    Policy of :class:`~sb3_attnmem.RecurrentQRDQN`: two networks with a memory, online and target, whose head gives
    quantiles.

    :param args: of :class:`RecurrentDQNPolicy`
    :param n_quantiles: quantiles of each action's return. sb3-contrib's ``QRDQN`` has 200, the paper too; returns of a
        few shapes are told apart with 50, at a sixteenth of the pairs that the loss compares
    :param kwargs: of :class:`RecurrentDQNPolicy`
    :raises ValueError: as :class:`RecurrentDQNPolicy`, and for ``n_quantiles`` below 1
    """

    network_class = RecurrentQuantileNetwork
    architecture_class = QuantileArchitecture
    q_net: RecurrentQuantileNetwork
    q_net_target: RecurrentQuantileNetwork

    def __init__(self, *args: Any, n_quantiles: int = 50, **kwargs: Any) -> None:
        self.head_options = dict(n_quantiles=n_quantiles)  # before super().__init__, which builds the networks
        super().__init__(*args, **kwargs)


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


def aliases(policy_class: type[BasePolicy]) -> dict[str, type[BasePolicy]]:
    """
    :param policy_class: of an algorithm with a memory
    :return: the names that its users may pass instead
    """
    return {
        f"{prefix}{memory}Policy": policy_class for prefix in ("Mlp", "Cnn", "MultiInput") for memory in ("", "Lstm")
    }


POLICY_ALIASES = aliases(RecurrentDQNPolicy)
QUANTILE_POLICY_ALIASES = aliases(RecurrentQRDQNPolicy)
