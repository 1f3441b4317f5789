"""A copy of a model that steps environments as ``learn`` does, and learns nothing: the part of it that an actor is."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_attnmem.dqn_recurrent.acting import ActingWithMemory
from sb3_attnmem.dqn_recurrent.exploration import Ladder
from sb3_attnmem.dqn_recurrent.normalization import RolloutStatistics
from sb3_attnmem.replay import Recorder, Standing, Steps


class Collector:
    """
    Steps environments by the very methods that ``learn`` steps them by.

    :param model: a copy that belongs to this collector, with environments that nobody else uses
    :param seed: of exploring, and of the environments
    :param first_episode: the number of its first episode on the ladder of exploration
    :param n_collectors: that share the ladder
    :param slots_of_block: (n_envs,) where each tape of the learner's replay buffer stands in its block
    """

    def __init__(
        self, model: ActingWithMemory, seed: int, first_episode: int, n_collectors: int, slots_of_block: np.ndarray
    ) -> None:
        assert model.env is not None and model.replay_buffer is not None
        self.model, self.env = model, model.env
        model.set_logger(Logger(folder=None, output_formats=[]))
        # What is normalised is: the statistics come with the weights. Here nothing is learned, no target moves
        model.normalize_observations = model.normalize_returns = False
        model.target_update_unit = "updates"  # type: ignore[attr-defined]
        model.n_tapes = None
        if model.get_vec_normalize_env() is not None:
            model.get_vec_normalize_env().training = False  # type: ignore[union-attr]
        model.replay_buffer = self.recorder = Recorder(model.replay_buffer, model.n_envs, slots_of_block)
        model.set_random_seed(seed)
        model._ladder = Ladder(model.n_envs, first_episode, n_collectors)
        self._callback: Any = None

    @property
    def n_episodes(self) -> int:
        """:return: the number that the next episode gets on the ladder"""
        return self.model._ladder.n_episodes

    def take_weights(self, weights: Mapping[str, np.ndarray], statistics: Mapping[str, Any] | None) -> None:
        """
        Act by other weights from the next step on.

        :param weights: what :func:`weights_of` gave
        :param statistics: what ``VecNormalize`` knows by now; None: nothing is normalised by it
        """
        # Copies: what comes over a network cannot be written to
        self.model.q_net.load_state_dict({name: th.tensor(array) for name, array in weights.items()})
        normalize = self.model.get_vec_normalize_env()
        if normalize is not None and statistics is not None:
            vars(normalize).update(statistics)

    def collect(self, n_steps: int, num_timesteps: int, total_timesteps: int) -> Steps:
        """
        :param n_steps: of each environment
        :param num_timesteps: environment steps that all actors together have made before, for the schedules
        :param total_timesteps: that they shall make
        :return: the steps
        :raises Exception: what the environments raise; ValueError when they give a value that is not finite
        """
        model = self.model
        if self._callback is None:
            _, self._callback = model._setup_learn(0, None, reset_num_timesteps=True)
        model.num_timesteps, model._total_timesteps = num_timesteps, total_timesteps
        model._update_current_progress_remaining(num_timesteps, total_timesteps)
        model.exploration_rate = model.exploration_schedule(model._current_progress_remaining)
        model.collect_rollouts(
            self.env,
            self._callback,
            TrainFreq(n_steps, TrainFrequencyUnit.STEP),
            self.recorder,
            learning_starts=model.learning_starts,
        )
        return self.recorder.take(self._standing())

    def _standing(self) -> Standing:
        model = self.model
        watched = model._watched()
        normalized = watched.vec_normalize is not None
        masks = None if model.mask_key is not None else watched.valid
        return Standing(model._last_original_obs if normalized else model._last_obs, masks)  # type: ignore[arg-type]


def weights_of(model: ActingWithMemory) -> dict[str, np.ndarray]:
    """
    :param model: that learns
    :return: copies of the weights that it acts by, and of what its network normalises by
    """
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.q_net.state_dict().items()}


def statistics_for(model: ActingWithMemory, n_envs: int) -> RolloutStatistics | None:
    """
    :param model: that learns
    :param n_envs: environments of an actor
    :return: what gathers for the network's normalisation from them; None where nothing is to be gathered
    """
    statistics = model._new_statistics()
    if statistics is None:
        return None
    observations = statistics.with_observations and bool(model.q_net.normalization.keys)
    return RolloutStatistics(n_envs, statistics.gamma, observations, statistics.with_returns)


def episodes_begun(model: ActingWithMemory) -> int:
    """:return: episodes that have begun, whose numbers on the ladder of exploration are taken"""
    return model._ladder.n_episodes


def set_episodes_begun(model: ActingWithMemory, n_episodes: int) -> None:
    """
    :param model: that learns
    :param n_episodes: how many have begun
    """
    model._ladder.n_episodes = n_episodes
