"""Tapes: which slot holds what, for how long, and under which state."""

import itertools
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from gymnasium import spaces

from sb3_attnmem.replay.rehousing import rehouse
from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.replay.tapes import Tapes

SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def make(n_envs: int = 1, capacity: int = 8, block: int = 2) -> Tapes:
    return Tapes(n_envs, capacity, block, SPACE, 4, [((1,), np.dtype(np.float32))])


class Ledger:
    """
    Writes observations (episode, step) and keeps its own account of what was written.

    :param tapes: where to
    :param lengths: steps of the successive episodes of every environment
    :param ends: for each of them "terminated" or "truncated"
    """

    def __init__(self, tapes: Tapes, lengths: list[int], ends: list[str]) -> None:
        self.tapes, self.lengths, self.ends = tapes, lengths, ends
        self.episode = np.arange(tapes.n_envs) % len(lengths)
        self.step = np.zeros(tapes.n_envs, int)
        self.written: list[list[tuple[float, float]]] = [[] for _ in range(tapes.n_envs)]

    def append(self) -> None:
        kind = np.array([self.ends[e % len(self.ends)] for e in self.episode])
        last = self.step + 1 == np.array([self.lengths[e % len(self.lengths)] for e in self.episode])
        observation = np.stack([self.episode, self.step], axis=1).astype(np.float32)
        successor = np.stack([self.episode, self.step + 1], axis=1).astype(np.float32)
        self.tapes.append(
            observation,
            successor,
            actions=self.step % 4,
            rewards=self.episode + self.step / 100,
            terminated=last & (kind == "terminated"),
            truncated=last & (kind == "truncated"),
            state=(1000 * self.episode[:, None] + self.step[:, None],),
        )
        for row in range(self.tapes.n_envs):
            self.written[row].append((observation[row, 0], observation[row, 1]))
        self.episode, self.step = self.episode + last, np.where(last, 0, self.step + 1)


def live(tapes: Tapes, row: int = 0) -> list[tuple[int, int]]:
    """:return: (absolute slot, ring place) of what lives, oldest first"""
    return [(slot, slot % tapes.n_slots) for slot in range(tapes.oldest[row], tapes.ends[row])]


def test_the_layout_of_the_docstring() -> None:
    tapes = make(capacity=16)
    ledger = Ledger(tapes, [3, 2, 9], ["truncated", "terminated"])
    for _ in range(6):
        ledger.append()
    T, E, F = Slot.TRANSITION, Slot.TERMINAL, Slot.FINAL
    assert tapes.kinds[0, :9].tolist() == [T, T, T, F, T, E, T, F, Slot.EMPTY]
    assert np.flatnonzero(tapes.starts[0]).tolist() == [0, 4, 6]
    assert tapes.observations[0, :8].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1], [2, 0], [2, 1]]
    assert tapes.n_transitions() == 6


@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize(("lengths", "ends"), [([1], ["terminated"]), ([1], ["truncated"]), ([5, 3], ["truncated"])])
def test_at_least_capacity_slots_live_and_hold_the_newest_in_order(
    block: int, lengths: list[int], ends: list[str]
) -> None:
    tapes = make(n_envs=3, capacity=9, block=block)
    ledger = Ledger(tapes, lengths, ends)
    for _ in range(60):
        ledger.append()
        for row in range(3):
            slots = live(tapes, row)
            assert len(slots) >= min(9, tapes.ends[row])
            assert slots[0][0] % block == 0, "the oldest slot has its state"
            kept = [
                tuple(tapes.observations[row, place])
                for _, place in slots
                if tapes.kinds[row, place] in (Slot.TRANSITION, Slot.TERMINAL)
            ]
            assert kept == ledger.written[row][len(ledger.written[row]) - len(kept) :]
            for _, place in slots:
                first = tapes.observations[row, place, 1] == 0 and tapes.kinds[row, place] != Slot.FINAL
                assert tapes.starts[row, place] == first


