"""A rollout that a callback stopped before its updates, so that the next ``learn`` goes on with it."""

from typing import NamedTuple

from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit


class StoppedRollout(NamedTuple):
    """
    What was collected since the last updates.

    :param steps: environment steps, of all environments
    :param vec_steps: steps of the ``VecEnv``
    :param episodes: that ended
    :param num_timesteps: of the model when it stopped
    """

    steps: int = 0
    vec_steps: int = 0
    episodes: int = 0
    num_timesteps: int = 0

    def _missing(self, train_freq: TrainFreq) -> int:
        return train_freq.frequency - (self.vec_steps if train_freq.unit == TrainFrequencyUnit.STEP else self.episodes)

    def complete(self, train_freq: TrainFreq) -> bool:
        """
        :param train_freq: how much a rollout collects
        :return: whether nothing is missing but the updates
        """
        return self._missing(train_freq) <= 0

    def rest_of(self, train_freq: TrainFreq) -> TrainFreq:
        """
        :param train_freq: how much a rollout collects
        :return: how much is missing
        """
        return train_freq._replace(frequency=self._missing(train_freq))

    def after(self, rollout: RolloutReturn, n_envs: int, num_timesteps: int) -> "StoppedRollout":
        """
        :param rollout: that went on with this one, and was stopped in turn
        :param n_envs: number of environments
        :param num_timesteps: of the model
        :return: both together
        """
        return StoppedRollout(
            self.steps + rollout.episode_timesteps,
            self.vec_steps + rollout.episode_timesteps // n_envs,
            self.episodes + rollout.n_episodes,
            num_timesteps,
        )


NOTHING = StoppedRollout()
