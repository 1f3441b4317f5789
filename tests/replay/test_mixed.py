"""A buffer with older data: it holds its buffers, and says of the new one what a plain buffer says of itself."""

import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_attnmem.replay import MixedSequenceReplayBuffer
from sb3_attnmem.replay.mixed import MixedPrioritizedSequenceReplayBuffer

SPACE = spaces.Box(-np.inf, np.inf, (1,), np.float32)
CLASSES = [SequenceReplayBuffer, PrioritizedSequenceReplayBuffer]


def make(
    name: float = 0.0,
    n_steps: int = 30,
    n_envs: int = 2,
    buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer,
    device: str = "cpu",
    **options: Any,
) -> SequenceReplayBuffer:
    """:return: a buffer whose observations are all its name"""
    options = dict(sequence_length=4, burn_in=2, n_steps=1) | options
    buffer = buffer_class(100, SPACE, spaces.Discrete(2), device, n_envs, **options)
    buffer.seed(int(name))
    obs = np.full((n_envs, 1), name, np.float32)
    for step in range(n_steps):
        buffer.stage_state((th.zeros(n_envs, 3),))
        done = np.full(n_envs, step % 7 == 6)
        buffer.add(obs, obs, np.zeros(n_envs, int), np.zeros(n_envs), done, [{}] * n_envs)
    return buffer


def mix(buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer, **of_new: Any) -> MixedSequenceReplayBuffer:
    olds = [make(1, n_envs=1, buffer_class=buffer_class), make(2, n_envs=3, buffer_class=buffer_class)]
    return MixedSequenceReplayBuffer(make(0, buffer_class=buffer_class, **of_new), olds, 0.5)


def names_in(batch: Any) -> list[float]:
    """:return: of each row, the name of the buffer that it is from"""
    rows = batch.window.position // batch.window.present.shape[1]
    return [float(batch.window.observations[rows == row][0]) for row in range(len(batch.learning))]


@pytest.mark.parametrize("buffer_class", CLASSES)
def test_shares_and_owners(buffer_class: type[SequenceReplayBuffer]) -> None:
    mixed = mix(buffer_class)
    batch = mixed.sample(8)
    assert sorted(names_in(batch)) == [0, 0, 0, 0, 1, 1, 2, 2]
    for owner, drawn, places in mixed.owners(batch.drawn):
        alone = owner.read_with_history(drawn, 0)
        assert {names_in(batch)[place] for place in places} == set(names_in(alone))
        assert (drawn[0] < owner.n_envs).all()
    again = mixed.read_with_history(batch.drawn, 0)
    assert names_in(again) == names_in(batch) and th.equal(again.learning, batch.learning)


@pytest.mark.parametrize("buffer_class", CLASSES)
def test_the_new_one_is_added_to_and_the_old_ones_stay(buffer_class: type[SequenceReplayBuffer]) -> None:
    mixed = mix(buffer_class, n_steps=0)
    *olds, new = mixed.parts
    before = [pickle.dumps(old.tapes) for old in olds]
    assert not mixed.is_empty and mixed.size() == 0 and set(names_in(mixed.sample(8))) == {1, 2}
    mixed.allocate((th.zeros(2, 3),))
    obs = np.full((2, 1), 7, np.float32)
    for _ in range(5):
        mixed.stage_state((th.zeros(2, 3),))
        mixed.add(obs, obs, np.zeros(2, int), np.zeros(2), np.zeros(2, bool), [{}] * 2)
    mixed.cut(np.array([True, False]))
    assert mixed.size() == new.size() == 5 and new.tapes is mixed.tapes is not None
    assert new.tapes.open.tolist() == [False, True]
    mixed.change_n_envs(5)
    assert mixed.n_envs == new.n_envs == 5 and [old.n_envs for old in olds] == [1, 3]
    assert sorted(names_in(mixed.sample(8))) == [1, 1, 2, 2, 7, 7, 7, 7]
    mixed.reset()
    assert new.is_empty and not mixed.is_empty
    assert [pickle.dumps(old.tapes) for old in olds] == before


