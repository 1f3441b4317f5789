import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env as gym_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_attnmem.envs import FlickerWrapper


class Constant(gym.Env):
    """Shows the same observation for ever and draws one number a step from its own generator."""

    def __init__(self, observation_space, observation):
        self.observation_space, self.shown = observation_space, observation
        self.action_space = spaces.Discrete(2)
        self.draws = []

    def _observation(self):
        self.draws.append(self.np_random.random())
        return self.shown.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        return self._observation(), 0.0, False, False, {}


def ones(low=0.0):
    return Constant(spaces.Box(low, 1.0, (3,), np.float32), np.ones(3, np.float32))


def blanks(env, steps, seed):
    """Which of ``reset`` and ``steps - 1`` steps came out blank."""
    shown = [env.reset(seed=seed)[0]] + [env.step(0)[0] for _ in range(steps - 1)]
    assert all(observation.all() or not observation.any() for observation in shown)
    return np.array([not observation.any() for observation in shown])


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 0.9])
def test_the_rate_is_p(p):
    rate = blanks(FlickerWrapper(ones(), p), 4000, seed=0).mean()
    assert abs(rate - p) <= 4 * np.sqrt(p * (1 - p) / 4000)


def test_the_first_observation_flickers_too():
    env = FlickerWrapper(ones())
    assert {bool(env.reset(seed=seed)[0].any()) for seed in range(20)} == {True, False}


def test_the_seed_fixes_the_tosses_and_a_reset_without_one_goes_on():
    env = FlickerWrapper(ones())
    first, again, other = (blanks(env, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (blanks(env, 50, None) != blanks(env, 50, None)).any()


def test_the_tosses_are_independent_of_the_environments_own_draws():
    # Planted: a generator seeded with the bare seed repeats the environment's numbers toss for toss.
    planted = FlickerWrapper(ones())
    planted.reset(seed=7)
    planted._rng = np.random.default_rng(7)
    env = FlickerWrapper(ones())
    flickered = blanks(env, 200, seed=7)
    own = np.array(env.unwrapped.draws) < 0.5

    np.testing.assert_array_equal([planted._rng.random() < 0.5 for _ in range(200)], own)
    assert 0.35 < (flickered == own).mean() < 0.65


def test_a_dict_blanks_its_boxes_together_and_keeps_the_rest():
    space = spaces.Dict(
        image=spaces.Box(0, 255, (4, 4, 1), np.uint8),
        vector=spaces.Box(-1, 1, (2,), np.float32),
        place=spaces.Discrete(5),
    )
    shown = {"image": np.full((4, 4, 1), 9, np.uint8), "vector": np.ones(2, np.float32), "place": 3}
    env = FlickerWrapper(Constant(space, shown))
    assert env.observation_space == space

    seen = set()
    env.reset(seed=0)
    for _ in range(30):
        observation = env.step(0)[0]
        assert observation in space and observation["place"] == 3
        seen.add((bool(observation["image"].any()), bool(observation["vector"].any())))
    assert seen == {(True, True), (False, False)}
    assert shown["vector"].all(), "the environment's own arrays were blanked"


def test_bounds_widen_only_where_zero_lies_outside():
    assert FlickerWrapper(ones(low=0.5)).observation_space == spaces.Box(0.0, 1.0, (3,), np.float32)
    env = ones(low=-2.0)
    assert FlickerWrapper(env).observation_space is env.observation_space


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan"), True, "0.5", None])
def test_a_bad_p_is_refused(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        FlickerWrapper(ones(), p)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Dict(place=spaces.Discrete(3))])
def test_nothing_to_blank_is_refused(space):
    with pytest.raises(ValueError, match="Box"):
        FlickerWrapper(Constant(space, space.sample()))


def test_checkers_and_spec():
    env = FlickerWrapper(gym.make("CartPole-v1"), p=0.3)
    gym_check_env(env, skip_render_check=True)
    sb3_check_env(env)
    assert gym.make(env.spec).p == 0.3


# Forked workers need not import torch anew
@pytest.mark.parametrize(("vec_env_cls", "kwargs"), [(DummyVecEnv, {}), (SubprocVecEnv, dict(start_method="fork"))])
def test_vectorised_and_reproducible(vec_env_cls, kwargs):
    def rollout():
        options = dict(wrapper_class=FlickerWrapper, vec_env_cls=vec_env_cls, vec_env_kwargs=kwargs)
        venv = make_vec_env("CartPole-v1", 2, seed=5, **options)
        try:
            return np.array([venv.reset()] + [venv.step(np.array([0, 1]))[0] for _ in range(20)])
        finally:
            venv.close()

    first = rollout()
    np.testing.assert_array_equal(first, rollout())
    blank = ~first.any(axis=-1)
    assert blank.any() and not blank.all()
    assert (blank[:, 0] != blank[:, 1]).any(), "both environments toss the same coin"


def test_pong_of_another_size_and_of_none() -> None:
    assert gym.make("FlickeringPong-v0", screen_size=42).observation_space.shape == (42, 42, 1)
    with pytest.raises(ValueError, match="screen_size"):
        gym.make("FlickeringPong-v0", screen_size=0)
