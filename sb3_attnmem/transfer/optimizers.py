"""Optimisers over what learns, each group at its own share of the learning rate."""

from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_attnmem.common.parameters import match_names

#: of a parameter group: its share of the learning rate
SCALE = "lr_scale"


def check_learning_rates(names: list[str], learning_rates: Mapping[str, float]) -> dict[str, float]:
    """
    :param names: of parameters
    :param learning_rates: pattern -> share of the learning rate; of several that mean a parameter, the last counts
    :return: name -> its share, 1 where no pattern means it
    :raises ValueError: when a pattern means nothing, or a share is not above 0
    """
    scales = dict.fromkeys(names, 1.0)
    for pattern, scale in learning_rates.items():
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < float("inf"):
            raise ValueError(
                f"learning_rates[{pattern!r}]={scale!r} must be above 0, a share of the learning rate (0.1: a tenth); "
                "to keep a part still, freeze it."
            )
        scales.update(dict.fromkeys(match_names("learning_rates", names, [pattern]), float(scale)))
    return scales


def make_optimizer(
    policy: BasePolicy, parameters: Mapping[str, th.nn.Parameter], scales: Mapping[str, float]
) -> th.optim.Optimizer:
    """
    :param policy: whose optimiser is replaced
    :param parameters: all of the network that learns, by name
    :param scales: name -> share of the learning rate
    :return: an optimiser of the policy's kind over those that learn, a group for each share; what the present one knows
        of them is kept
    """
    groups: dict[float, list[th.nn.Parameter]] = {}
    for name, weight in parameters.items():
        if weight.requires_grad:
            groups.setdefault(scales.get(name, 1.0), []).append(weight)
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
