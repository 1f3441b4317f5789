"""Low-rank adapters (LoRA, Hu et al., 2022, https://arxiv.org/abs/2106.09685) through the ``peft`` library."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_attnmem.common.checks import check_integer, check_number
from sb3_attnmem.common.parameters import match_names
from sb3_attnmem.transfer.parts import Networks, common_name

#: peft's name of the one adapter of a layer
ADAPTER = "default"
ADAPTABLE = (nn.Linear, nn.Conv2d, nn.Embedding, nn.MultiheadAttention)


@dataclass(frozen=True)
class Adapters:
    """
    Which layers get a low-rank adapter, and what it looks like.

    :param targets: patterns of the modules that get one ("features_extractor", "encoder", "memory.blocks.*"): linear,
        convolutional, embedding and attention layers among them
    :param rank: of the change that a layer can learn
    :param alpha: the change is scaled by alpha / rank
    :param dropout: before the adapters, while training; those of attention layers have none
    :raises ValueError: when a number is out of range, or there are no targets
    """

    targets: Sequence[str] = ("*",)
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        targets = (self.targets,) if isinstance(self.targets, str) else self.targets
        if not isinstance(targets, (list, tuple)) or not targets or not all(isinstance(t, str) and t for t in targets):
            raise ValueError(
                f"adapters: targets={self.targets!r} must be one or more patterns of modules, for example "
                "['features_extractor', 'q_head']."
            )
        checked: dict[str, Any] = dict(
            targets=tuple(targets),
            rank=check_integer("adapters: rank", self.rank),
            alpha=check_number("adapters: alpha", self.alpha, above=0),
            dropout=check_number("adapters: dropout", self.dropout, least=0, below=1),
        )
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def find_targets(policy: BasePolicy, network: nn.Module, adapters: Adapters) -> list[str]:
    """
    Find the layers that get an adapter.

    :param policy: whose network it is
    :param network: as it learns, without adapters
    :param adapters: what should be adapted
    :return: the names of the layers that can be, in the network
    :raises ValueError: when a pattern means nothing, or no layer that can be adapted, peft refuses a layer, or is not
        installed; nothing is changed then
    """
    _import_peft()
    modules = {common_name(name): name for name, _ in network.named_modules() if name}
    called = _called(policy, network)
    found: set[str] = set()
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
        found.update(layers)
    for name in sorted(found):
        _try_on_a_copy(name, network.get_submodule(name), adapters)
    return sorted(found)


def _called(policy: BasePolicy, network: nn.Module) -> set[str]:
    """:return: the layers that can be adapted, and are called: where others only read the weights, none would count"""
    called: set[str] = set()
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.add(name))
        for name, module in network.named_modules()
        if isinstance(module, ADAPTABLE)
    ]
    modes = {module: module.training for module in policy.modules()}
    observation, _ = policy.obs_to_tensor(copy.deepcopy(policy.observation_space).sample())
    try:
        policy.set_training_mode(False)
        with th.no_grad(), th.random.fork_rng(devices=[]):
            network(observation)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for handle in handles:
            handle.remove()
    return called


def _try_on_a_copy(name: str, layer: nn.Module, adapters: Adapters) -> None:
    """:raises ValueError: when peft cannot adapt the layer: it would stop half-way through the network"""
    holder = nn.ModuleDict({"layer": copy.deepcopy(layer)})
    try:
        with th.random.fork_rng(devices=[]):
            _inject(holder, adapters, ["layer"])
    except Exception as error:  # whatever peft, or torch where the rank is huge, raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"adapters: {common_name(name)!r} ({type(layer).__name__}) cannot have one of rank {adapters.rank}: "
            f"{reason} Name other targets, or choose another rank."
        ) from error


def add_adapters(networks: Networks, adapters: Adapters, targets: Sequence[str]) -> None:
    """
    Give both networks adapters, equal ones, which change nothing yet.

    :param networks: online and target
    :param adapters: their options
    :param targets: the layers' names in the networks, see :func:`find_targets`
    """
    for network in networks.all:
        _inject(network, adapters, targets)
        for module in network.modules():
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0  # its fast path would read past the adapters
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False
    if networks.target is not None:
        ours = {name: weight for name, weight in networks.online.state_dict().items() if is_adapter(name)}
        networks.target.load_state_dict(ours, strict=False)


def _inject(network: nn.Module, adapters: Adapters, targets: Sequence[str]) -> None:
    """Let peft put a layer with an adapter in place of each target."""
    peft = _import_peft()
    from sb3_attnmem.transfer.adapted_attention import AdaptedAttention

    config = peft.LoraConfig(
        r=adapters.rank,
        lora_alpha=adapters.alpha,
        lora_dropout=adapters.dropout,
        target_modules="|".join(re.escape(name) for name in targets),
    )
    # peft's documented way to a layer of one's own, although its name begins with an underscore
    config._register_custom_module({nn.MultiheadAttention: AdaptedAttention})
    peft.inject_adapter_in_model(config, network, ADAPTER)


def is_adapter(name: str) -> bool:
    """:return: whether a parameter of that name belongs to an adapter"""
    return ".lora_" in name


def merge_adapters_of(networks: Networks) -> None:
    """
    Make the adapters part of their layers' weights: the networks are then as if they never had any.

    :param networks: online and target
    :raises ValueError: when an adapter is not finite, or peft cannot merge a layer; nothing is changed then
    """
    for network in networks.all:
        for name, layer in _adapted_layers(network):
            _try_to_merge(name, layer)
    for network in networks.all:
        for name, layer in _adapted_layers(network):
            layer.merge(safe_merge=True)
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, layer.get_base_layer())
        vars(network).pop("peft_config", None)


def _adapted_layers(network: nn.Module) -> list[tuple[str, Any]]:
    """:return: names and peft's layers, the innermost first"""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [
        (name, layer) for name, layer in reversed(list(network.named_modules())) if isinstance(layer, BaseTunerLayer)
    ]


def _try_to_merge(name: str, layer: nn.Module) -> None:
    """:raises ValueError: when peft cannot merge the layer: it would stop half-way through the network"""
    for tensor_name, tensor in layer.state_dict().items():
        if not bool(th.isfinite(tensor).all()):
            raise ValueError(
                f"{name}.{tensor_name} is not finite, so the adapters cannot be merged: load the model from before its "
                "training went wrong."
            )
    try:
        copy.deepcopy(layer).merge(safe_merge=True)  # type: ignore[operator]
    except Exception as error:
        raise ValueError(f"The adapter of {name!r} cannot be merged ({error}); save the model with it.") from error


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("Adapters need the peft library: pip install 'sb3_attnmem[transfer]'.") from error
    return peft
