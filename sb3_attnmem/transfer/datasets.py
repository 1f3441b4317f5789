"""Where episodes come from: Minari datasets, and replay buffers that were saved."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl

from sb3_attnmem.common.observations import Observation
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import SequenceReplayBuffer
from sb3_attnmem.replay.tapes import Slot
from sb3_attnmem.transfer.episodes import Episode, fill_from_episodes


def fill_from_minari(model: RecurrentDQN, dataset: Any) -> int:
    """
    Fill the replay buffer from a Minari dataset (https://minari.farama.org) with Discrete actions. See
    :func:`~sb3_attnmem.transfer.fill_from_episodes` for what becomes of it.

    :param model: whose replay buffer is filled
    :param dataset: as Minari loaded it; its folder; or its id, to be found under ``MINARI_DATASETS_PATH``. Nothing is
        downloaded
    :return: the number of transitions
    :raises ValueError: when its spaces are not the model's, the buffer has too little room, or an episode is broken
    :raises FileNotFoundError: when there is no such dataset
    :raises ImportError: without ``pip install "minari[hdf5]"``
    """
    loaded = _load_minari(dataset) if isinstance(dataset, (str, os.PathLike)) else dataset
    if loaded.action_space != model.action_space:
        raise ValueError(f"The dataset has actions of {loaded.action_space}, the model of {model.action_space}.")
    episodes = (
        Episode(data.observations, np.asarray(data.actions), data.rewards, bool(data.terminations[-1]))
        for data in loaded.iterate_episodes()
        if len(data) > 0
    )
    return fill_from_episodes(model, episodes, loaded.observation_space)


def fill_from_buffer(model: RecurrentDQN, buffer: ReplayBuffer | str | os.PathLike[str]) -> int:
    """
    Fill the replay buffer from another: of an agent with another memory or other sequences, or one of SB3's. (For the
    buffer of an agent like this one, ``load_replay_buffer`` takes over states and priorities as well.) See
    :func:`~sb3_attnmem.transfer.fill_from_episodes` for what becomes of it. An episode whose beginning was overwritten
    begins where the rest of it does.

    :param model: whose replay buffer is filled
    :param buffer: a replay buffer, or the file that ``save_replay_buffer`` wrote. Such a file is unpickled, which runs
        what it says: open only your own
    :return: the number of transitions
    :raises ValueError: when its spaces are not the model's, or the model's buffer has too little room
    """
    loaded = buffer if isinstance(buffer, ReplayBuffer) else load_from_pkl(Path(buffer))
    if not isinstance(loaded, ReplayBuffer):
        raise ValueError(f"{buffer} holds a {type(loaded).__name__}, which is no replay buffer.")
    if loaded.action_space != model.action_space:
        raise ValueError(f"The buffer has actions of {loaded.action_space}, the model of {model.action_space}.")
    if isinstance(loaded, SequenceReplayBuffer):
        episodes: Iterator[Episode] = (episode for part in loaded.parts for episode in _episodes_on_tapes(part))
    else:
        if loaded.optimize_memory_usage:
            raise ValueError(
                "The buffer was filled with optimize_memory_usage=True, so the final observations of its episodes are "
                "lost. Collect it without."
            )
        episodes = _episodes_of_sb3(loaded)
    return fill_from_episodes(model, episodes, loaded.observation_space)


def _load_minari(dataset: str | os.PathLike[str]) -> Any:
    try:
        # It has no types, and need not be there
        minari: Any = importlib.import_module("minari")
    except ImportError as error:
        raise ImportError('Minari datasets need Minari: pip install "minari[hdf5]"') from error
    for folder in (Path(dataset), Path(dataset) / "data"):
        if (folder / "metadata.json").is_file():
            return minari.MinariDataset(folder)
    local = minari.list_local_datasets()
    if str(dataset) not in local:
        raise FileNotFoundError(
            f"There is no Minari dataset {dataset}: neither a folder, nor one of {', '.join(local) or 'none'} under "
            f"MINARI_DATASETS_PATH={os.environ.get('MINARI_DATASETS_PATH', '(not set)')}."
        )
    return minari.load_dataset(str(dataset))


def _episodes_on_tapes(buffer: SequenceReplayBuffer) -> Iterator[Episode]:
    tapes = buffer.tapes
    if tapes is None:
        return
    for row in range(tapes.n_envs):
        slots = np.arange(tapes.oldest[row], tapes.ends[row])
        kinds = tapes.kinds[row, slots % tapes.n_slots]
        begin = 0
        for end in np.flatnonzero((kinds == Slot.TERMINAL) | (kinds == Slot.FINAL)).tolist():
            chain = slots[begin : end + 1][kinds[begin : end + 1] != Slot.EMPTY]
            begin = end + 1
            terminated = bool(kinds[end] == Slot.TERMINAL)
            steps = chain if terminated else chain[:-1]
            if len(steps) == 0:
                continue
            rows = np.full(len(chain), row)
            stack = buffer.frame_stack
            observations = tapes.read(rows, chain) if stack is None else stack.rebuild(tapes, rows, chain)
            if terminated:
                # Nobody looks at what comes after a termination: the last observation stands in for it
                observations = _map_last_twice(observations)
            places = steps % tapes.n_slots
            actions = tapes.actions[row, places].astype(np.int64)
            yield Episode(observations, actions, tapes.rewards[row, places], terminated)


def _episodes_of_sb3(buffer: ReplayBuffer) -> Iterator[Episode]:
    order = np.arange(buffer.pos)
    if buffer.full:
        order = np.concatenate([np.arange(buffer.pos, buffer.buffer_size), order])
    for env in range(buffer.n_envs):
        here, there = (_of(buffer, name, order, env) for name in ("observations", "next_observations"))
        dones = buffer.dones[order, env].astype(bool)
        # Where a reset without `done` lies between two steps, the one does not lead to the other
        cut = ~_same(_slice(there, slice(0, -1)), _slice(here, slice(1, None)))
        begin = 0
        for end in np.flatnonzero(dones | np.append(cut, True)).tolist():
            steps = slice(begin, end + 1)
            terminated = bool(dones[end] and not buffer.timeouts[order[end], env])
            last = _slice(there, slice(end, end + 1))
            yield Episode(
                _concatenate(_slice(here, steps), last),
                buffer.actions[order[steps], env].reshape(-1).astype(np.int64),
                buffer.rewards[order[steps], env],
                terminated,
            )
            begin = end + 1


def _of(buffer: ReplayBuffer, name: str, order: np.ndarray, env: int) -> Observation:
    stored = getattr(buffer, name)
    if isinstance(buffer, DictReplayBuffer):
        return {key: array[order, env] for key, array in stored.items()}
    return stored[order, env]


def _slice(observations: Observation, which: slice) -> Observation:
    if isinstance(observations, dict):
        return {key: array[which] for key, array in observations.items()}
    return observations[which]


def _concatenate(first: Observation, second: Observation) -> Observation:
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return {key: np.concatenate([array, second[key]]) for key, array in first.items()}
    assert isinstance(second, np.ndarray)
    return np.concatenate([first, second])


def _map_last_twice(observations: Observation) -> Observation:
    return _concatenate(observations, _slice(observations, slice(-1, None)))


def _same(first: Observation, second: Observation) -> np.ndarray:
    """:return: (T,) bool, where all of an observation is equal"""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return np.logical_and.reduce([_same(first[key], second[key]) for key in first])
    assert isinstance(second, np.ndarray)
    return (first == second).reshape(len(first), -1).all(axis=1)
