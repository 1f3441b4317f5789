"""What stands between the features extractor and the Q-values, as one argument."""

import inspect
from dataclasses import dataclass, field
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_attnmem.common.checks import check_choice, check_flag, check_integer
from sb3_attnmem.dqn_recurrent.heads import DuelingHead, DuelingQuantileHead, QuantileHead
from sb3_attnmem.dqn_recurrent.noise import NOISE_OF_EPISODES
from sb3_attnmem.extractors import IMAGE_EXTRACTORS, AttentionExtractor
from sb3_attnmem.memory import MEMORIES, BaseMemory, NoFusion, NoMemory, check_fusion, check_memory_kwargs
from sb3_attnmem.replay import n_actions_of


def check_widths(name: str, widths: Any) -> None:
    """
    :param name: of the argument
    :param widths: of hidden layers
    :raises ValueError: when they are no list of whole numbers
    """
    if not isinstance(widths, (list, tuple)):
        raise ValueError(f"{name}={widths!r} must be a list of the widths of hidden layers.")
    for width in widths:
        check_integer(f"a layer's width in {name}", width)


def default_fusion(memory_class: type[BaseMemory]) -> str:
    """
    :param memory_class: the memory's class
    :return: what the head reads unless told otherwise: what matters now and what mattered before, side by side, so that
        a memory is in nobody's way where it is not needed
    """
    return "none" if issubclass(memory_class, NoMemory) else "concat"


