"""
Conformance 15: a reset without ``done`` cuts the chain. The newest transition keeps its own successor and bootstraps
from it, nothing crosses the cut, no transition is lost.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.replay.slots import Slot
from tests.dqn_recurrent.conformance.reference import (
    every_window,
    learned,
    pieces,
    rows,
)
from tests.dqn_recurrent.conformance.stories import (
    LENGTHS,
    RaisesAt,
    StopsAt,
    Story,
    callback_stops_and_learning_begins_anew,
    callback_stops_and_learning_goes_on,
    callback_stops_before_set_env,
    learn_on_and_anew,
    load,
    load_a_replay_buffer_while_learning,
    load_into_fewer_environments,
    load_into_more_environments,
    load_without_force_reset,
    second_learn,
    set_env,
)
from tests.ledger import make_env, make_model

SCENARIOS = [
    second_learn,
    learn_on_and_anew,
    set_env,
    load,
    load_without_force_reset,
    load_into_fewer_environments,
    load_into_more_environments,
    load_a_replay_buffer_while_learning,
    callback_stops_and_learning_begins_anew,
    callback_stops_and_learning_goes_on,
    callback_stops_before_set_env,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_cuts(scenario: Callable[[Story], None], tmp_path: Path) -> None:
    story = Story(RecurrentDQN, SequenceReplayBuffer, tmp_path)
    scenario(story)
    story.check()


def environment_raises(model_class: type[RecurrentDQN], buffer_class: type[SequenceReplayBuffer], folder: Path) -> None:
    """The step that raised told nothing, although two of three environments had taken it."""
    story = Story(model_class, buffer_class, folder, fails_at=13)
    with pytest.raises(RuntimeError, match="told to fail"):
        story.learn(30)
    story.learn(20, reset_num_timesteps=False)
    story.check()


def callback_raises(model_class: type[RecurrentDQN], buffer_class: type[SequenceReplayBuffer], folder: Path) -> None:
    """The callback runs before the transition is stored, so that step is lost; nothing may be paired wrongly."""
    story = Story(model_class, buffer_class, folder)
    with pytest.raises(RuntimeError, match="told to fail"):
        story.learn(30, callback=RaisesAt(12))
    story.env.forget_last_step()
    story.learn(20, reset_num_timesteps=False)
    story.check()


Failure = Callable[[type[RecurrentDQN], type[SequenceReplayBuffer], Path], None]


@pytest.mark.parametrize("failure", [environment_raises, callback_raises])
def test_exceptions(failure: Failure, tmp_path: Path) -> None:
    failure(RecurrentDQN, SequenceReplayBuffer, tmp_path)


def test_going_on_keeps_the_memory(tmp_path: Path) -> None:
    """``reset_num_timesteps=False`` goes on in the middle of an episode, after a callback's False as well."""
    story = Story(RecurrentDQN, SequenceReplayBuffer, tmp_path)
    story.learn(30, callback=StopsAt(13))
    assert story.model._memory_state is not None
    before = [tensor[2].clone() for tensor in story.model._memory_state]
    story.learn(1, reset_num_timesteps=False)
    assert len(story.env.transitions[2]) == 14
    first_after = story.states[story.env.transitions[2][13]]
    for one, other in zip(before, first_after, strict=True):
        assert np.array_equal(one, other) and one.abs().sum() > 0


@pytest.mark.parametrize("n_envs", [1, 2, 5])
def test_a_full_ring_loaded_into_another_number_of_environments(n_envs: int, tmp_path: Path) -> None:
    """
    Where old tapes come to lie behind one another, an episode whose beginning is gone begins from the initial state;
    nothing is paired with what does not follow it, and chances stay even.
    """
    story = Story(RecurrentDQN, SequenceReplayBuffer, tmp_path, buffer_size=3 * 40)
    story.learn(100)
    story.save_and_load(((9, 4), (30,), (2,), (7,), (16,))[:n_envs])
    for n_steps in (0, 1, 5, 9, 30):
        if n_steps:
            story.learn(n_steps, reset_num_timesteps=False)
        batch = every_window(story.model)
        assert batch.window.present.any(dim=1).all(), "no window is drawn from a tape that is empty"
        counts = learned(batch)
        assert max(counts.values()) <= 2 * min(counts.values())
        episodes = {key: episode for env in story.envs for key, episode in env.episodes.items()}
        for row, (burnt, window) in enumerate(rows(batch)):
            for number, piece in enumerate(pieces(burnt, window)):
                assert [place.step for place in piece] == list(range(piece[0].step, piece[0].step + len(piece)))
                if number > 0 and piece[0] in window:
                    assert batch.window.episode_starts[row, window.index(piece[0])]
            for column, place in enumerate(window):
                if place is not None and batch.learning[row, column]:
                    episode = episodes[place[:2]]
                    end = min(place.step + 3, len(episode.actions))
                    if end < len(episode.actions) or episode.end != "terminated":
                        assert place._replace(step=end) in window


