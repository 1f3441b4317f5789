"""Policies that know what of them learns, so that it outlives ``save`` and ``load``."""

from functools import lru_cache
from typing import Any

from stable_baselines3.common.policies import BasePolicy

from sb3_attnmem.common.parameters import eval_frozen_parts
from sb3_attnmem.transfer.adapters import add_adapters, find_targets, is_adapter, merge_adapters_of
from sb3_attnmem.transfer.optimizers import make_optimizer, shares_of
from sb3_attnmem.transfer.parts import common_name, networks_of
from sb3_attnmem.transfer.plan import LearningPlan, fixed_names, frozen_names


class LearningPolicy(BasePolicy):
    """
    A policy of which a plan says what learns. Stable-Baselines3 builds a policy by its class and its arguments when a
    model is loaded, so the plan is one of them. :func:`learning_class` joins this class with the policy's own.

    :param args: of the policy
    :param learning: what learns
    :param kwargs: of the policy
    """

    learning: LearningPlan
    #: common names of the parameters that the networks were built not to learn
    fixed: set[str]

    def __init__(self, *args: Any, learning: LearningPlan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.learning, self.fixed = LearningPlan(), fixed_names(networks_of(self).online)
        self.follow(learning)

    def follow(self, plan: LearningPlan) -> None:
        """
        Let learn what the plan says.

        :param plan: the new one
        :raises ValueError: when it does not fit the networks; nothing is changed then
        """
        networks = networks_of(self)
        online = networks.online
        names = [common_name(name) for name, _ in online.named_parameters() if not is_adapter(name)]
        still = frozen_names(online, names, plan.freeze) | self.fixed
        adapted = any(is_adapter(name) for name, _ in online.named_parameters())
        if adapted and plan.adapters != self.learning.adapters:
            raise ValueError("The model has other adapters: merge_adapters(model) first, or leave them as they are.")
        if plan.adapters is None and not set(names) - still:
            raise ValueError("Nothing is left to learn: freeze less, or add adapters.")
        shares_of(names, plan.learning_rates)
        targets = find_targets(self, online, plan.adapters) if plan.adapters and not adapted else []
        # Nothing can fail from here on
        if plan.adapters is not None and targets:
            add_adapters(networks, plan.adapters, targets)
        for name, weight in online.named_parameters():
            is_adapted = ".base_layer" in name
            weight.requires_grad_(is_adapter(name) or not (is_adapted or common_name(name) in still))
        parameters = {common_name(name): weight for name, weight in online.named_parameters()}
        self.optimizer = make_optimizer(self, parameters, shares_of(list(parameters), plan.learning_rates))
        self.learning = plan
        self.set_training_mode(self.training)

    def merge_adapters(self) -> None:
        """
        Make the adapters part of the weights that they change, and let everything learn again.

        :raises ValueError: when an adapter is not finite; nothing is changed then
        """
        merge_adapters_of(networks_of(self))
        self.follow(LearningPlan())

    def set_training_mode(self, mode: bool) -> None:
        super().set_training_mode(mode)
        if mode:
            eval_frozen_parts(networks_of(self).online)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "learning": self.learning}


@lru_cache
def learning_class(policy_class: type[BasePolicy]) -> type[LearningPolicy]:
    """
    Make a policy class that keeps a plan of what learns.

    :param policy_class: a policy's
    :return: the same with a plan of what learns
    """
    if issubclass(policy_class, LearningPolicy):
        return policy_class
    return type(f"Learning{policy_class.__name__}", (LearningPolicy, policy_class), {"__module__": __name__})


def as_learning_policy(policy: BasePolicy) -> LearningPolicy:
    """
    Make a policy of the learning class that has the networks, the optimiser and the settings of another: the same
    objects, so that whoever holds a network holds that of the new policy.

    :param policy: of RecurrentDQN, DQN, QRDQN, PPO or A2C; it is left as it is
    :return: a new policy, by whose plan everything learns that learned before; or the policy, if it is one already
    """
    if isinstance(policy, LearningPolicy):
        return policy
    fixed = fixed_names(networks_of(policy).online)
    made_of = learning_class(type(policy))
    learner = made_of.__new__(made_of)
    # What torch does to restore a module; the constructor would build the networks once more, and draw random numbers
    learner.__setstate__({**vars(policy), "learning": LearningPlan(), "fixed": fixed})
    return learner
