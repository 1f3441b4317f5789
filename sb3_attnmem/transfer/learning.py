"""What of a model learns, how fast, and how that outlives ``save`` and ``load``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sb3_attnmem.common.parameters import Selection, eval_frozen_parts, first_blocks, select, what_learns
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer.adapters import Adapters, add_to, find_targets, is_adapter, merge_into
from sb3_attnmem.transfer.optimizers import check_learning_rates, make_optimizer
from sb3_attnmem.transfer.parts import common_name, networks_of


@dataclass(frozen=True)
class LearningPlan:
    """
    :param freeze: what does not learn, besides what a ``PretrainedExtractor`` holds; "none" releases that as well
    :param learning_rates: pattern -> share of the learning rate
    :param adapters: low-rank ones; they always learn, the layers they sit on never do
    """

    freeze: Selection = ()
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    adapters: Adapters | None = None


def set_learning(
    model: BaseAlgorithm,
    freeze: Selection | None = None,
    learning_rates: Mapping[str, float] | None = None,
    adapters: Adapters | Mapping[str, Any] | None = None,
) -> str:
    """
    Decide what learns; ``save`` and ``load`` of the model keep it. What is not given stays as the last call left it::

        set_learning(model, freeze="features_extractor", learning_rates={"memory": 0.1})
        set_learning(model, freeze="all", adapters=dict(targets=["encoder", "q_head"], rank=4))

    Parts are named as for :func:`~sb3_attnmem.transfer.load_pretrained`, patterns are such names ("memory", which means
    all in it) or have wildcards ("*.bias"). Frozen parameters get no gradient and are not in the optimiser; parts that
    are frozen as a whole stay in eval mode.

    :param model: RecurrentDQN, DQN, QRDQN, PPO or A2C
    :param freeze: "all", "none", pattern(s), or k for the first k blocks of the features extractor (see
        :func:`~sb3_attnmem.common.parameters.first_blocks`)
    :param learning_rates: pattern -> share of the learning rate (0.1: a tenth), on top of any schedule
    :param adapters: options of :class:`~sb3_attnmem.transfer.Adapters`, as one or as a dict
    :return: a line that tells how many parameters learn; printed where the model is verbose
    :raises ValueError: when a pattern means nothing, nothing would be left to learn, the model has other adapters
        already, or an option is unknown; the model is then as it was
    """
    policy = model.policy
    assert isinstance(policy, BasePolicy)
    changes: dict[str, Any] = dict(freeze=freeze, learning_rates=learning_rates, adapters=_as_adapters(adapters))
    plan = replace(
        getattr(policy, "learning", LearningPlan()), **{name: x for name, x in changes.items() if x is not None}
    )
    _apply(policy, plan)
    # Other models may have been given the same dictionary
    model.policy_class, model.policy_kwargs = type(policy), {**model.policy_kwargs, "learning": plan}
    line = what_learns(networks_of(policy).online)
    if model.verbose >= 1:
        print(line)
    return line


def merge_adapters(model: BaseAlgorithm) -> None:
    """
    Make the adapters part of the weights they change. The model acts as before and has no adapters any more, so that it
    is exported, or loaded where ``peft`` is not installed; everything learns again.

    :param model: with adapters
    :raises ValueError: when it has none
    """
    policy = model.policy
    if not isinstance(policy, LearningPolicy) or policy.learning.adapters is None:
        raise ValueError("The model has no adapters: set_learning(model, adapters=dict(targets=[…])) gives it some.")
    for network in networks_of(policy).all:
        merge_into(network)
    plan = LearningPlan()
    _apply(policy, plan)
    model.policy_kwargs = {**model.policy_kwargs, "learning": plan}


class LearningPolicy(BasePolicy):
    """
    What a policy becomes when it is decided what learns: SB3 builds it by its class and arguments when a model is
    loaded, so both must tell. See :func:`learning_class`.

    :param args: of the policy
    :param learning: what learns
    :param kwargs: of the policy
    """

    learning: LearningPlan
    #: parameters that the networks were built not to learn
    fixed: set[str]

    def __init__(self, *args: Any, learning: LearningPlan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _apply(self, learning)

    def set_training_mode(self, mode: bool) -> None:
        super().set_training_mode(mode)
        if mode:
            eval_frozen_parts(networks_of(self).online)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "learning": self.learning}


@lru_cache
def learning_class(policy_class: type[BasePolicy]) -> type[BasePolicy]:
    """
    :param policy_class: a policy's
    :return: the same with a plan of what learns
    """
    if issubclass(policy_class, LearningPolicy):
        return policy_class
    return type(f"Learning{policy_class.__name__}", (LearningPolicy, policy_class), {"__module__": __name__})


def _apply(policy: BasePolicy, plan: LearningPlan) -> None:
    """
    :param policy: that comes to learn by the plan
    :param plan: what learns
    :raises ValueError: before anything is changed
    """
    networks = networks_of(policy)
    online = networks.online
    known: set[str] | None = getattr(policy, "fixed", None)
    fixed = _fixed(online) if known is None else known
    names = [common_name(name) for name, _ in online.named_parameters() if not is_adapter(name)]
    frozen = _frozen(online, names, plan.freeze)
    adapted = any(is_adapter(name) for name, _ in online.named_parameters())
    if adapted and plan.adapters != policy.learning.adapters:  # type: ignore[union-attr]
        raise ValueError("The model has other adapters: merge_adapters(model) first, or leave them as they are.")
    targets = find_targets(policy, online, plan.adapters) if plan.adapters and not adapted else []
    if plan.adapters is None and not set(names) - frozen - fixed:
        raise ValueError("Nothing is left to learn: freeze less, or add adapters.")
    check_learning_rates(names, plan.learning_rates)
    # Nothing can fail from here on
    if plan.adapters is not None and targets:
        add_to(networks, plan.adapters, targets)
    parameters = {common_name(name): weight for name, weight in online.named_parameters()}
    for name, weight in online.named_parameters():
        on_adapted = ".base_layer" in name
        weight.requires_grad_(is_adapter(name) or not (on_adapted or common_name(name) in frozen | fixed))
    scales = check_learning_rates(list(parameters), plan.learning_rates)
    policy.optimizer = make_optimizer(policy, parameters, scales)
    policy.__class__ = learning_class(type(policy))
    policy.fixed, policy.learning = fixed, plan  # type: ignore[assignment]
    policy.set_training_mode(policy.training)


def _frozen(network: nn.Module, names: list[str], freeze: Selection) -> set[str]:
    """:return: names of the parameters that do not learn"""
    if isinstance(freeze, int):
        path, extractor = "features_extractor.", network.get_submodule("features_extractor")
        if isinstance(extractor, PretrainedExtractor):
            path, extractor = f"{path}module.", extractor.module
        frozen = {common_name(f"{path}{name}") for name in first_blocks("freeze", extractor, freeze)}
    else:
        frozen = select("freeze", names, freeze)
    return frozen if freeze == "none" else frozen | _held(network)


def _held(network: nn.Module) -> set[str]:
    """:return: names of the parameters that a ``PretrainedExtractor`` was told to freeze"""
    return {
        common_name(f"{path}.module.{name}")
        for path, module in network.named_modules()
        if isinstance(module, PretrainedExtractor)
        for name in module.held
    }


def _fixed(network: nn.Module) -> set[str]:
    """:return: names of the parameters that a network was built not to learn"""
    still = {common_name(name) for name, weight in network.named_parameters() if not weight.requires_grad}
    return still - _held(network)


def _as_adapters(adapters: Adapters | Mapping[str, Any] | None) -> Adapters | None:
    if adapters is None or isinstance(adapters, Adapters):
        return adapters
    known = list(Adapters.__dataclass_fields__)
    unknown = [name for name in adapters if name not in known]
    if unknown:
        raise ValueError(f"adapters has the option(s) {', '.join(unknown)}; it takes {', '.join(known)}.")
    return Adapters(**adapters)