def test_states_are_those_before_the_first_slot_of_a_block() -> None:
    tapes = make(capacity=10, block=2)
    ledger = Ledger(tapes, [5, 4], ["truncated", "terminated"])
    for _ in range(37):
        ledger.append()
        for slot, place in live(tapes):
            if slot % 2 == 0 and tapes.kinds[0, place] in (Slot.TRANSITION, Slot.TERMINAL):
                episode, step = tapes.observations[0, place]
                assert tapes.states[0][0, place // 2, 0] == 1000 * episode + step


def test_a_cut_keeps_the_successor_and_begins_anew() -> None:
    tapes = make(capacity=16)
    ledger = Ledger(tapes, [9], ["terminated"])
    ledger.append()
    ledger.append()
    tapes.cut()
    tapes.cut()  # nothing more to cut
    ledger.episode[:], ledger.step[:] = 7, 0
    ledger.append()
    assert tapes.kinds[0, :6].tolist() == [Slot.TRANSITION, Slot.TRANSITION, Slot.FINAL, Slot.TRANSITION, Slot.FINAL, 0]
    assert tapes.observations[0, 2].tolist() == [0, 2]
    assert tapes.observations[0, 3].tolist() == [7, 0]
    assert tapes.starts[0, 3] and tapes.n_transitions() == 3


@pytest.mark.parametrize("n_steps", [0, 5, 800])
def test_pickling_round_trip_leaves_out_what_was_never_written(n_steps: int) -> None:
    tapes = make(n_envs=2, capacity=500)
    ledger = Ledger(tapes, [5, 3], ["truncated", "terminated"])
    for _ in range(n_steps):
        ledger.append()
    blob = pickle.dumps(tapes)
    again = pickle.loads(blob)
    for one, other in zip(tapes.arrays(), again.arrays(), strict=True):
        assert np.array_equal(one, other) and one.dtype == other.dtype
    assert np.array_equal(again.heads, tapes.heads) and np.array_equal(again.open, tapes.open)
    if n_steps == 5:
        assert len(blob) < tapes.nbytes / 2
    ledger.tapes = again
    for _ in range(1200):
        ledger.append()
    assert again.n_transitions() >= 2 * 400  # four transitions of five slots


def check_chains(tapes: Tapes) -> None:
    """What does not follow the slot before begins an episode; only the oldest slot, whose state is stored, need not."""
    for row in range(tapes.n_envs):
        slots = live(tapes, row)
        for (_, place), (_, after) in itertools.pairwise(slots):
            episode, step = tapes.observations[row, place]
            follows = tapes.kinds[row, place] == Slot.TRANSITION
            if follows:
                assert tapes.observations[row, after].tolist() == [episode, step + 1]
            if tapes.kinds[row, after] in (Slot.TRANSITION, Slot.TERMINAL):
                assert tapes.starts[row, after] != follows


@pytest.mark.parametrize(("old", "new"), [(2, 5), (5, 2), (3, 1)])
@pytest.mark.parametrize("n_steps", [7, 90])
def test_rehousing_keeps_transitions_and_their_successors(old: int, new: int, n_steps: int) -> None:
    tapes = make(n_envs=old, capacity=20)
    ledger = Ledger(tapes, [5, 3, 4], ["truncated", "terminated"])
    for _ in range(n_steps):
        ledger.append()
    n_before = tapes.n_transitions()
    rehoused = rehouse(tapes, new, capacity=26 * -(-old // new))
    assert rehoused.n_envs == new
    assert rehoused.n_transitions() == n_before
    check_chains(rehoused)
    ledger = Ledger(rehoused, [5, 3, 4], ["truncated", "terminated"])
    for _ in range(60):
        ledger.append()


def rehouse_without_starts(tapes: Tapes, n_envs: int, capacity: int) -> Tapes:
    """Planted: flags are copied, and none is set where an episode's beginning was overwritten."""
    new = rehouse(tapes, n_envs, capacity)
    new.starts &= new.observations[..., 1] == 0
    return new


def test_an_episode_whose_beginning_is_gone_starts_anew_on_a_shared_tape() -> None:
    """Two tapes of one episode each, which is longer than they are, come to lie on one."""

    def rehoused(move: Callable[[Tapes, int, int], Tapes]) -> Tapes:
        tapes = make(n_envs=2, capacity=6)
        ledger = Ledger(tapes, [50], ["terminated"])
        for _ in range(20):
            ledger.append()
        return move(tapes, 1, 20)

    tapes = rehoused(rehouse)
    check_chains(tapes)
    # The first has the state of its oldest slot, the second starts where the first ends
    assert np.flatnonzero(tapes.starts[0]).size == 1
    with pytest.raises(AssertionError):
        check_chains(rehoused(rehouse_without_starts))


def test_rehousing_into_less_room_keeps_the_newest() -> None:
    tapes = make(capacity=20)
    ledger = Ledger(tapes, [50], ["terminated"])
    for _ in range(20):
        ledger.append()
    rehoused = rehouse(tapes, 1, capacity=6)
    slots = live(rehoused)
    assert rehoused.observations[0, slots[-1][1]].tolist() == [0, 20]
    assert len(slots) >= 6


def test_dict_observations_and_small_action_types() -> None:
    space = spaces.Dict({"a": SPACE, "b": spaces.Discrete(5)})
    tapes = Tapes(2, 8, 1, space, 300, [])
    assert tapes.actions.dtype == np.uint16
    observation = {"a": np.ones((2, 2), np.float32), "b": np.array([3, 4])}
    no = np.zeros(2, bool)
    tapes.append(observation, {"a": observation["a"] * 2, "b": observation["b"] - 3}, no, no, no, no, ())
    assert isinstance(tapes.observations, dict)
    assert tapes.observations["b"][:, :2, 0].tolist() == [[3, 0], [4, 1]]
    assert tapes.observations["a"][:, :2, 0].tolist() == [[1, 2], [1, 2]]
