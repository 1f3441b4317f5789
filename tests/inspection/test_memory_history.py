"""Score against history, on agents whose answer is known, and the search by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.inspection import write_memory_report
from sb3_attnmem.inspection.common import undisturbed
from sb3_attnmem.inspection.memory.history import HistoryScore, score_against_history
from sb3_attnmem.inspection.memory.playing import FullMemory, LastSteps, last_q_values, play_episodes
from sb3_attnmem.inspection.memory.reach import GradientReach
from sb3_attnmem.inspection.memory.verdict import remarks, verdict
from tests.inspection.memory_toys import Repeat, maze_walker, plain, repeater, set_head

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.mark.parametrize("lag", [4, 1, 0])
def test_the_steps_that_are_used_are_found(tmp_path: Path, lag: int) -> None:
    env = make_vec_env(lambda: Repeat(lag), n_envs=10)
    report = write_memory_report(repeater(lag), env, tmp_path, episodes=20, progress=False)
    assert report.score.mean == 12 - lag and report.score.needed == lag + 1
    assert report.reach.observations == lag + 1  # a memory of five, of which the Q-values read one
    begins = (
        f"This agent uses {lag + 1} steps of history"
        if lag
        else "Memory is not used: with k = 1 the return falls by 0 %"
    )
    assert report.verdict.startswith(begins)


def test_a_memory_of_five_where_nothing_depends_on_the_past(tmp_path: Path) -> None:
    """Q-values move with what is kept, but not the best action."""
    model = repeater(0)
    weight = model.q_net.q_net[0].weight.detach().reshape(3, 5, 3).clone()
    weight[:, 4] = 0.3
    set_head(model, weight.reshape(3, -1))
    report = write_memory_report(
        model, make_vec_env(lambda: Repeat(0), n_envs=10), tmp_path, episodes=10, progress=False
    )
    assert report.score.needed == 1 and report.reach.observations == 5
    assert "Memory is not used" in report.verdict


@pytest.mark.parametrize("memory", ["none", "lstm"])
def test_agents_without_memory_are_reported_as_such(tmp_path: Path, memory: str) -> None:
    options = {} if memory == "none" else dict(memory_fusion="concat", memory_kwargs=dict(hidden_size=8))
    model = plain(Repeat(0), memory, **options)
    set_head(model, np.eye(3, model.q_net.fusion.output_dim))  # reads the present features alone
    env = make_vec_env(lambda: Repeat(0), n_envs=10)
    report = write_memory_report(model, env, tmp_path, episodes=10, progress=False)
    assert report.score.needed == 1 and report.reach.observations == 1
    expected = "This agent has no memory" if memory == "none" else "Memory is not used: with k = 1"
    assert report.verdict.startswith(expected)


def test_the_whole_maze_is_needed(tmp_path: Path) -> None:
    env = make_vec_env(PassiveTMaze, n_envs=10, env_kwargs=dict(corridor_length=20))
    report = write_memory_report(maze_walker(env), env, tmp_path, episodes=20, progress=False)
    assert report.score.mean == 1.0 and report.score.needed == 21
    assert report.verdict.startswith("This agent uses all the history there is, 21 observations")


def test_a_limit_is_a_limit(tmp_path: Path) -> None:
    env = make_vec_env(PassiveTMaze, n_envs=10, env_kwargs=dict(corridor_length=20))
    report = write_memory_report(maze_walker(env), env, tmp_path, episodes=20, max_history=12, progress=False)
    assert report.score.needed is None and [point.k for point in report.score.points] == [1, 2, 4, 8, 12]
    assert report.verdict.startswith("This agent uses more than 12 steps of history")


@pytest.mark.parametrize("memory", ["lstm", "gtrxl", "dnc", "min_gru"])
def test_the_state_is_that_of_the_last_observations(memory: str) -> None:
    """Against a loop over rows and steps; the second row begins an episode in between."""
    th.manual_seed(0)
    model = plain(Repeat(), memory, memory_kwargs=dict(hidden_size=8))
    model.policy.set_training_mode(False)
    features, k = th.randn(2, 9, 3), 4
    starts = th.zeros(2, 9, dtype=th.bool)
    starts[:, 0] = starts[1, 5] = True
    short, full = LastSteps(model.q_net, k), FullMemory(model.q_net)
    short.begin(2)
    full.begin(2)
    with th.no_grad():
        for t in range(9):
            q_short, q_full = (actor(features[:, t], starts[:, t]) for actor in (short, full))
            for row in range(2):
                begun = 5 if row == 1 and t >= 5 else 0
                for q_values, first in ((q_short, max(begun, t + 1 - k)), (q_full, begun)):
                    inputs = features[row : row + 1, first : t + 1]
                    none = th.zeros(1, inputs.shape[1], dtype=th.bool)
                    latents, _ = model.q_net.memory(inputs, model.q_net.memory.initial_state(1), none)
                    expected = last_q_values(model.q_net, inputs, latents)[0]
                    th.testing.assert_close(q_values[row], expected, atol=1e-5, rtol=1e-5)


def test_rows_that_ended_are_left_out() -> None:
    model = plain(Repeat(), "lstm", memory_kwargs=dict(hidden_size=8))
    model.policy.set_training_mode(False)
    features, first = th.randn(3, 4, 3), th.ones(3, dtype=th.bool)
    which = th.tensor([True, False, True])
    for make in (lambda: LastSteps(model.q_net, 3), lambda: FullMemory(model.q_net)):
        all_rows, some = make(), make()
        with th.no_grad():
            for actor in (all_rows, some):
                actor.begin(3)
                actor(features[:, 0], first)
            some.keep(which)
            for t in (1, 2, 3):
                expected = all_rows(features[:, t], ~first)[which]
                th.testing.assert_close(some(features[which, t], ~first[which]), expected)


def test_a_window_cannot_hold_more_than_it_holds(tmp_path: Path) -> None:
    """Two layers that look one step back hold three observations: from there on it is full memory, exactly."""
    model = plain(Repeat(), "window", memory_kwargs=dict(hidden_size=8, window=2))
    report = write_memory_report(model, Repeat(), tmp_path, episodes=4, progress=False)
    assert report.score.whole == 3 and all(point.k < 3 for point in report.score.points)
    assert len(report.reach.means) == 3
    with undisturbed(model, env := make_vec_env(Repeat, n_envs=2)):
        full, held, less = (
            play_episodes(model, env, actor, 4, 0, 99, lambda n: None, keep=True).episodes[3].q_values
            for actor in (FullMemory(model.q_net), LastSteps(model.q_net, 3), LastSteps(model.q_net, 2))
        )
    np.testing.assert_allclose(held, full, atol=1e-5)
    assert less.shape != full.shape or np.abs(less - full).max() > 1e-4


def search(curve: dict[int, float], noise: float = 0.0) -> HistoryScore:
    """:return: of an agent that scores 10, and with k observations what the largest key up to k says"""
    full = np.full(50, 10.0)
    chance = noise * np.random.default_rng(0).choice([-1.0, 1.0], 50)
    return score_against_history(
        full, lambda k: full * 0 + curve[max(key for key in curve if key <= k)] + chance, 100, 512, 0.05
    )


@pytest.mark.parametrize("needed", [1, 2, 3, 7, 8, 9, 31, 32, 33, 100])
def test_the_bisection_finds_every_number(needed: int) -> None:
    score = search({1: 0.0, needed: 10.0} if needed > 1 else {1: 10.0})
    assert needed <= score.needed <= needed + needed // 32
    assert len(score.points) <= 7 + 6


def test_a_lucky_number_is_not_enough() -> None:
    """k = 4 scores well by accident, 8 does not."""
    score = search({1: 0.0, 4: 10.0, 8: 5.0, 16: 10.0})
    assert 8 < score.needed <= 16
    notes = " ".join(remarks(score, GradientReach(np.ones(1), np.ones(1, int), 1), 50))
    assert "at k = 4 it is within the tolerance already" in notes


def test_chance_is_not_taken_for_history() -> None:
    """A loss of 0.8 is more than the tolerance, but less than two standard errors of 1.0 / √49 · 4."""
    noisy = search({1: 9.2}, noise=4.0)
    assert noisy.needed == 1 and "No use of memory was found" in verdict(noisy, 50, True)
    certain = search({1: 9.2, 2: 10.0}, noise=0.1)
    assert certain.needed == 2 and "uses 2 steps" in verdict(certain, 50, True)
    few = search({1: 0.0, 7: 9.2}, noise=4.0)
    assert few.needed == 7 and "uses at least 7 steps" in verdict(few, 50, True)


def test_returns_around_zero_have_a_scale_too() -> None:
    full = np.tile([-0.1, 0.1], 20)
    score = score_against_history(full, lambda k: full - (1.0 if k < 6 else 0.01), 50, 512, 0.05)
    assert score.needed == 6


def test_a_gain_is_said() -> None:
    notes = remarks(search({1: 14.0}), GradientReach(np.ones(1), np.ones(1, int), 1), 50)
    assert any("Older history harms" in note for note in notes)