# Planted mistakes


class NeverCuts(SequenceReplayBuffer):
    """Planted: what comes after a reset is taken for what follows."""

    def cut(self) -> None:
        pass


class CutsByTermination(SequenceReplayBuffer):
    """Planted: SB3's way with its memory-efficient buffer, the newest transition is marked as done."""

    def cut(self) -> None:
        if self.tapes is not None and self.tapes.open.all():
            tapes = self.tapes
            tapes.kinds[tapes.rows, (tapes.heads - 1) % tapes.n_slots] = Slot.TERMINAL
            tapes.open[:] = False


class CutsTheNewestOff(SequenceReplayBuffer):
    """Planted: the newest transition is dropped, its observation becomes the successor of the one before."""

    def cut(self) -> None:
        if self.tapes is not None and self.tapes.open.all():
            tapes = self.tapes
            tapes.kinds[tapes.rows, (tapes.heads - 1) % tapes.n_slots] = Slot.FINAL
            tapes.open[:] = False


@pytest.mark.parametrize("planted", [NeverCuts, CutsByTermination, CutsTheNewestOff])
@pytest.mark.parametrize("scenario", [second_learn, set_env, load, load_a_replay_buffer_while_learning])
def test_wrong_cuts_are_caught(
    scenario: Callable[[Story], None], planted: type[SequenceReplayBuffer], tmp_path: Path
) -> None:
    story = Story(RecurrentDQN, planted, tmp_path)
    scenario(story)
    with pytest.raises(AssertionError):
        story.check()


class DropsTheLastStep(RecurrentDQN):
    """Planted: SB3 returns before it stores the step at which a callback returned False."""

    def _finish_step(self, *args: Any) -> int:
        return 0


class GoesOnAfterABrokenStep(DropsTheLastStep):
    """Planted: and the next ``learn`` goes on from the observation before, paired with the successor of the next."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        self._step_under_way = False
        self._watched().settle()
        return super()._setup_learn(*args, **kwargs)


class KeepsTheMemory(RecurrentDQN):
    """Planted: a new ``learn`` resets the environment, but neither memory nor flags."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        before = self._memory_state
        result = super()._setup_learn(*args, **kwargs)
        if before is not None:
            self._memory_state = before
            self._last_episode_starts = np.zeros(self.n_envs, dtype=bool)
        return result


class ForgetsTheMemory(RecurrentDQN):
    """Planted: a ``learn`` that goes on in the middle of an episode begins with an empty memory."""

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._setup_learn(*args, **kwargs)
        self._memory_state = self.q_net.memory.initial_state(self.n_envs)
        return result


@pytest.mark.parametrize(
    ("planted", "scenario"),
    [
        (DropsTheLastStep, callback_stops_and_learning_begins_anew),
        (DropsTheLastStep, callback_stops_and_learning_goes_on),
        (GoesOnAfterABrokenStep, callback_stops_and_learning_goes_on),
    ],
)
def test_losing_the_step_a_callback_stopped_at_is_caught(
    planted: type[RecurrentDQN], scenario: Callable[[Story], None], tmp_path: Path
) -> None:
    story = Story(planted, SequenceReplayBuffer, tmp_path)
    scenario(story)
    with pytest.raises(AssertionError):
        story.check()


@pytest.mark.parametrize("failure", [environment_raises, callback_raises])
def test_going_on_after_an_exception_is_caught(failure: Failure, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        failure(GoesOnAfterABrokenStep, SequenceReplayBuffer, tmp_path)


def check_memory_after_learns(model_class: type[RecurrentDQN]) -> None:
    """``SumMemory`` holds the sum of an episode's observations, whatever learns it was made in."""
    env = make_env(LENGTHS)
    model = make_model(env, model_class)
    for n_steps, anew in ((7, True), (6, False), (9, True), (1, False)):
        model.learn(n_steps * env.num_envs, reset_num_timesteps=anew)
        assert model._memory_state is not None
        for state, episode in zip(model._memory_state[0], env.current, strict=True):
            if episode.actions:
                np.testing.assert_allclose(state, np.sum(episode.frames[:-1], axis=0))


def test_the_memory_goes_on_or_begins_anew_with_the_environment() -> None:
    check_memory_after_learns(RecurrentDQN)


@pytest.mark.parametrize("planted", [KeepsTheMemory, ForgetsTheMemory])
def test_a_memory_out_of_step_with_the_environment_is_caught(planted: type[RecurrentDQN]) -> None:
    with pytest.raises(AssertionError):
        check_memory_after_learns(planted)
