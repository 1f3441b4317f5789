"""What the doctor says of environments whose answer is known."""

import json
from typing import Any

import ale_py
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.atari_wrappers import AtariWrapper

from sb3_attnmem.doctor import diagnose_env
from sb3_attnmem.doctor.discrepancy import lambda_discrepancy
from sb3_attnmem.doctor.facts import manners, rewards_and_episodes
from sb3_attnmem.doctor.facts_of_spaces import observations_and_actions
from sb3_attnmem.doctor.playing import AGENT, SEARCHED, UNIFORM, Play, play
from sb3_attnmem.doctor.predictors import Windows, split_episodes
from sb3_attnmem.doctor.tables import GAMMA, discounted_returns, return_is_known
from tests.doctor import worlds


def names(found: list[Any]) -> list[str]:
    return [finding.name for finding in found]


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_memory_that_is_asked_for(k: int) -> None:
    report = diagnose_env(worlds.Echo(k), n_steps=3_000, max_history=8)
    assert report.need is not None and report.need.need == k
    assert report.need.needs["reward"] == k and report.need.confidence > 0.9
    assert report.need.unexplained["reward"][report.need.windows.index(k)] < 0.05, "and then all is known"
    finding = report.findings[0]
    assert finding.name == "memory" and ("No memory" in finding.title) == (k == 1)
    assert ("memory_class" in report.recommendation["policy_kwargs"]) and (report.exit_code == 0)
    assert (report.recommendation["policy_kwargs"]["memory_class"] == "none") == (k == 1)
    told = json.loads(report.to_json())
    assert told["figures"]["memory"]["need"] == k and told["exit_code"] == 0
    assert f"{report.need.confidence:.0%}" in str(report), "the figure behind the words"


def test_windows_end_where_the_episode_begins() -> None:
    times = th.tensor([0, 1, 2, 0, 1])
    steps = th.arange(10.0).reshape(5, 2)
    windows = Windows(steps, now=th.zeros(5, 1), times=times, n_seen=1)
    rows = windows.rows(th.tensor([1, 3, 4]), 3)
    # the present; then for each lag: what was seen and done, whether it was there, the change since
    before, there, change = rows[:, 1:3], rows[:, 3], rows[:, 4]
    assert before.tolist() == [[0.0, 1.0], [0.0, 0.0], [6.0, 7.0]] and there.tolist() == [1.0, 0.0, 1.0]
    assert change.tolist() == [2.0, 0.0, 2.0]
    assert not rows[:, 5:].any(), "nothing lies two steps back"


def test_an_episode_is_used_for_one_thing_only() -> None:
    episodes = np.repeat(np.arange(40), 5)
    split = split_episodes(episodes, np.random.default_rng(0))
    parts = [set(episodes[part.numpy()]) for part in split]
    assert sum(map(len, parts)) == 40 and all(parts) and not parts[0] & parts[2]


def test_returns_stop_at_the_end_of_their_episode() -> None:
    played = play(worlds.Echo(1, length=3), 12, seed=0)
    played = played._replace(rewards=np.tile([0.0, 0.0, 1.0], 4))
    assert discounted_returns(played)[:3].tolist() == pytest.approx([GAMMA**2, GAMMA, 1.0])


def test_returns_of_actions_that_history_chose_are_not_asked_for() -> None:
    played = play(worlds.Echo(1), 600, seed=0)
    known = return_is_known(played)
    assert known.any() and set(played.behaviours[played.episodes[known]]) == {UNIFORM}


def test_the_search_finds_what_random_play_does_not() -> None:
    played = play(worlds.Deep(), 3_000, seed=0)
    returns = played.returns()
    assert returns[played.behaviours == UNIFORM].max() == 0
    assert returns[played.behaviours == SEARCHED].max() == 1
    assert names(rewards_and_episodes(played)[0])[0] == "hard_to_find"


