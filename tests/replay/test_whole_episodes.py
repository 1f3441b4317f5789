"""Windows that begin with episodes."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.replay import EpisodeSequenceReplayBuffer, SequenceReplayBuffer, SequenceSamples
from tests.ledger import make_env

BOX, ACTIONS = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Discrete(2)


def filled(lengths: list[int], buffer_size: int = 400, n_envs: int = 2, **kwargs: Any) -> EpisodeSequenceReplayBuffer:
    """:return: of episodes of these lengths, ended by time limits and ends in turn; observations are (episode, step)"""
    buffer = EpisodeSequenceReplayBuffer(buffer_size, BOX, ACTIONS, device="cpu", n_envs=n_envs, **kwargs)
    buffer.allocate()
    for number, length in enumerate(lengths):
        for t in range(length):
            now, after = (np.tile(np.float32([number, step]), (n_envs, 1)) for step in (t, t + 1))
            done, truncated = t + 1 == length, number % 2 == 0
            infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
            if done:
                infos = [{"TimeLimit.truncated": truncated, "terminal_observation": row} for row in after]
                after = np.tile(np.float32([number + 1, 0]), (n_envs, 1))
            buffer.add(now, after, np.zeros(n_envs), np.zeros(n_envs), np.full(n_envs, done), infos)
    return buffer


def seen(batch: SequenceSamples) -> np.ndarray:
    """:return: (B, T, 2), the number of the episode and of the step; not a number in padding"""
    steps = np.full((*batch.window.present.shape, 2), np.nan)
    assert isinstance(batch.window.observations, th.Tensor)
    steps.reshape(-1, 2)[batch.window.position.numpy()] = batch.window.observations.numpy()
    return steps


@pytest.mark.parametrize("interval", [1, 4])
def test_windows_begin_with_episodes_and_hold_them_whole(interval: int) -> None:
    buffer = filled([9, 5, 12, 7, 3, 12, 10], sequence_length=16, state_interval=interval)
    batch = buffer.sample(256)
    numbers, starts = seen(batch)[..., 0], batch.window.episode_starts.numpy()
    begins = starts.argmax(axis=1)
    assert starts.any(axis=1).all() and begins.max() < interval
    assert set(numbers[np.arange(256), begins]) == set(range(7)), "and any of them is drawn"
    for row in range(256):
        number = numbers[row, begins[row]]
        learned = batch.learning[row].numpy() & (numbers[row] == number)
        assert learned.sum() == [9, 5, 12, 7, 3, 12, 10][int(number)]
    if interval == 1:
        assert batch.learning.sum() > 0.85 * 256 * 16, "short episodes are followed by others, not by padding"


def test_each_transition_of_a_long_episode_is_learned_from_and_about_alike() -> None:
    buffer = filled([50, 4, 41], sequence_length=8, state_interval=2, n_steps=3)
    counts: dict[tuple[float, float], int] = {}
    batch = buffer.sample(4_000)
    for place in seen(batch)[batch.learning.numpy()]:
        counts[tuple(place)] = counts.get(tuple(place), 0) + 1
    assert len(counts) == 95
    assert max(counts.values()) < 5 * np.median(list(counts.values())) < 25 * min(counts.values())


def test_episodes_whose_beginning_was_overwritten() -> None:
    """The window begins at the oldest slot, whose state is stored; what lies before is not read."""
    buffer = filled([30] * 12, buffer_size=80, sequence_length=10, state_interval=2, burn_in=4)
    batch = buffer.sample(512)
    numbers = seen(batch)[batch.learning.numpy()][:, 0]
    assert numbers.min() >= 9 and numbers.max() == 11


def test_windows_that_begin_anywhere_seldom_hold_a_whole_episode() -> None:
    """What this buffer is for: the plain one does not do it."""
    shares = []
    for buffer_class in (SequenceReplayBuffer, EpisodeSequenceReplayBuffer):
        buffer = filled([15] * 20, sequence_length=16, state_interval=1)
        buffer.__class__ = buffer_class
        batch = buffer.sample(1_000)
        shares.append(batch.window.episode_starts[:, 0].float().mean().item())
    assert shares[0] < 0.15 and shares[1] == 1.0


def test_an_agent_learns_from_it_and_goes_on_after_loading(tmp_path: Any) -> None:
    kwargs: dict[str, Any] = dict(sequence_length=16, burn_in=4, learning_starts=64, train_freq=8, batch_size=4)
    model = RecurrentDQN("MlpPolicy", make_env(), replay_buffer_class=EpisodeSequenceReplayBuffer, **kwargs)
    model.learn(200)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = RecurrentDQN.load(tmp_path / "model", env=make_env())
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(loaded.replay_buffer, EpisodeSequenceReplayBuffer)
    loaded.learn(100, reset_num_timesteps=False)
    assert loaded._n_updates > model._n_updates > 0
