"""Low-rank adapters (LoRA, Hu et al., 2022, https://arxiv.org/abs/2106.09685) through the ``peft`` library."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_attnmem.common.parameters import match_names
from sb3_attnmem.transfer.parts import Networks, common_name

#: peft's name of the one adapter of a layer
ADAPTER = "default"
ADAPTABLE = (nn.Linear, nn.Conv2d, nn.Embedding, nn.MultiheadAttention)


@dataclass(frozen=True)
class Adapters:
    """
    :param targets: patterns of the modules that get one ("features_extractor", "encoder", "memory.blocks.*"): linear,
        convolutional, embedding and attention layers among them
    :param rank: of the change that a layer can learn
    :param alpha: the change is scaled by alpha / rank
    :param dropout: before the adapters, while training
    :raises ValueError: when a number is out of range
    """

    targets: Sequence[str] = ("*",)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", (self.targets,) if isinstance(self.targets, str) else tuple(self.targets))
        if not isinstance(self.rank, int) or self.rank < 1:
            raise ValueError(f"rank={self.rank!r} of the adapters must be an integer of at least 1.")
        if self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"alpha={self.alpha} must be above 0, dropout={self.dropout} in [0, 1).")


def find_targets(policy: BasePolicy, network: nn.Module, adapters: Adapters) -> list[str]:
    """
    :param policy: whose network it is
    :param network: as it learns, without adapters
    :param adapters: what should be adapted
    :return: the names of the layers that can be, in the network
    :raises ValueError: when a pattern means nothing, or no layer that can be adapted, or peft is not installed
    """
    _import_peft()
    modules = {common_name(name): name for name, _ in network.named_modules() if name}
    called = _called(policy, network)
    found: list[str] = []
    for pattern in adapters.targets:
        meant = [modules[name] for name in sorted(match_names("adapters", modules, [pattern]))]
        layers = [name for name in meant if name in called]
        if not layers:
            kinds = sorted({type(network.get_submodule(name)).__name__ for name in meant})
            raise ValueError(
                f"adapters: nothing in {pattern!r} ({', '.join(kinds)}) can have one: peft adapts linear, "
                "convolutional, embedding and attention layers that are called as such; nn.LSTM, nn.GRU and layers "
                "whose weights are read by others stay whole. Let that part learn itself, or freeze it."
            )
        found += layers
    return sorted(set(found))


def _called(policy: BasePolicy, network: nn.Module) -> set[str]:
    """:return: the layers that can be adapted, and are called: where others only read the weights, none would count"""
    called: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in network.named_modules()
        if isinstance(module, ADAPTABLE)
    ]
    policy.set_training_mode(False)
    observation, _ = policy.obs_to_tensor(copy.deepcopy(policy.observation_space).sample())
    with th.no_grad(), th.random.fork_rng(devices=[]):
        network(observation)
    for handle in handles:
        handle.remove()
    return called


def add_to(networks: Networks, adapters: Adapters, targets: list[str]) -> None:
    """
    :param networks: online and target; both get adapters, equal ones, which change nothing yet
    :param adapters: their options
    :param targets: the layers' names in the networks
    """
    peft = _import_peft()
    pattern = "|".join(re.escape(name) for name in targets)
    for network in networks.all:
        config = peft.LoraConfig(
            r=adapters.rank, lora_alpha=adapters.alpha, lora_dropout=adapters.dropout, target_modules=pattern
        )
        peft.inject_adapter_in_model(config, network, ADAPTER)
        for module in network.modules():
            if isinstance(module, peft.tuners.lora.layer.MultiheadAttention):
                module.__class__ = _steady_attention()
            elif isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0  # its fast path would read past the adapters
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False
    if networks.target is not None:
        ours = {name: weight for name, weight in networks.online.state_dict().items() if ".lora_" in name}
        networks.target.load_state_dict(ours, strict=False)


def is_adapter(name: str) -> bool:
    """:return: whether a parameter of that name belongs to an adapter"""
    return ".lora_" in name


def merge_into(network: nn.Module) -> None:
    """
    :param network: whose adapters become part of their layers' weights; it is then as if it never had any
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in reversed(list(network.named_modules())):  # the innermost first
        if isinstance(layer, BaseTunerLayer):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
    vars(network).pop("peft_config", None)


@lru_cache
def _steady_attention() -> type[nn.Module]:
    """:return: peft's adapted ``nn.MultiheadAttention``, but its own weights are read, never written"""
    from peft.tuners.lora.layer import MultiheadAttention

    class SteadyAttention(MultiheadAttention):
        """peft's adds the change to the weights and takes it off again at each call, which rounds them."""

        def forward(self, query: th.Tensor, *args: Any, **kwargs: Any) -> Any:
            base: Any = self.base_layer
            out = base.out_proj  # which is not called either
            changed = {
                "in_proj_weight": base.in_proj_weight + self.get_delta_weight(ADAPTER),
                "out_proj.base_layer.weight": out.base_layer.weight + out.get_delta_weight(ADAPTER),
            }
            return th.func.functional_call(base, changed, (query, *args), kwargs)

        def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
            base: Any = self.base_layer
            base.in_proj_weight.data += self.get_delta_weight(ADAPTER)

        def _restore_weights(self) -> None:
            pass

    return SteadyAttention


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("Adapters need the peft library: pip install 'sb3_attnmem[transfer]'.") from error
    return peft
