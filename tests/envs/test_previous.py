from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_attnmem.envs import PreviousActionReward

VECTOR = spaces.Box(-1.0, 1.0, (2,), np.float32)


class Counting(gym.Env):
    """Random observations; the reward of step t is t, and an episode has 3 steps."""

    def __init__(self, observation_space=VECTOR, action_space=None):
        self.observation_space = deepcopy(observation_space)  # spaces carry a generator: share none
        self.action_space = spaces.Discrete(3) if action_space is None else action_space
        self.t = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), float(self.t), self.t == 3, False, {}


def test_a_vector_grows_by_the_one_hot_action_and_the_reward():
    env = PreviousActionReward(Counting())
    space = env.observation_space
    assert isinstance(space, spaces.Box) and space.shape == (2 + 3 + 1,) and space.dtype == np.float32
    np.testing.assert_array_equal(space.low, np.float32([-1, -1, 0, 0, 0, -np.inf]))
    np.testing.assert_array_equal(space.high, np.float32([1, 1, 1, 1, 1, np.inf]))

    first, _ = env.reset(seed=0)
    np.testing.assert_array_equal(first[2:], 0)
    for action, expected in [(2, [0, 0, 1, 1]), (0, [1, 0, 0, 2]), (1, [0, 1, 0, 3])]:
        observation, *_ = env.step(action)
        assert observation in space
        np.testing.assert_array_equal(observation[2:], expected)


def test_the_next_episode_does_not_see_the_last_one():
    env = PreviousActionReward(Counting())
    env.reset(seed=0)
    env.step(2)
    np.testing.assert_array_equal(env.reset()[0][2:], 0)


def test_the_observation_itself_is_untouched():
    plain, wrapped = Counting(), PreviousActionReward(Counting())
    np.testing.assert_array_equal(plain.reset(seed=3)[0], wrapped.reset(seed=3)[0][:2])
    np.testing.assert_array_equal(plain.step(1)[0], wrapped.step(1)[0][:2])


@pytest.mark.parametrize("dtype, expected", [(np.float64, np.float64), (np.int64, np.float64), (np.uint8, np.float32)])
def test_a_vector_of_another_type_loses_no_digit(dtype, expected):
    env = PreviousActionReward(Counting(spaces.Box(0, 200, (2,), dtype)))
    assert env.observation_space.dtype == expected
    observation, _ = env.reset(seed=0)
    assert observation.dtype == expected and observation in env.observation_space


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (36, 36, 1), np.uint8),
        spaces.Box(-1, 1, (2, 3), np.float32),
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 5]),
        spaces.MultiBinary(3),
    ],
    ids=lambda space: type(space).__name__,
)
def test_anything_else_becomes_a_dict(space):
    env = PreviousActionReward(Counting(space))
    assert set(env.observation_space.spaces) == {"observation", "previous_action", "previous_reward"}
    assert env.observation_space["observation"] == space
    first, _ = env.reset(seed=0)
    assert first in env.observation_space
    assert not first["previous_action"].any() and not first["previous_reward"].any()
    second, *_ = env.step(np.int64(1))
    np.testing.assert_array_equal(second["previous_action"], [0, 1, 0])
    np.testing.assert_array_equal(second["previous_reward"], [1])
    np.testing.assert_array_equal(first["previous_action"], 0)  # a fresh array, not one written twice
    sb3_check_env(env, warn=False)


def test_a_dict_keeps_its_keys():
    space = spaces.Dict(image=spaces.Box(0, 255, (36, 36, 1), np.uint8), place=spaces.Discrete(4))
    env = PreviousActionReward(Counting(space))
    assert set(env.observation_space.spaces) == {"image", "place", "previous_action", "previous_reward"}
    assert env.reset(seed=0)[0] in env.observation_space
    assert env.step(0)[0] in env.observation_space


def test_a_key_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="previous_reward"):
        PreviousActionReward(Counting(spaces.Dict(previous_reward=VECTOR)))
    with pytest.raises(ValueError, match="Wrap the environment once"):
        PreviousActionReward(PreviousActionReward(Counting(spaces.Discrete(2))))


def test_either_can_be_left_out():
    assert PreviousActionReward(Counting(), reward=False).observation_space.shape == (2 + 3,)
    only_reward = PreviousActionReward(Counting(action_space=spaces.Box(-1, 1, (2,))), action=False)
    only_reward.reset(seed=0)
    assert only_reward.step(np.zeros(2, np.float32))[0][-1] == 1
    for wrong in ("no", 0, None):
        with pytest.raises(ValueError, match="must be True or False"):
            PreviousActionReward(Counting(), reward=wrong)
    with pytest.raises(ValueError, match="adds nothing"):
        PreviousActionReward(Counting(), action=False, reward=False)


def test_only_discrete_actions_can_be_written_one_hot():
    with pytest.raises(ValueError, match="action=False"):
        PreviousActionReward(Counting(action_space=spaces.MultiDiscrete([2, 2])))


def test_actions_that_start_elsewhere():
    env = PreviousActionReward(Counting(action_space=spaces.Discrete(3, start=-1)))
    env.reset(seed=0)
    np.testing.assert_array_equal(env.step(-1)[0][2:5], [1, 0, 0])


def test_checkers_and_spec():
    env = PreviousActionReward(gym.make("CartPole-v1"), reward=False)
    gym_check_env(env, skip_render_check=True)
    sb3_check_env(env)
    assert gym.make(env.spec).observation_space == env.observation_space


# Forked workers need not import torch anew
@pytest.mark.parametrize(("vec_env_cls", "kwargs"), [(DummyVecEnv, {}), (SubprocVecEnv, dict(start_method="fork"))])
def test_vectorised(vec_env_cls, kwargs):
    options = dict(wrapper_class=PreviousActionReward, vec_env_cls=vec_env_cls, vec_env_kwargs=kwargs)
    venv = make_vec_env("CartPole-v1", 2, seed=0, **options)
    try:
        np.testing.assert_array_equal(venv.reset()[:, 4:], 0)
        np.testing.assert_array_equal(venv.step(np.array([0, 1]))[0][:, 4:], [[1, 0, 1], [0, 1, 1]])
    finally:
        venv.close()


def test_stock_policies_take_both_forms():
    DQN("MlpPolicy", PreviousActionReward(gym.make("CartPole-v1")), learning_starts=10, buffer_size=50).learn(20)
    DQN(
        "MultiInputPolicy", PreviousActionReward(Counting(spaces.Discrete(4))), learning_starts=10, buffer_size=50
    ).learn(20)
