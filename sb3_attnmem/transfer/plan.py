"""What of a network learns and how fast, as the user asked for it and as names of parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from sb3_attnmem.common.checks import check_keys
from sb3_attnmem.common.parameters import Selection, first_blocks, select
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer.adapters import Adapters
from sb3_attnmem.transfer.parts import common_name


@dataclass(frozen=True)
class LearningPlan:
    """
    What of a model learns, and how fast.

    :param freeze: what does not learn, besides what a ``PretrainedExtractor`` holds; "none" releases that as well
    :param learning_rates: pattern -> share of the learning rate
    :param adapters: low-rank ones; they always learn, the layers they sit on never do
    """

    freeze: Selection = ()
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    adapters: Adapters | None = None

    def changed(
        self,
        freeze: Selection | None,
        learning_rates: Mapping[str, float] | None,
        adapters: Adapters | Mapping[str, Any] | None,
    ) -> "LearningPlan":
        """
        The plan with other options, where they are given; None leaves one as it is.

        :param freeze: as of the plan
        :param learning_rates: as of the plan
        :param adapters: as of the plan, or a dict of their options
        :return: the new plan
        :raises ValueError: when an option is of the wrong type or unknown; names are checked against a network later
        """
        options: dict[str, Any] = {}
        if freeze is not None:
            options["freeze"] = freeze
        if learning_rates is not None:
            if not isinstance(learning_rates, Mapping):
                raise ValueError(
                    f"learning_rates={learning_rates!r} must be a dict, pattern -> share of the learning rate, for "
                    "example {'memory': 0.1}."
                )
            options["learning_rates"] = dict(learning_rates)
        if adapters is not None:
            options["adapters"] = _as_adapters(adapters)
        return replace(self, **options)


def frozen_names(network: nn.Module, names: list[str], freeze: Selection) -> set[str]:
    """
    Name the parameters that a plan freezes.

    :param network: the one that learns
    :param names: common names of its parameters, without adapters
    :param freeze: see :class:`LearningPlan`
    :return: common names of the parameters that do not learn
    :raises ValueError: when it means nothing in this network
    """
    if isinstance(freeze, (int, np.integer)):
        path, extractor = "features_extractor.", network.get_submodule("features_extractor")
        if isinstance(extractor, PretrainedExtractor):
            path, extractor = f"{path}module.", extractor.module
        frozen = {common_name(f"{path}{name}") for name in first_blocks("freeze", extractor, freeze)}
    else:
        frozen = select("freeze", names, freeze)
    return frozen if freeze == "none" else frozen | _held_names(network)


def fixed_names(network: nn.Module) -> set[str]:
    """
    Name the parameters that never learn.

    :param network: as it was built
    :return: common names of the parameters that it was built not to learn, besides those that a ``PretrainedExtractor``
        holds
    """
    still = {common_name(name) for name, weight in network.named_parameters() if not weight.requires_grad}
    return still - _held_names(network)


def _held_names(network: nn.Module) -> set[str]:
    """:return: common names of the parameters that a ``PretrainedExtractor`` was told to freeze"""
    return {
        common_name(f"{path}.module.{name}")
        for path, module in network.named_modules()
        if isinstance(module, PretrainedExtractor)
        for name in module.held
    }


def _as_adapters(adapters: Adapters | Mapping[str, Any]) -> Adapters:
    if isinstance(adapters, Adapters):
        return adapters
    if not isinstance(adapters, Mapping):
        raise ValueError(f"adapters={adapters!r} must be Adapters(…), or a dict of its options.")
    check_keys("adapters", adapters, Adapters.__dataclass_fields__, "Adapters")
    return Adapters(**adapters)
