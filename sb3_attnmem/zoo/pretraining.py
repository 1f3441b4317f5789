"""What a run begins from, and what of it learns: options of ``train`` that rl_zoo3 does not know."""

import sys
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_attnmem.common.parameters import Selection
from sb3_attnmem.transfer import load_pretrained, set_learning
from sb3_attnmem.zoo.offline import FLAGS as OFFLINE_FLAGS
from sb3_attnmem.zoo.offline import OfflineData, read_offline
from sb3_attnmem.zoo.options import value_of, values_of, without

FLAGS = ("--pretrained", "--parts", "--freeze", "--adapters", "--learning-rates", *OFFLINE_FLAGS)


class Pretraining(NamedTuple):
    """
    :param agent: the file of an agent to begin from
    :param parts: of it; None: all that both have
    :param freeze: what does not learn
    :param adapters: what gets low-rank adapters
    :param learning_rates: pattern -> share of the learning rate
    :param offline: data to learn from before the run
    """

    agent: str | None = None
    parts: list[str] | None = None
    freeze: Selection | None = None
    adapters: list[str] | None = None
    learning_rates: dict[str, float] | None = None
    offline: OfflineData | None = None

    def begin(self, model: BaseAlgorithm) -> None:
        """
        :param model: that was just made
        :raises SystemExit: when something does not fit; told like a wrong command line
        """
        try:
            if self.agent is not None:
                filled = load_pretrained(model, self.agent, self.parts)
                print(f"{len(filled)} tensors come from {self.agent}")
            if any(choice is not None for choice in (self.freeze, self.adapters, self.learning_rates)):
                adapters = None if self.adapters is None else dict(targets=self.adapters)
                set_learning(model, self.freeze, self.learning_rates, adapters)
            if self.offline is not None:
                self.offline.begin(model)
        except (ImportError, OSError, ValueError) as error:
            print(f"sb3-attnmem: {error}", file=sys.stderr)
            raise SystemExit(2) from error


def read_pretraining(options: list[str]) -> Pretraining:
    """
    :param options: of ``train``
    :return: what they say
    :raises ValueError: where they make no sense, before anything is built
    """
    given = {flag: values_of(options, flag) for flag in FLAGS if _is_given(options, flag)}
    for flag, values in given.items():
        if not values:
            raise ValueError(f"{flag} wants a value")
    if given and {"-optimize", "--optimize-hyperparameters"} & set(options):
        raise ValueError(f"{', '.join(given)}: a search trains many agents from scratch; leave these options out")
    agent = value_of(options, "--pretrained", None)
    if "--parts" in given and agent is None:
        raise ValueError("--parts names parts of an agent: pass --pretrained AGENT.zip as well")
    if agent is not None and not any(path.is_file() for path in (Path(agent), Path(f"{agent}.zip"))):
        raise ValueError(f"--pretrained {agent}: there is no such file")
    rates = given.get("--learning-rates")
    return Pretraining(
        agent,
        given.get("--parts"),
        _selection(given.get("--freeze")),
        given.get("--adapters"),
        _rates(rates),
        read_offline(options),
    )


def without_pretraining(options: list[str]) -> list[str]:
    """:return: the options that are rl_zoo3's"""
    return without(options, *FLAGS)


def _is_given(options: list[str], flag: str) -> bool:
    return any(word == flag or word.startswith(f"{flag}=") for word in options)


def _selection(values: list[str] | None) -> Selection | None:
    if values is None:
        return None
    if len(values) == 1:
        return int(values[0]) if values[0].isdigit() else values[0]
    return values


def _rates(values: list[str] | None) -> dict[str, float] | None:
    if values is None:
        return None
    rates = {}
    for value in values:
        pattern, _, share = value.rpartition(":")
        try:
            rates[pattern] = float(share)
        except ValueError:
            pattern = ""
        if not pattern:
            raise ValueError(f"--learning-rates {value}: pass PART:SHARE, for example features_extractor:0.1")
    return rates
