"""Decide what of a model learns, and how fast."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_attnmem.common.parameters import Selection, what_learns
from sb3_attnmem.transfer.adapters import Adapters
from sb3_attnmem.transfer.arguments import policy_of
from sb3_attnmem.transfer.learning_policy import LearningPolicy, as_learning_policy
from sb3_attnmem.transfer.parts import networks_of


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

    The first call gives the model another ``policy``, of a class that keeps the plan, and every call another
    ``policy.optimizer``: take them from the model again. The networks and their parameters stay the same objects.

    :param model: RecurrentDQN, DQN, QRDQN, PPO or A2C
    :param freeze: "all", "none", pattern(s), or k for the first k blocks of the features extractor (see
        :func:`~sb3_attnmem.common.parameters.first_blocks`)
    :param learning_rates: pattern -> share of the learning rate (0.1: a tenth), on top of any schedule
    :param adapters: options of :class:`~sb3_attnmem.transfer.Adapters`, as one or as a dict
    :return: a line that tells how many parameters learn; printed where the model is verbose
    :raises ValueError: when the model is none of these, a pattern means nothing, nothing would be left to learn, the
        model has other adapters already, or an option is unknown or makes no sense; the model is then as it was
    """
    policy = as_learning_policy(policy_of(model))
    policy.follow(policy.learning.changed(freeze, learning_rates, adapters))
    _hand_over(model, policy)
    line = what_learns(networks_of(policy).online)
    if model.verbose >= 1:
        print(line)
    return line


def merge_adapters(model: BaseAlgorithm) -> None:
    """
    Make the adapters part of the weights they change. The model acts as before and has no adapters any more, so that it
    is exported, or loaded where ``peft`` is not installed; everything learns again.

    :param model: with adapters
    :raises ValueError: when it has none, or one that is not finite; the model is then as it was
    """
    policy = policy_of(model)
    if not isinstance(policy, LearningPolicy) or policy.learning.adapters is None:
        raise ValueError("The model has no adapters: set_learning(model, adapters=dict(targets=[…])) gives it some.")
    policy.merge_adapters()
    _hand_over(model, policy)


def _hand_over(model: BaseAlgorithm, policy: LearningPolicy) -> None:
    """Give the model the policy, and what a saved model is built from again."""
    model.policy = policy
    # Other models may have been given the same dictionary
    model.policy_class, model.policy_kwargs = type(policy), {**model.policy_kwargs, "learning": policy.learning}