def test_priorities_and_states_go_to_the_buffer_that_they_belong_to() -> None:
    mixed = mix(PrioritizedSequenceReplayBuffer)
    assert mixed.is_prioritized and not mix().is_prioritized and mixed.priority_eta == 0.9
    batch = mixed.sample(8)
    mixed.update_priorities(batch.drawn, np.array(names_in(batch)) + 10.0)
    assert [part.max_priority for part in mixed.parts] == [11, 12, 10]  # type: ignore[attr-defined]
    mixed.refresh_states(batch.drawn, (th.tensor(names_in(batch)).reshape(8, 1).expand(8, 3) + 1,), np.ones(8, bool))
    for part, name in zip(mixed.parts, (1, 2, 0), strict=True):
        assert part.tapes is not None and set(np.unique(part.tapes.states[0])) <= {0, name + 1}
    mixed.anneal(1.0)


def test_all_that_a_plain_buffer_does_is_passed_on() -> None:
    """No public method is inherited, and no attribute of a plain buffer is missing, or the mixed buffer's own."""
    public = {
        name
        for owner in SequenceReplayBuffer.__mro__[:2]
        for name in vars(owner)
        if not name.startswith("_") and inspect.isfunction(vars(owner)[name])
    }
    assert {"add", "sample", "seed", "cut", "read", "size"} <= public
    assert public <= vars(MixedSequenceReplayBuffer).keys()
    mixed = mix(PrioritizedSequenceReplayBuffer)
    plain = make(buffer_class=SequenceReplayBuffer)
    for name in vars(plain):
        if not name.startswith("_"):
            getattr(mixed, name)
            assert name not in vars(mixed)
    assert vars(mixed).keys() == {"new", "olds", "old_share"}


def test_the_device_is_that_of_all_parts() -> None:
    mixed = mix()
    again = pickle.loads(pickle.dumps(mixed))
    again.device = th.device("meta")
    assert {part.device for part in again.parts} == {th.device("meta")} and again.device == th.device("meta")
    assert {part.device.type for part in mixed.parts} == {"cpu"}


def test_one_seed_for_all() -> None:
    first, second = mix(), mix()
    second.sample(3)
    for mixed in (first, second):
        mixed.seed(5)
    assert np.array_equal(first.sample(9).drawn, second.sample(9).drawn)
    assert len({part.rng.integers(2**31) for part in first.parts}) == 3


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, np.nan, np.inf, True, None, "half"])
def test_a_share_that_is_none(share: Any) -> None:
    with pytest.raises(ValueError, match="old_share"):
        MixedSequenceReplayBuffer(make(), [make(1)], share)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
def test_a_batch_size_that_is_none(batch_size: Any) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        mix().sample(batch_size)


def test_buffers_that_do_not_fit_one_another() -> None:
    plain = make()
    for olds, complaint in (
        ([], "no old buffer"),
        ([plain], "plain ones"),
        ([mix()], "plain ones"),
        ([make(1, n_steps=0)], "empty"),
        ([make(1, sequence_length=8)], "sequence_length=8"),
        ([make(1, buffer_class=PrioritizedSequenceReplayBuffer)], "priorities"),
    ):
        with pytest.raises(ValueError, match=complaint):
            MixedSequenceReplayBuffer(plain, olds, 0.5)


@pytest.mark.parametrize("buffer_class", CLASSES)
def test_pickles_of_older_versions_load(buffer_class: type[SequenceReplayBuffer]) -> None:
    """There a mixed buffer was the new one itself, and one with priorities had a class of its own."""
    mixed = mix(buffer_class)
    olds: list[Any] = pickle.loads(pickle.dumps(mixed.olds))
    state = {**vars(mixed.new), "olds": olds, "old_share": 0.25, "_staged_state": (), "rng": None}
    del state["_last_from_elsewhere"]
    again = (MixedPrioritizedSequenceReplayBuffer if mixed.is_prioritized else MixedSequenceReplayBuffer).__new__(
        MixedSequenceReplayBuffer
    )
    again.__setstate__(state)
    assert type(again.new) is buffer_class and again.parts[:2] == olds and again.old_share == 0.25
    mixed.old_share = 0.25
    for buffer in (again, pickle.loads(pickle.dumps(again)), mixed):
        buffer.seed(3)
    assert np.array_equal(again.sample(8).drawn, mixed.sample(8).drawn)
    obs, size = np.zeros((2, 1), np.float32), again.size()
    again.stage_state((th.zeros(2, 3),))
    again.add(obs, obs, np.zeros(2, int), np.zeros(2), np.zeros(2, bool), [{}] * 2)
    assert again.size() == size + 1
