"""Episodes that were collected elsewhere, laid into the replay buffer as if the model had collected them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize, VecTransposeImage

from sb3_attnmem.common.observations import Observation, check_finite
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import SequenceReplayBuffer
from sb3_attnmem.replay.tapes import Slot, Tapes


class Episode(NamedTuple):
    """
    :param observations: (T + 1, ...), as the environment gave them, the one after the last action included; of a Dict
        space a dict of such arrays
    :param actions: (T,)
    :param rewards: (T,), as the environment gave them
    :param terminated: whether it ended by termination; if not (a time limit, a cut), the last observation is
        bootstrapped from
    """

    observations: Observation
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


def fill_from_episodes(model: RecurrentDQN, episodes: Iterable[Episode], observation_space: spaces.Space) -> int:
    """
    Lay episodes on the tapes of the model's replay buffer, behind what is there. Observations and rewards are stored as
    they are; where the model's environment is normalised by a ``VecNormalize`` that is in training, its statistics take
    the data in. The memory's states are those that the model's present network has on the way. The next ``learn``
    begins with an episode.

    :param model: whose replay buffer is filled
    :param episodes: of at least one step each
    :param observation_space: of the episodes; the model's, or one of images with channels last, which are transposed
    :return: the number of transitions
    :raises ValueError: when something does not fit, or the buffer has too little room; nothing is stored then
    """
    assert model.replay_buffer is not None
    fit = _fitting(observation_space, model.observation_space)
    n_actions = int(model.action_space.n)  # type: ignore[attr-defined]
    fitted = [episode._replace(observations=fit(episode.observations)) for episode in episodes]
    if not fitted:
        raise ValueError("There is no episode to fill the replay buffer from.")
    for i, episode in enumerate(fitted):
        _check(i, episode, n_actions)
    buffer = model.replay_buffer
    model.allocate_replay()
    tapes = buffer.tapes
    assert tapes is not None
    rows = _choose_rows(buffer, tapes, fitted)
    if buffer.frame_stack is not None:
        for episode in fitted:
            buffer.frame_stack.check_beginnings(_map(lambda array: array[:1], episode.observations))
    # Nothing can fail from here on
    model.interrupt()
    for row, episode in zip(rows, fitted, strict=True):
        observations = episode.observations
        if buffer.frame_stack is not None:
            observations = buffer.frame_stack.newest(observations)
        terminated = episode.terminated or not buffer.handle_timeout_termination
        tapes.lay(row, observations, episode.actions, episode.rewards, terminated)
    normalizer = model.get_vec_normalize_env()
    if normalizer is not None and normalizer.training:
        fit_normalization(normalizer, fitted)
    recompute_states(model)
    return sum(len(episode.actions) for episode in fitted)


def recompute_states(model: RecurrentDQN) -> None:
    """
    Store the states that the model's present network has over all that its replay buffer holds, all tapes at once.
    Does nothing where no states are stored (``state_init="zero"``).

    :param model: whose replay buffer is full of older states, or of none
    """
    buffer = model.replay_buffer
    assert buffer is not None
    for part in buffer.parts:
        if part.tapes is not None and part.tapes.states:
            _recompute(model, part, part.tapes)


def _recompute(model: RecurrentDQN, buffer: SequenceReplayBuffer, tapes: Tapes) -> None:
    model.policy.set_training_mode(False)
    rows, block = tapes.rows, tapes.block
    state = tuple(tensor.detach().clone() for tensor in model.q_net.memory.initial_state(len(rows)))
    oldest, ends = tapes.oldest, tapes.ends
    for i in range(int((-(-(ends - oldest) // block)).max())):
        begins = oldest + i * block
        alive = begins < ends
        # Ring places of rows that have ended may hold the next block already
        tapes.write_states(rows[alive], begins[alive], [tensor.cpu().numpy()[alive] for tensor in state])
        slots = begins[:, None] + np.arange(block)
        places = slots % tapes.n_slots
        present = (slots < ends[:, None]) & (tapes.kinds[rows[:, None], places] != Slot.EMPTY)
        if present.any():
            starts = tapes.starts[rows[:, None], places] & present
            part = buffer.read(rows, slots, present, starts, model.get_vec_normalize_env())
            state = model.q_net.burn_in(part, state)


def fit_normalization(normalizer: VecNormalize, episodes: Sequence[Episode]) -> None:
    """
    Take episodes into the statistics, as if the environment had been stepped through them.

    :param normalizer: whose statistics are updated
    :param episodes: not normalised
    """
    for episode in episodes:
        if normalizer.norm_obs:
            if isinstance(episode.observations, dict):
                assert isinstance(normalizer.obs_rms, dict)
                for key, statistics in normalizer.obs_rms.items():
                    statistics.update(episode.observations[key])
            else:
                normalizer.obs_rms.update(episode.observations)
        returns = np.zeros(len(episode.rewards))
        running = 0.0
        for t, reward in enumerate(episode.rewards):
            returns[t] = running = running * normalizer.gamma + float(reward)
        normalizer.ret_rms.update(returns)


def _fitting(theirs: spaces.Space, ours: spaces.Space) -> Any:
    """
    :param theirs: of the data
    :param ours: of the model
    :return: function that makes observations of theirs ours
    :raises ValueError: when they do not fit
    """
    if theirs == ours:
        return lambda observations: observations
    if isinstance(theirs, spaces.Dict) and isinstance(ours, spaces.Dict) and set(theirs) == set(ours):
        parts = {key: _fitting(theirs[key], ours[key]) for key in ours}
        return lambda observations: {key: part(observations[key]) for key, part in parts.items()}
    if isinstance(theirs, spaces.Box) and is_image_space(theirs) and VecTransposeImage.transpose_space(theirs) == ours:
        return lambda observations: np.moveaxis(observations, -1, 1)
    raise ValueError(
        f"The data have observations of {theirs}, the model of {ours}. Record them from the environment, with all its "
        "wrappers, that the model is made for."
    )


def _check(number: int, episode: Episode, n_actions: int) -> None:
    n_steps = len(episode.actions)
    arrays = episode.observations.values() if isinstance(episode.observations, Mapping) else [episode.observations]
    lengths = {len(array) for array in arrays}
    if n_steps == 0 or lengths != {n_steps + 1} or len(episode.rewards) != n_steps:
        raise ValueError(
            f"Episode {number} has {n_steps} actions, {len(episode.rewards)} rewards and {sorted(lengths)} "
            "observations; it needs at least one action, as many rewards, and one observation more."
        )
    actions = np.asarray(episode.actions)
    if (
        actions.shape != (n_steps,)
        or actions.dtype.kind not in "iu"
        or not ((0 <= actions) & (actions < n_actions)).all()
    ):
        raise ValueError(
            f"Episode {number} has actions of shape {actions.shape} and type {actions.dtype} from {actions.min()} to "
            f"{actions.max()}; the model takes integers from 0 to {n_actions - 1}, one a step."
        )
    check_finite(f"rewards of episode {number}", episode.rewards)
    check_finite(f"observations of episode {number}", episode.observations)


def _choose_rows(buffer: SequenceReplayBuffer, tapes: Tapes, episodes: Sequence[Episode]) -> list[int]:
    """
    :return: the tape for each episode, always the shortest
    :raises ValueError: when they do not fit
    """
    ends = tapes.ends.copy()
    rows = []
    for episode in episodes:
        row = int(ends.argmin())
        terminated = episode.terminated or not buffer.handle_timeout_termination
        ends[row] += len(episode.actions) + (not terminated)
        rows.append(row)
    if ends.max() > tapes.n_alive * tapes.block:
        raise ValueError(
            f"The data have {sum(len(episode.actions) for episode in episodes)} transitions, too many for "
            f"buffer_size={buffer.buffer_size * buffer.n_envs}, whose {buffer.n_envs} tape(s) share them. Set "
            f"buffer_size to at least {int(ends.max()) * buffer.n_envs}."
        )
    return rows


def _map(function: Any, observations: Observation) -> Observation:
    if isinstance(observations, dict):
        return {key: function(array) for key, array in observations.items()}
    return function(observations)
