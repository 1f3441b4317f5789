"""
Conformance 3, 4, 5 and 12: what a replayed window holds, counted over every window that can be drawn.

The mistakes planted are at the end of each part; the same check must catch them.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.replay import SequenceSamples
from sb3_attnmem.replay.tapes import Tapes
from sb3_attnmem.replay.windows import SlotTable
from tests.dqn_recurrent.conformance.reference import check_rows, every_window, learned, rows
from tests.ledger import Place, Recorder, make_env, make_model


class Case(NamedTuple):
    """
    :param lengths: for each environment the steps of its episodes
    :param ends: how they end
    :param n_steps: steps taken in each environment
    :param capacity: transitions that each environment has room for
    """

    lengths: tuple[tuple[int, ...], ...]
    ends: tuple[str, ...]
    n_steps: int
    capacity: int
    sequence_length: int = 8
    burn_in: int = 0
    n_step_returns: int = 1
    state_interval: int | None = None


BOTH = ("terminated", "truncated")
CASES = {
    "young": Case(((50,), (50,)), BOTH, 5, 100),
    "one step old": Case(((50,),), BOTH, 1, 100, burn_in=8),
    "one long episode": Case(((1000,),), BOTH, 90, 60),
    "full, one long episode": Case(((1000,),), BOTH, 333, 60),
    "full, burn-in and n-step": Case(((40, 25), (7,), (1000,)), BOTH, 211, 48, burn_in=8, n_step_returns=5),
    "episodes shorter than a sequence": Case(((3, 2, 5),), ("terminated",), 70, 200, burn_in=4, n_step_returns=3),
    "episodes of one step": Case(((1,), (1, 2)), BOTH, 60, 40, burn_in=8),
    "time limits of one step": Case(((1,),), ("truncated",), 60, 40, n_step_returns=3),
    "lengths differ between environments": Case(((2,), (30,), (9, 4)), BOTH, 100, 48, n_step_returns=3),
    "odd sequence": Case(((9, 4), (6,)), BOTH, 150, 31, sequence_length=7, burn_in=0, n_step_returns=2),
    "odd sequence and burn-in": Case(((9, 4), (26,)), BOTH, 150, 50, sequence_length=9, burn_in=6, n_step_returns=9),
    "coprime sequence and burn-in": Case(((9, 4), (26,)), BOTH, 150, 50, sequence_length=7, burn_in=3),
    "sequences of one step": Case(((5, 3),), BOTH, 80, 33, sequence_length=1, burn_in=2),
    "as small as allowed": Case(((5, 30),), BOTH, 75, 12, sequence_length=8, burn_in=4, n_step_returns=3),
    "states at every step": Case(((5, 30), (4,)), BOTH, 75, 30, burn_in=4, state_interval=1),
    "long burn-in": Case(((5, 60), (11,)), BOTH, 160, 64, sequence_length=4, burn_in=16, n_step_returns=4),
}


def replay(
    case: Case, buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer
) -> tuple[RecurrentDQN, Recorder]:
    """:return: a model that acted as the case says, and what really happened"""
    env = make_env(case.lengths, case.ends)
    model = make_model(
        env,
        buffer_size=case.capacity * env.num_envs,
        sequence_length=case.sequence_length,
        burn_in=case.burn_in,
        n_steps=case.n_step_returns,
        replay_buffer_class=buffer_class,
        replay_buffer_kwargs=dict(state_interval=case.state_interval) if case.state_interval else None,
    )
    model.learn(case.n_steps * env.num_envs)
    return model, env


def stored(env: Recorder, row: int, capacity: int) -> list[Place]:
    """:return: the newest transitions, as many as fit into ``capacity`` slots; a time limit takes one slot more"""
    newest: list[Place] = []
    n_slots = 0
    for place in reversed(env.transitions[row]):
        episode = env.episodes[place[:2]]
        last = place.step == len(episode.actions) - 1
        n_slots += 2 if last and episode.end == "truncated" else 1
        if n_slots > capacity:
            break
        newest.append(place)
    return newest


def check_chances(model: RecurrentDQN, env: Recorder, case: Case) -> None:
    """
    Item 5: what the ring has room for can be learned from, none of it more than twice as likely as another.
    """
    counts = learned(every_window(model))
    assert max(counts.values()) <= 2 * min(counts.values())
    for row, transitions in enumerate(env.transitions):
        seen = [place for place in transitions if place in counts]
        assert seen == transitions[len(transitions) - len(seen) :], "what is kept is the newest, without gaps"
        assert set(seen) >= set(stored(env, row, case.capacity))
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert len(counts) == model.replay_buffer.tapes.n_transitions()
    assert model.replay_buffer.size() == len(counts) // env.num_envs


def check_even_chances(model: RecurrentDQN) -> None:
    """What the buffer promises beyond item 5: all transitions lie in the same number of windows."""
    assert len(set(learned(every_window(model)).values())) == 1


def check_burn_in(model: RecurrentDQN, env: Recorder, case: Case) -> None:
    """
    Item 4: before a window come up to ``burn_in`` steps of its first episode, never one of an episode before;
    fewer only where the episode began later or the ring's edge cuts.
    """
    batch = every_window(model)
    alive = set(learned(batch))
    n_burnt = 0
    for burnt, window in rows(batch):
        first = window[0]
        assert first is not None
        wanted = [first._replace(step=step) for step in range(max(first.step - case.burn_in, 0), first.step)]
        assert burnt == wanted or (wanted and wanted[0] not in alive and burnt == wanted[len(wanted) - len(burnt) :])
        n_burnt += len(burnt)
    assert n_burnt > 0


def check_look_ahead(model: RecurrentDQN, env: Recorder) -> None:
    """
    A window holds what the targets of its learning steps need, as far as it happened: up to n steps after each.
    Behind its learning part it holds nothing else.
    """
    batch = every_window(model)
    for row, (_, window) in enumerate(rows(batch)):
        if not batch.learning[row].any():  # it begins at a time limit's observation, and ends there
            continue
        held = set(window)
        last = int(batch.learning[row].nonzero().max())
        beyond = [place for place in window[last + 1 :] if place is not None]
        assert len(beyond) <= model.n_steps and {place[:2] for place in beyond} <= {window[last][:2]}  # type: ignore[index]
        for column, place in enumerate(window):
            if place is not None and batch.learning[row, column]:
                episode = env.episodes[place[:2]]
                end = min(place.step + model.n_steps, len(episode.actions))
                if end == len(episode.actions) and episode.end == "terminated":
                    end -= 1
                assert held >= {place._replace(step=step) for step in range(place.step, end + 1)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_windows(case: Case) -> None:
    model, env = replay(case)
    check_rows(every_window(model), env.episodes, case.sequence_length)
    check_chances(model, env, case)
    check_even_chances(model)
    check_look_ahead(model, env)
    if case.burn_in and case.n_steps > case.burn_in and max(map(max, case.lengths)) > case.sequence_length:
        check_burn_in(model, env, case)


@pytest.mark.parametrize(("sequence_length", "burn_in"), [(6, 4), (8, 0)])
def test_windows_while_a_ring_fills_and_turns(sequence_length: int, burn_in: int) -> None:
    """Item 12, at every position of the write head relative to the ring's blocks."""
    case = Case(((11, 3, 20), (5,)), BOTH, 1, 20, sequence_length, burn_in, n_step_returns=2)
    model, env = replay(case)
    for _ in range(70):
        check_rows(every_window(model), env.episodes, sequence_length)
        check_chances(model, env, case)
        check_even_chances(model)
        model.learn(env.num_envs, reset_num_timesteps=False)


