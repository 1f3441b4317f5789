"""Episodes that were collected elsewhere, laid into the replay buffer as if the model had collected them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.observations import named_arrays
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import Episode, lay_episodes, rewrite_states
from sb3_attnmem.transfer.arguments import buffer_of
from sb3_attnmem.transfer.fitting import check_episode, fit_spaces


def fill_from_episodes(model: RecurrentDQN, episodes: Iterable[Episode], observation_space: spaces.Space) -> int:
    """
    Lay episodes on the tapes of the model's replay buffer, behind what is there. Observations and rewards are stored as
    they are; where the model's environment is normalised by a ``VecNormalize`` that is in training, its statistics take
    the data in. The memory's states are those that the model's present network has on the way. The next ``learn``
    begins with an episode.

    :param model: whose replay buffer is filled
    :param episodes: of at least one step each; lists in them are taken for arrays
    :param observation_space: of the episodes; the model's, or one of images with channels last, which are transposed
    :return: the number of transitions
    :raises ValueError: when something does not fit, or the buffer has too little room; nothing is stored then
    """
    buffer = buffer_of(model)
    if not isinstance(observation_space, spaces.Space):
        raise ValueError(f"observation_space={observation_space!r} must be the space of the episodes' observations.")
    if not isinstance(episodes, Iterable):
        raise ValueError(
            f"episodes={episodes!r} must be a list of Episode(observations, actions, rewards, terminated)."
        )
    fit = fit_spaces(observation_space, model.observation_space)
    normalizer = model.get_vec_normalize_env()
    _check_normalizer(normalizer, model.observation_space)
    checked = [check_episode(i, episode, observation_space, model.action_space) for i, episode in enumerate(episodes)]
    if not checked:
        raise ValueError("There is no episode to fill the replay buffer from.")
    fitted = [episode._replace(observations=fit(episode.observations)) for episode in checked]
    model.allocate_replay()
    lay_episodes(buffer, fitted)
    model.interrupt()
    if normalizer is not None and normalizer.training:
        fit_normalization(normalizer, fitted)
    recompute_states(model)
    return sum(len(episode.actions) for episode in fitted)


def recompute_states(model: RecurrentDQN) -> None:
    """
    Store the states that the model's present network has over all that its replay buffer holds, all tapes at once.
    Does nothing where no states are stored (``state_init="zero"``).

    :param model: whose replay buffer is full of older states, or of none
    :raises ValueError: when it has no replay buffer
    """
    buffer = buffer_of(model)
    model.policy.set_training_mode(False)
    for part in buffer.parts:
        state = tuple(tensor.detach().clone() for tensor in model.q_net.memory.initial_state(part.n_envs))
        rewrite_states(part, state, model.q_net.burn_in, model.get_vec_normalize_env())


def fit_normalization(normalizer: VecNormalize, episodes: Sequence[Episode]) -> None:
    """
    Take episodes into the statistics, as if the environment had been stepped through them.

    :param normalizer: whose statistics are updated
    :param episodes: not normalised
    """
    for episode in episodes:
        if normalizer.norm_obs:
            arrays = dict(named_arrays(episode.observations))
            all_statistics: dict[str, Any] | Any = normalizer.obs_rms
            for key, statistics in named_arrays(all_statistics):
                statistics.update(arrays[key])
        returns = np.zeros(len(episode.rewards))
        running = 0.0
        for t, reward in enumerate(episode.rewards):
            returns[t] = running = running * normalizer.gamma + float(reward)
        normalizer.ret_rms.update(returns)


def _check_normalizer(normalizer: VecNormalize | None, space: spaces.Space) -> None:
    if normalizer is not None and normalizer.observation_space != space:
        raise ValueError(
            f"VecNormalize sees observations of {normalizer.observation_space}, the model of {space}: its statistics "
            "cannot take the data in. Put wrappers that change observations inside VecNormalize, for images "
            "VecNormalize(VecTransposeImage(env))."
        )
