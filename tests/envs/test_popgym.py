import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_attnmem.envs import PopgymWrapper

pytest.importorskip("popgym", reason='needs pip install "sb3_attnmem[memory-tasks]"')
from popgym.wrappers import Antialias, DiscreteAction, Flatten, PreviousAction

# Task: observation size, actions, steps of a random episode, whether its end is a termination.
TASKS = {
    "RepeatPreviousEasy": (4 + 4 + 2, 4, 51, True),
    "RepeatFirstEasy": (4 + 4 + 2, 4, 51, True),
    "CountRecallEasy": (2 * 2 + 27 + 2, 27, 51, True),
    "AutoencodeEasy": (2 + 4 + 4 + 2, 4, 103, True),
    "BattleshipEasy": (2 + 8 + 8 + 2, 64, 64, False),
    "ConcentrationEasy": (3 * 52 + 52 + 2, 52, 104, False),
}


def make(task):
    return PopgymWrapper(gym.make(f"popgym-{task}-v0"))


def episode(env, seed):
    """The observations and rewards of one random episode, and its end (terminated, truncated)."""
    env.action_space.seed(seed)
    observations, rewards, end = [env.reset(seed=seed)[0]], [], (False, False)
    while not any(end):
        observation, reward, *end, _ = env.step(env.action_space.sample())
        observations.append(observation)
        rewards.append(float(reward))
    return np.array(observations), np.array(rewards), tuple(end)


@pytest.mark.parametrize("task", TASKS)
def test_equals_popgyms_own_wrappers(task):
    ours = make(task)
    theirs = DiscreteAction(Flatten(Antialias(PreviousAction(gym.make(f"popgym-{task}-v0").unwrapped))))
    size, n_actions, length, terminates = TASKS[task]
    assert ours.observation_space == spaces.Box(0.0, 1.0, (size,), np.float32)
    assert ours.action_space == theirs.action_space == spaces.Discrete(n_actions)

    for seed in range(3):
        observations, rewards, end = episode(ours, seed)
        expected_observations, expected_rewards, expected_end = episode(theirs, seed)
        np.testing.assert_array_equal(observations, expected_observations)
        np.testing.assert_array_equal(rewards, expected_rewards)
        assert end == expected_end == (terminates, not terminates)
        assert len(rewards) == length


@pytest.mark.parametrize("task", TASKS)
def test_checked_and_reproducible(task):
    env = make(task)
    sb3_check_env(env)
    first, again, other = episode(env, 1)[0], episode(env, 1)[0], episode(env, 2)[0]
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or (first != other).any()


def test_the_first_step_is_flagged_and_carries_action_zero():
    env = make("RepeatPreviousEasy")
    np.testing.assert_array_equal(env.reset(seed=0)[0][4:], [1, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(env.step(2)[0][4:], [0, 0, 1, 0, 1, 0])


def test_a_flat_battleship_action_hits_its_row_and_column():
    env = make("BattleshipEasy")
    env.reset(seed=0)
    observation, *_ = env.step(8 * 5 + 3)
    assert env.unwrapped.guesses.nonzero() == ([5], [3])
    np.testing.assert_array_equal(observation[2:18].nonzero()[0], [5, 8 + 3])


def test_gymnasiums_checker_and_spec():
    env = make("RepeatFirstEasy")
    gym_check_env(env, skip_render_check=True)
    assert isinstance(gym.make(env.spec), PopgymWrapper)


# Forked workers need not import torch anew
@pytest.mark.parametrize(("vec_env_cls", "kwargs"), [(DummyVecEnv, {}), (SubprocVecEnv, dict(start_method="fork"))])
def test_monitor_below_the_wrapper_still_reports_the_episode(vec_env_cls, kwargs):
    # make_vec_env puts Monitor inside its wrapper_class; popgym's own wrappers would drop it with `.unwrapped`.
    options = dict(wrapper_class=PopgymWrapper, vec_env_cls=vec_env_cls, vec_env_kwargs=kwargs)
    venv = make_vec_env("popgym:popgym-BattleshipEasy-v0", 2, **options)
    try:
        venv.reset()
        for _ in range(64):
            _, _, dones, infos = venv.step(np.zeros(2, dtype=int))
        assert dones.all()
        assert [info["episode"]["l"] for info in infos] == [64, 64]
        assert all(info["TimeLimit.truncated"] for info in infos)
    finally:
        venv.close()


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="Discrete or MultiDiscrete"):
        make("PositionOnlyPendulumEasy")


def test_continuous_observations_keep_their_values():
    env = make("PositionOnlyCartPoleEasy")
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space and observation.dtype == np.float32
    np.testing.assert_allclose(observation[:2], env.unwrapped.state[[0, 2]], rtol=1e-6)