@pytest.mark.parametrize("name", ["full, burn-in and n-step", "odd sequence and burn-in"])
def test_draws_are_uniform_over_the_windows(name: str) -> None:
    """The exact counts above speak for what is drawn only if every window is equally likely."""
    model, _ = replay(CASES[name])
    exact = learned(every_window(model))
    assert model.replay_buffer is not None
    drawn = learned(model.replay_buffer.sample(3000))
    n_drawn, n_exact = sum(drawn.values()), sum(exact.values())
    for place, count in exact.items():
        expected = count / n_exact * n_drawn
        assert abs(drawn[place] - expected) < 5.5 * np.sqrt(expected), place


def test_sampling_has_no_loop_over_sequences() -> None:
    """As many Python calls for many sequences as for few."""
    model, _ = replay(CASES["full, burn-in and n-step"])
    buffer = model.replay_buffer
    assert buffer is not None

    def n_calls(batch_size: int) -> int:
        calls: list[str] = []
        buffer.seed(0)
        sys.setprofile(lambda _, event, __: calls.append(event))
        try:
            buffer.sample(batch_size)
        finally:
            sys.setprofile(None)
        return len(calls)

    assert n_calls(32) == n_calls(512)


# Planted mistakes: item 5


class WholeWindowsOnly(SequenceReplayBuffer):
    """Planted: windows lie wholly inside what is stored, as in most implementations; the ends are learned rarely."""

    def _draw_windows(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.tapes is not None
        tape_rows, windows = super()._draw_windows(batch_size)
        first = windows * self.state_interval + self.burn_in
        last = first + self.sequence_length
        keep = (first >= self.tapes.oldest[tape_rows]) & (last <= self.tapes.heads[tape_rows])
        return tape_rows[keep], windows[keep]


class OneEpisodeAWindow(SequenceReplayBuffer):
    """Planted: a window ends with its first episode, so short episodes and late steps come up more often."""

    def _read_windows(self, *args: Any) -> SequenceSamples:
        batch = super()._read_windows(*args)
        later = batch.window.episode_starts.clone()
        later[:, 0] = False
        return batch._replace(learning=batch.learning & (later.cumsum(dim=1) == 0))


class LastStepsDropped(SequenceReplayBuffer):
    """Planted: steps with fewer than ``n_steps`` steps after them do not learn."""

    def _read_windows(self, *args: Any) -> SequenceSamples:
        batch = super()._read_windows(*args)
        learning = batch.learning.clone()
        for k in range(1, self.n_steps):
            learning[:, :-k] &= batch.transitions[:, k:] & ~batch.window.episode_starts[:, k:]
            learning[:, -k:] = False
        return batch._replace(learning=learning)


class BurnInDropped(SequenceReplayBuffer):
    """Planted: the first ``burn_in`` steps of an episode count as burn-in and do not learn."""

    def _read_windows(self, *args: Any) -> SequenceSamples:
        batch = super()._read_windows(*args)
        learning = batch.learning.clone()
        for row, (_, window) in enumerate(rows(batch)):
            for column, place in enumerate(window):
                if place is not None and place.step < self.burn_in:
                    learning[row, column] = False
        return batch._replace(learning=learning)


@pytest.mark.parametrize("planted", [WholeWindowsOnly, OneEpisodeAWindow, LastStepsDropped, BurnInDropped])
@pytest.mark.parametrize("name", ["full, burn-in and n-step", "long burn-in"])
def test_unfair_chances_are_caught(planted: type[SequenceReplayBuffer], name: str) -> None:
    case = CASES[name]
    model, env = replay(case, planted)
    with pytest.raises(AssertionError):
        check_chances(model, env, case)


# Planted mistakes: items 3 and 4


def burn_across_starts(
    tapes: Tapes, rows: np.ndarray, oldest: np.ndarray, firsts: np.ndarray, begins: np.ndarray, burn_in: int, *more: Any
) -> tuple[SlotTable, np.ndarray]:
    """Planted: burn-in is always ``burn_in`` steps long, whatever episode they belong to."""
    slots = begins[:, None] + np.arange(burn_in)
    present = (slots >= oldest[:, None]) & (firsts > oldest)[:, None]
    starts = tapes.starts[rows[:, None], slots % tapes.n_slots] & present
    return SlotTable(slots, present, starts), np.maximum(begins, oldest)


def no_burn_in(
    tapes: Tapes, rows: np.ndarray, oldest: np.ndarray, firsts: np.ndarray, *more: Any
) -> tuple[None, np.ndarray]:
    """Planted: ``burn_in`` is forgotten."""
    return None, firsts


@pytest.mark.parametrize("planted", [burn_across_starts, no_burn_in])
def test_wrong_burn_in_is_caught(planted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.replay.windows.locate_burn_in", planted)
    case = CASES["full, burn-in and n-step"]
    model, env = replay(case)
    with pytest.raises(AssertionError):
        check_burn_in(model, env, case)


# Planted mistakes: item 12


class ReadsPastTheHead(SequenceReplayBuffer):
    """Planted: a window goes on behind the write head, into the oldest steps of the ring."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        assert self.tapes is not None
        self.tapes.heads += 3
        try:
            return super().sample(*args, **kwargs)
        finally:
            self.tapes.heads -= 3


def forget_to_free(tapes: Tapes, tape_rows: np.ndarray) -> None:
    """Planted: what lies in the slots after the head stays marked as alive."""


def test_crossing_the_write_head_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tapes, "_claim", forget_to_free)
    case = CASES["full, one long episode"]
    model, env = replay(case, ReadsPastTheHead)
    with pytest.raises(AssertionError, match="not consecutive"):
        check_rows(every_window(model), env.episodes, case.sequence_length)


class DropsCutWindows(SequenceReplayBuffer):
    """Planted: a window that the write head cuts is thrown away, instead of its missing steps masked."""

    def _read_windows(self, *args: Any) -> SequenceSamples:
        batch = super()._read_windows(*args)
        whole = batch.learning.sum(dim=1, keepdim=True) == self.sequence_length
        return batch._replace(learning=batch.learning & whole)


def test_losing_cut_windows_is_caught() -> None:
    case = CASES["states at every step"]
    model, env = replay(case, DropsCutWindows)
    with pytest.raises(AssertionError):
        check_chances(model, env, case)
