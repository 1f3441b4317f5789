"""What a run learns before its first environment step: the options ``--offline-…`` of ``train``."""

from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem.dqn_recurrent import RecurrentDQN, updates_left
from sb3_attnmem.transfer import fill_from_buffer, fill_from_minari, keep_old_data
from sb3_attnmem.zoo.train.parser import option_name

#: option -> its name in :class:`OfflineData`
SETTINGS = {"offline_updates": "updates", "conservative_weight": "conservative_weight", "old_share": "old_share"}


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

    def begin(self, model: BaseAlgorithm, callback: BaseCallback | None = None) -> None:
        """
        Fill a model's replay buffer, and learn from it.

        :param model: that was just made
        :param callback: of the learning
        :raises ValueError: when it has no sequence buffer, or the data do not fit it
        :raises OSError: when there are no such data
        """
        if not isinstance(model, RecurrentDQN):
            raise ValueError(f"--offline-data is for rdqn and rqrdqn, not for {type(model).__name__}")
        is_buffer = Path(self.path).is_file()
        filled = fill_from_buffer(model, self.path) if is_buffer else fill_from_minari(model, self.path)
        print(f"{filled:,} transitions come from {self.path}")
        if self.updates:
            model.learn_offline(self.updates, callback, self.conservative_weight)
        keep_old_data(model, self.old_share)

    def go_on(self, model: RecurrentDQN, callback: BaseCallback | None = None) -> None:
        """
        Do what :meth:`begin` had still to do when a checkpoint was taken in it.

        :param model: as it was then
        :param callback: of the learning
        """
        left = updates_left(model)
        if left:
            model.learn_offline(left, callback, self.conservative_weight, reset_num_updates=False)
        keep_old_data(model, self.old_share)


def read_offline(own: Namespace) -> OfflineData | None:
    """
    :param own: options of ``train`` that were given
    :return: what they say of data; None: nothing
    :raises ValueError: where they make no sense, before anything is built
    """
    given = vars(own)
    settings = {SETTINGS[name]: value for name, value in given.items() if name in SETTINGS}
    if "offline_data" in given:
        return OfflineData(given["offline_data"], **settings)
    if settings:
        flags = ", ".join(option_name(name) for name in given if name in SETTINGS)
        raise ValueError(f"{flags}: pass --offline-data PATH as well")
    return None
