"""Where episodes come from: Minari datasets, and replay buffers that were saved."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import load_from_pkl

from sb3_attnmem.common.observations import Observation, arrays_of, map_observation, rows_of
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import Episode, SequenceReplayBuffer, join_actions, read_episodes
from sb3_attnmem.transfer.arguments import buffer_of
from sb3_attnmem.transfer.episodes import fill_from_episodes


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
    buffer_of(model)
    loaded = _load_minari(dataset) if isinstance(dataset, (str, os.PathLike)) else dataset
    if not all(hasattr(loaded, name) for name in ("action_space", "observation_space", "iterate_episodes")):
        raise ValueError(f"dataset={dataset!r} must be a Minari dataset, its folder or its id.")
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
    buffer_of(model)
    loaded = buffer if isinstance(buffer, ReplayBuffer) else _load_buffer(buffer)
    if loaded.action_space != model.action_space:
        raise ValueError(f"The buffer has actions of {loaded.action_space}, the model of {model.action_space}.")
    if isinstance(loaded, SequenceReplayBuffer):
        episodes: Iterator[Episode] = (episode for part in loaded.parts for episode in read_episodes(part))
    elif loaded.optimize_memory_usage:
        raise ValueError(
            "The buffer was filled with optimize_memory_usage=True, so the final observations of its episodes are "
            "lost. Collect it without."
        )
    else:
        episodes = _episodes_of_sb3(loaded)
    return fill_from_episodes(model, episodes, loaded.observation_space)


def _load_buffer(path: str | os.PathLike[str]) -> ReplayBuffer:
    """
    :return: the replay buffer in a file
    :raises FileNotFoundError: when there is none
    :raises ValueError: when it holds something else, or is broken
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"buffer={path!r} must be a replay buffer, or the file that save_replay_buffer wrote.")
    try:
        loaded = load_from_pkl(Path(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # a pickle can raise anything
        raise ValueError(
            f"{path} is no file that save_replay_buffer wrote, or is broken ({type(error).__name__}: {error})."
        ) from error
    if not isinstance(loaded, ReplayBuffer):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, which is no replay buffer.")
    return loaded


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


def _episodes_of_sb3(buffer: ReplayBuffer) -> Iterator[Episode]:
    order = np.arange(buffer.pos)
    if buffer.full:
        order = np.concatenate([np.arange(buffer.pos, buffer.buffer_size), order])
    for env in range(buffer.n_envs):
        here, there = (rows_of(stored, (order, env)) for stored in (buffer.observations, buffer.next_observations))
        dones = buffer.dones[order, env].astype(bool)
        # Where a reset without `done` lies between two steps, the one does not lead to the other
        cut = ~_same(rows_of(there, slice(0, -1)), rows_of(here, slice(1, None)))
        begin = 0
        for end in np.flatnonzero(dones | np.append(cut, True)).tolist():
            steps = slice(begin, end + 1)
            last = rows_of(there, slice(end, end + 1))
            yield Episode(
                map_observation(lambda *arrays: np.concatenate(arrays), rows_of(here, steps), last),
                join_actions(buffer.action_space, buffer.actions[order[steps], env]).astype(np.int64),
                buffer.rewards[order[steps], env],
                bool(dones[end] and not buffer.timeouts[order[end], env]),
            )
            begin = end + 1


def _same(first: Observation, second: Observation) -> np.ndarray:
    """:return: (T,) bool, where all of an observation is equal"""
    equal = map_observation(lambda a, b: (a == b).reshape(len(a), -1).all(axis=1), first, second)
    return np.logical_and.reduce(arrays_of(equal))
