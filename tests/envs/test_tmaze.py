"""The passive T-Maze against returns worked out by hand."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.envs.tmaze import DOWN, LEFT, RIGHT, UP


def play(env, actions, seed=0):
    """Observations (the one of ``reset`` first), rewards, and the last (terminated, truncated)."""
    observation, _ = env.reset(seed=seed)
    observations, rewards, end = [observation], [], (False, False)
    for action in actions:
        assert end == (False, False), "the episode ended early"
        observation, reward, *end, _ = env.step(action)
        end = tuple(end)
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), rewards, end


def cue_of(env, seed):
    return int(env.reset(seed=seed)[0][1])


def seed_with_cue(env, cue):
    return next(seed for seed in range(100) if cue_of(env, seed) == cue)


@pytest.mark.parametrize("corridor_length", [1, 2, 10, 30])
@pytest.mark.parametrize("cue, turn", [(1, UP), (-1, DOWN)])
def test_perfect_play_scores_one_in_exactly_l_plus_one_steps(corridor_length, cue, turn):
    env = PassiveTMaze(corridor_length)
    observations, rewards, end = play(env, [RIGHT] * corridor_length + [turn], seed_with_cue(env, cue))

    assert rewards == [0.0] * corridor_length + [1.0]
    assert end == (True, False)
    expected = np.zeros((corridor_length + 2, 2))
    expected[0] = (0, cue)
    expected[-2:] = [(1, 0), (1, cue)]
    np.testing.assert_array_equal(observations, expected)


def test_turning_without_memory_is_right_half_of_the_time():
    env = PassiveTMaze(3)
    returns = [sum(play(env, [RIGHT] * 3 + [UP], seed)[1]) for seed in range(1000)]
    assert set(returns) == {0.0, 1.0}
    assert abs(np.mean(returns) - 0.5) < 0.05  # 3 standard errors


def test_every_lagging_step_before_the_last_costs_one_over_l():
    env = PassiveTMaze(4)
    # The wall costs a step, and no later step makes it good; the junction is reached too late to turn.
    assert play(env, [RIGHT, UP, RIGHT, RIGHT, RIGHT])[1] == [0.0, -0.25, -0.25, -0.25, 0.0]
    # Never moving: L penalties, and the last step pays nothing and costs nothing.
    assert play(env, [LEFT] * 5)[1] == [-0.25] * 4 + [0.0]


def test_the_goal_pays_at_the_last_step_only():
    # The field is set by hand: with unit moves nobody reaches an arm before the last step.
    env = PassiveTMaze(2)
    env.reset(seed=seed_with_cue(env, 1))
    env._x = 2
    assert env.step(UP)[1] == 0.0
    assert env.step(DOWN)[1] == 0.0
    observation, reward, terminated, _, _ = env.step(UP)
    assert (reward, terminated) == (1.0, True)
    np.testing.assert_array_equal(observation, [1, 1])


def test_the_cue_is_shown_once_and_never_again_at_the_start():
    observations, _, _ = play(PassiveTMaze(5), [LEFT, RIGHT, LEFT, DOWN])
    assert abs(observations[0, 1]) == 1
    np.testing.assert_array_equal(observations[1:], 0)


@pytest.mark.parametrize(
    "at, action, then",
    [
        ((0, 0), LEFT, (0, 0)),
        ((0, 0), UP, (0, 0)),
        ((1, 0), DOWN, (1, 0)),
        ((1, 0), LEFT, (0, 0)),
        ((3, 0), RIGHT, (3, 0)),
        ((3, 0), UP, (3, 1)),
        ((3, 1), UP, (3, 1)),
        ((3, 1), LEFT, (3, 1)),
        ((3, -1), DOWN, (3, -1)),
        ((3, -1), UP, (3, 0)),
    ],
)
def test_walls(at, action, then):
    env = PassiveTMaze(3)
    env.reset(seed=0)
    env._x, env._y = at
    env.step(action)
    assert (env._x, env._y) == then


def test_the_seed_fixes_the_cues_and_the_cues_vary():
    def cues(seed):
        env = PassiveTMaze()
        return [cue_of(env, seed), *(cue_of(env, None) for _ in range(50))]

    assert cues(3) == cues(3)
    assert cues(3) != cues(4)
    assert set(cues(3)) == {-1, 1}


@pytest.mark.parametrize("corridor_length", [0, -1, 2.0, "10", True, None])
def test_a_bad_corridor_is_refused(corridor_length):
    with pytest.raises(ValueError, match="corridor_length"):
        PassiveTMaze(corridor_length)


def test_a_bad_action_and_a_bad_render_mode_are_refused():
    with pytest.raises(ValueError, match="render_mode"):
        PassiveTMaze(render_mode="film")
    env = PassiveTMaze()
    env.reset()
    with pytest.raises(ValueError, match="action"):
        env.step(4)


def test_it_is_drawn():
    env = PassiveTMaze(2, render_mode="ansi")
    env.reset(seed=seed_with_cue(env, -1))
    env.step(RIGHT)
    assert env.render() == "  .\n.A.\n  G"
    env.render_mode = "rgb_array"
    frame = env.render()
    assert frame.shape == (48, 48, 3) and frame.dtype == np.uint8
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 4  # wall, floor, goal, agent


def test_registered_checked_and_vectorised():
    env = gym.make("PassiveTMaze-v0", corridor_length=7)
    assert env.unwrapped.corridor_length == 7
    assert gym.make("PassiveTMaze-v0").unwrapped.corridor_length == 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gym_check_env(env.unwrapped)
        sb3_check_env(env)

    # The prefix imports the module in the workers, which start without it.
    venv = make_vec_env("sb3_attnmem.envs:PassiveTMaze-v0", n_envs=2, seed=0, vec_env_cls=SubprocVecEnv)
    try:
        assert venv.reset().shape == (2, 2)
        assert venv.step(np.array([RIGHT, LEFT]))[1].tolist() == pytest.approx([0.0, -0.1])
    finally:
        venv.close()
