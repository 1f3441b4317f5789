"""What a run learns before it has an environment: the options ``--offline-…`` of ``train``."""

from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.transfer import fill_from_buffer, fill_from_minari, keep_old_data
from sb3_attnmem.zoo.options import value_of

FLAGS = ("--offline-data", "--offline-updates", "--conservative-weight", "--old-share")


class OfflineData(NamedTuple):
    """
    :param path: a replay buffer that was saved (.pkl), the folder of a Minari dataset, or its id
    :param updates: gradient steps on it before the run; 0: none
    :param conservative_weight: of these updates
    :param old_share: of the data, in each batch of the run; 0 drops them
    """

    path: str
    updates: int = 10_000
    conservative_weight: float = 0.0
    old_share: float = 0.5

    def begin(self, model: BaseAlgorithm) -> None:
        """
        :param model: that was just made
        :raises ValueError: when it has no sequence buffer, or the data do not fit it
        :raises OSError: when there are no such data
        """
        if not isinstance(model, RecurrentDQN):
            raise ValueError(f"--offline-data is for rdqn, not for {type(model).__name__}")
        is_buffer = Path(self.path).is_file()
        filled = fill_from_buffer(model, self.path) if is_buffer else fill_from_minari(model, self.path)
        print(f"{filled:,} transitions come from {self.path}")
        if self.updates:
            model.learn_offline(self.updates, conservative_weight=self.conservative_weight)
        keep_old_data(model, self.old_share)


def read_offline(options: list[str]) -> OfflineData | None:
    """
    :param options: of ``train``
    :return: what they say
    :raises ValueError: where they make no sense, before anything is built
    """
    path = value_of(options, "--offline-data", None)
    given = {flag: value_of(options, flag, None) for flag in FLAGS[1:]}
    given = {flag: value for flag, value in given.items() if value is not None}
    if path is None:
        if given:
            raise ValueError(f"{', '.join(given)}: pass --offline-data PATH as well")
        return None
    default = OfflineData(path)
    read = OfflineData(
        path,
        int(_number(given, "--offline-updates", default.updates)),
        _number(given, "--conservative-weight", default.conservative_weight),
        _number(given, "--old-share", default.old_share),
    )
    if read.updates < 0 or not 0 <= read.conservative_weight < float("inf"):
        raise ValueError("--offline-updates and --conservative-weight must be at least 0")
    if not 0 <= read.old_share < 1:
        raise ValueError(f"--old-share {read.old_share:g} must be at least 0 and below 1")
    return read


def _number(given: dict[str, str], flag: str, default: float) -> float:
    try:
        return float(given.get(flag, default))
    except ValueError:
        raise ValueError(f"{flag} {given[flag]}: pass a number") from None