def test_an_agent_plays_a_third_of_the_steps() -> None:
    class Player:
        def predict(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> Any:
            assert (state is None) == bool(episode_start[0])
            return int(np.argmax(observation)), 0

    report = diagnose_env(worlds.Echo(), n_steps=600, max_history=1, agent=Player())
    assert report.figures["return_max"] >= 9, "nine of ten of its actions are right"
    from sb3_attnmem.doctor.environment import _player

    played = play(worlds.Echo(), 600, 0, _player(Player()))
    steps = np.isin(played.episodes, np.flatnonzero(played.behaviours == AGENT)).mean()
    assert 0.3 < steps < 0.4


def test_values_by_step_and_by_return_agree_where_nothing_is_hidden() -> None:
    played = play(TimeLimit(worlds.Echo(1), 12), 3_000, seed=0)
    hidden = chain(hidden=True)
    shown = chain(hidden=False)
    found = [
        lambda_discrepancy(one, th.as_tensor(one.observations), th.as_tensor(one.times) * 0, seed=0)
        for one in (shown, hidden)
    ]
    assert found[0] is not None and found[1] is not None
    assert not found[0].clear and found[1].clear and found[1].share > 2 * found[0].share
    assert lambda_discrepancy(played._replace(rewards=np.zeros(played.n_steps)), th.as_tensor(played.observations),
                              th.as_tensor(played.times), 0) is None  # fmt: skip


def chain(hidden: bool, n: int = 300) -> Play:
    """Episodes of three steps: what is seen first is what is paid last, and ``hidden`` in between."""
    rng = np.random.default_rng(0)
    cue = rng.integers(2, size=n) * 2.0 - 1
    observations = np.zeros((n, 3, 2))
    observations[:, 0, 0] = cue
    observations[:, 1:, 0] = 0 if hidden else cue[:, None]
    observations[:, :, 1] = np.arange(3)
    flat = observations.reshape(-1, 2).astype(np.float32)
    return Play(
        observations=flat, successors=np.roll(flat, -1, axis=0), actions=np.zeros(3 * n, int),
        rewards=np.stack([0 * cue, 0 * cue, cue], 1).ravel(), terminated=np.tile([False, False, True], n),
        truncated=np.zeros(3 * n, bool), episodes=np.repeat(np.arange(n), 3), times=np.tile(np.arange(3), n),
        behaviours=np.zeros(n, int), successes=np.full(n, np.nan), states=None, raw=[], masks=None,
        steps_per_second=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "env, expected",
    [
        (worlds.Echo(), {"fixed_length"}),
        (worlds.Silent(), {"nothing_found", "fixed_length"}),
        (worlds.Map(), {"codes_as_image", "fixed_length"}),
        (worlds.Wide(), {"float64", "constant_dimensions", "duplicate_dimensions", "not_normalised", "fixed_length"}),
        (worlds.Masked(), {"masks", "fixed_length"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_facts(env: worlds.Echo, expected: set[str]) -> None:
    played = play(env, 400, seed=0)
    found = rewards_and_episodes(played)[0] + observations_and_actions(env, played)[0]
    assert set(names(found)) == expected
    for finding in found:
        assert any(character.isdigit() for character in finding.evidence) or finding.name == "float64", finding


@pytest.mark.parametrize("game", ["FreewayNoFrameskip-v4", "BreakoutNoFrameskip-v4"])
def test_lives_are_no_bad_manners(game: str) -> None:
    """A reset of SB3's ``AtariWrapper`` goes on where the game was left; one with a seed must not."""
    gym.register_envs(ale_py)
    env = AtariWrapper(gym.make(game))
    assert manners(env, seed=0) == []
    first, again = play(env, 40, seed=0), play(env, 40, seed=0)
    assert np.array_equal(first.observations, again.observations)


def test_manners() -> None:
    assert manners(worlds.Echo(), seed=0) == []
    assert "check_env" in names(manners(worlds.Rude(), seed=0))
    assert "not_reproducible" in names(manners(worlds.Dice(), seed=0))


def test_what_is_wrong_is_an_exit_code() -> None:
    report = diagnose_env(worlds.Silent(), n_steps=300, max_history=1)
    assert report.exit_code == 1 and report.problems[0].name == "nothing_found"


def test_too_few_episodes_are_said() -> None:
    report = diagnose_env(worlds.Echo(1, length=500), n_steps=600)
    assert report.need is None and "10 are needed" in report.unseen[0]


@pytest.mark.parametrize("wrong", [dict(n_steps=0), dict(max_history=0), dict(seed=-1), dict(n_steps=2.5)])
def test_numbers_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be an integer"):
        diagnose_env(worlds.Echo(), **wrong)
