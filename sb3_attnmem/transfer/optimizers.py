"""Optimisers over what learns, each group at its own share of the learning rate."""

from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_attnmem.common.checks import check_number
from sb3_attnmem.common.parameters import match_names

#: of a parameter group: its share of the learning rate
SCALE = "lr_scale"


def shares_of(names: list[str], learning_rates: Mapping[str, float]) -> dict[str, float]:
    """
    Give each parameter its share of the learning rate.

    :param names: of parameters
    :param learning_rates: pattern -> share of the learning rate; of several that mean a parameter, the last counts
    :return: name -> its share, 1 where no pattern means it
    :raises ValueError: when a pattern means nothing, or a share is no number above 0
    """
    shares = dict.fromkeys(names, 1.0)
    for pattern, share in learning_rates.items():
        if not isinstance(pattern, str):
            raise ValueError(f"learning_rates has the key {pattern!r}; its keys are patterns of parameters' names.")
        number = check_number(
            f"learning_rates[{pattern!r}]",
            share,
            above=0,
            hint="It is a share of the learning rate (0.1: a tenth); to keep a part still, freeze it.",
        )
        shares.update(dict.fromkeys(match_names("learning_rates", names, [pattern]), number))
    return shares


def make_optimizer(
    policy: BasePolicy, parameters: Mapping[str, th.nn.Parameter], shares: Mapping[str, float]
) -> th.optim.Optimizer:
    """
    Make an optimiser over the parameters that learn.

    :param policy: whose optimiser is replaced
    :param parameters: all of the network that learns, by name
    :param shares: name -> share of the learning rate
    :return: an optimiser of the policy's kind over those that learn, a group for each share; what the present one knows
        of them is kept
    """
    groups: dict[float, list[th.nn.Parameter]] = {}
    for name, weight in parameters.items():
        if weight.requires_grad:
            groups.setdefault(shares.get(name, 1.0), []).append(weight)
    optimizer = policy.optimizer_class(
        [{"params": weights, SCALE: scale} for scale, weights in groups.items()],
        lr=policy.optimizer.param_groups[0]["lr"],  # type: ignore[call-arg]
        **policy.optimizer_kwargs,
    )
    for weights in groups.values():
        for weight in weights:
            if weight in policy.optimizer.state:
                optimizer.state[weight] = policy.optimizer.state[weight]
    # Stable-Baselines3 writes the scheduled rate into every group before it trains, so each is scaled during a step
    optimizer.register_step_pre_hook(_scale)
    optimizer.register_step_post_hook(_unscale)
    return optimizer


def _scale(optimizer: th.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["scheduled_lr"] = group["lr"]
        group["lr"] = group["lr"] * group[SCALE]


def _unscale(optimizer: th.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.pop("scheduled_lr")
