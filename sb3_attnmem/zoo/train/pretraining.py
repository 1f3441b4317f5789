"""What a run begins from, and what of it learns: options of ``train`` that rl_zoo3 does not know."""

from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem.common.parameters import Selection
from sb3_attnmem.transfer import load_pretrained, set_learning
from sb3_attnmem.zoo.refusals import Refusal
from sb3_attnmem.zoo.train.offline_data import OfflineData, read_offline


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

    def begin(self, model: BaseAlgorithm, callback: BaseCallback | None = None) -> None:
        """
        Let a model begin with this.

        :param model: that was just made
        :param callback: of learning from data
        :raises Refusal: when something does not fit
        """
        try:
            if self.agent is not None:
                filled = load_pretrained(model, self.agent, self.parts)
                print(f"{len(filled)} tensors come from {self.agent}")
            if any(choice is not None for choice in (self.freeze, self.adapters, self.learning_rates)):
                adapters = None if self.adapters is None else dict(targets=self.adapters)
                set_learning(model, self.freeze, self.learning_rates, adapters)
            if self.offline is not None:
                self.offline.begin(model, callback)
        except (ImportError, OSError, ValueError) as error:
            raise Refusal(str(error)) from error


def read_pretraining(own: Namespace) -> Pretraining:
    """
    :param own: options of ``train`` that were given
    :return: what they say
    :raises ValueError: where they make no sense, before anything is built
    """
    given = vars(own)
    agent = given.get("pretrained")
    if "parts" in given and agent is None:
        raise ValueError("--parts names parts of an agent: pass --pretrained AGENT.zip as well")
    if agent is not None and not any(path.is_file() for path in (Path(agent), Path(f"{agent}.zip"))):
        raise ValueError(f"--pretrained {agent}: there is no such file")
    rates = given.get("learning_rates")
    return Pretraining(
        agent,
        given.get("parts"),
        _selection(given.get("freeze")),
        given.get("adapters"),
        None if rates is None else dict(rates),
        read_offline(own),
    )


def _selection(values: list[str] | None) -> Selection | None:
    if values is None or len(values) > 1:
        return values
    return int(values[0]) if values[0].isdigit() else values[0]