@dataclass(frozen=True)
class MemoryArchitecture:
    """
    Encoder, memory, fusion and the kind of head.

    :param memory_class: the memory's class
    :param memory_kwargs: its options
    :param encoder_arch: hidden layers between extractor and memory
    :param dueling: whether the head has a value and an advantage stream
    :param memory_fusion: what the head reads, a name of ``sb3_attnmem.memory.FUSIONS``
    :param memory_fusion_kwargs: its options
    :param noisy: whether the head's layers are noisy; "episode": an environment keeps its noise until its episode ends
    :param branching: whether the head has a value for each choice in each dimension of a ``MultiDiscrete`` action
    :raises ValueError: for an unknown fusion, an option that memory or fusion do not take, a width or a flag that is
        none
    """

    memory_class: type[BaseMemory]
    memory_kwargs: dict[str, Any] = field(default_factory=dict)
    encoder_arch: list[int] = field(default_factory=list)
    dueling: bool = True
    memory_fusion: str = "none"
    memory_fusion_kwargs: dict[str, Any] = field(default_factory=dict)
    noisy: bool | str = False
    branching: bool = False

    def __post_init__(self) -> None:
        check_memory_kwargs(self.memory_class, self.memory_kwargs)
        check_widths("encoder_arch", self.encoder_arch)
        check_flag("dueling", self.dueling)
        if isinstance(self.noisy, str):
            check_choice("noisy", self.noisy, [NOISE_OF_EPISODES])
        else:
            check_flag("noisy", self.noisy)
        check_flag("branching", self.branching)
        check_fusion(self.memory_fusion, self.memory_fusion_kwargs)

    def check_extractor_class(self, extractor_class: type[BaseFeaturesExtractor]) -> None:
        """
        Find out what can be told before the extractor is built.

        :param extractor_class: what the memory will read
        :raises ValueError: when the memory reads a feature map, and the extractor can only give a vector
        """
        if self.memory_class.reads == "map" and not issubclass(extractor_class, AttentionExtractor):
            raise self._vector_error(extractor_class)

    def features_shape(self, extractor: BaseFeaturesExtractor) -> tuple[int, ...]:
        """
        :param extractor: what the memory will read
        :return: the shape of one observation's features, (D,) or (P, C)
        :raises ValueError: when the memory does not read such features
        """
        shape = extractor.features_shape if isinstance(extractor, AttentionExtractor) else (extractor.features_dim,)
        if len(shape) == 1 and self.memory_class.reads == "map":
            raise self._vector_error(type(extractor))
        if len(shape) == 2 and self.memory_class.reads == "vector":
            readers = [name for name, known in MEMORIES.items() if known.reads == "map"]
            raise ValueError(
                f"{self.memory_class.__name__} reads a vector, but {type(extractor).__name__} gives a feature map of "
                f"{shape[0]} places x {shape[1]} channels. Leave output='map' out of features_extractor_kwargs, or "
                f"choose a memory_class that reads maps: {readers}."
            )
        return shape

    def make_memory(self, features_shape: tuple[int, ...]) -> tuple[BaseMemory, NoFusion]:
        """
        :param features_shape: (D,) or (P, C), of the extractor
        :return: the memory, and the fusion of the encoder's features with its latents
        """
        n_features = self.encoder_arch[-1] if self.encoder_arch else features_shape[-1]
        memory_input: Any = n_features if self.memory_class.reads == "vector" else (features_shape[0], n_features)
        memory = self.memory_class(memory_input, **self.memory_kwargs)
        fusion_class = check_fusion(self.memory_fusion, self.memory_fusion_kwargs)
        return memory, fusion_class(n_features, memory.latent_dim, **self.memory_fusion_kwargs)

    def n_values(self, action_space: spaces.Space) -> int:
        """
        :param action_space: of the environment
        :return: numbers that the head gives (of quantiles, their means): one an action, or with branches one a choice
        """
        nvec = self.branches_of(action_space)
        return n_actions_of(action_space) if nvec is None else sum(nvec)

    def branches_of(self, action_space: spaces.Space) -> list[int] | None:
        """
        :param action_space: of the environment
        :return: choices of each dimension where each has a value; None where each combination has one
        """
        return action_space.nvec.tolist() if self.branching else None  # type: ignore[attr-defined]

    def make_head(
        self,
        plain: nn.Module,
        input_dim: int,
        action_space: spaces.Space,
        net_arch: list[int],
        activation_fn: type[nn.Module],
    ) -> nn.Module:
        """
        :param plain: the head that SB3 built
        :param input_dim: width of what the head reads
        :param action_space: of the environment
        :param net_arch: hidden layers
        :param activation_fn: activation function
        :return: the head of the Q-network
        """
        if not self.dueling:
            return plain
        n_actions, nvec = self.n_values(action_space), self.branches_of(action_space)
        return DuelingHead(input_dim, n_actions, net_arch, activation_fn, nvec=nvec)

    def _vector_error(self, extractor_class: type[BaseFeaturesExtractor]) -> ValueError:
        makers = [name for name, known in IMAGE_EXTRACTORS.items() if "output" in inspect.signature(known).parameters]
        return ValueError(
            f"{self.memory_class.__name__} reads a feature map, but {extractor_class.__name__} gives a vector. Pass "
            f"policy_kwargs=dict(features_extractor_class={makers[0]!r}, features_extractor_kwargs=dict(output='map'))"
            f"; these give maps: {makers}."
        )


@dataclass(frozen=True)
class QuantileArchitecture(MemoryArchitecture):
    """
    Encoder, memory, fusion, and a head that gives quantiles. Its other parameters are those of
    :class:`MemoryArchitecture`.

    :param n_quantiles: quantiles an action
    :raises ValueError: also where that is no whole number from 1 on
    """

    n_quantiles: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("n_quantiles", self.n_quantiles)

    def make_head(
        self,
        plain: nn.Module,
        input_dim: int,
        action_space: spaces.Space,
        net_arch: list[int],
        activation_fn: type[nn.Module],
    ) -> nn.Module:
        n_actions, nvec = self.n_values(action_space), self.branches_of(action_space)
        if not self.dueling:
            return QuantileHead(input_dim, n_actions, self.n_quantiles, net_arch, activation_fn)
        return DuelingQuantileHead(input_dim, n_actions, self.n_quantiles, net_arch, activation_fn, nvec)
