"""Whole episodes: what is read from one buffer and laid into another is the same, and all or nothing is laid."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem.replay import Episode, SequenceReplayBuffer, lay_episodes, read_episodes, rewrite_states

SPACE = spaces.Box(-np.inf, np.inf, (1,), np.float32)


def buffer(capacity: int = 40, n_envs: int = 2, state: bool = False, **options: Any) -> SequenceReplayBuffer:
    made = SequenceReplayBuffer(capacity, SPACE, spaces.Discrete(5), "cpu", n_envs, sequence_length=4, **options)
    made.allocate((th.zeros(1, 1),) if state else ())
    return made


def episode(first: int, n_steps: int, terminated: bool) -> Episode:
    observations = np.arange(first, first + n_steps + 1, dtype=np.float32)[:, None]
    return Episode(observations, np.arange(n_steps) % 5, np.arange(n_steps, dtype=np.float32), terminated)


EPISODES = [episode(0, 3, True), episode(10, 5, False), episode(20, 1, True), episode(30, 2, False)]


def described(episodes: list[Episode]) -> set[tuple[Any, ...]]:
    """:return: all of each, but the observation after a termination, which is not stored"""
    return {
        (tuple(e.observations[: len(e.actions) + (not e.terminated)].ravel()), *map(tuple, e[1:3]), e.terminated)  # type: ignore[index, union-attr]
        for e in episodes
    }


@pytest.mark.parametrize("n_envs", [1, 2, 3])
def test_what_is_laid_is_read_again(n_envs: int) -> None:
    made = buffer(60, n_envs)
    lay_episodes(made, EPISODES)
    found = list(read_episodes(made))
    assert len(found) == 4 and described(found) == described(EPISODES)
    assert all(len(e.observations) == len(e.actions) + 1 for e in found)


def test_without_bootstrapping_at_time_limits_all_episodes_terminate() -> None:
    made = buffer(handle_timeout_termination=False)
    lay_episodes(made, EPISODES)
    assert all(e.terminated for e in read_episodes(made)) and len(list(read_episodes(made))) == 4


def test_nothing_is_laid_where_all_have_too_little_room() -> None:
    made = buffer(16)
    with pytest.raises(ValueError, match="Set buffer_size to at least"):
        lay_episodes(made, [*EPISODES, episode(40, 30, True)])
    assert made.is_empty and list(read_episodes(made)) == []


def test_states_are_rewritten_in_order_with_each_episode_s_start() -> None:
    """A state that counts the steps of an episode so far, so that each stored one is known."""
    made = buffer(state=True, n_envs=1, state_interval=2)
    lay_episodes(made, [episode(0, 5, False), episode(10, 6, True)])

    def count(part: Any, state: tuple[th.Tensor, ...]) -> tuple[th.Tensor, ...]:
        for t in range(part.present.shape[1]):
            begun = th.where(part.episode_starts[:, t, None], th.zeros_like(state[0]), state[0])
            state = (begun + part.present[:, t, None].float(),)
        return state

    rewrite_states(made, (th.zeros(1, 1),), count)
    assert made.tapes is not None
    # Slots 0 to 5 hold the first episode and its final observation, 6 to 11 the second
    assert made.tapes.states[0][0, :6, 0].tolist() == [0, 2, 4, 6, 2, 4]
    before = made.tapes.states[0].copy()
    empty = buffer()
    rewrite_states(empty, (), count)
    assert np.array_equal(before, made.tapes.states[0])
