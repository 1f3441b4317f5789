"""
Conformance 7: the final observation that a time limit bootstraps from is the true one, to the last bit, whatever
wrappers and the environment do with it.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.watching import FinalsCopied, StandIn
from sb3_attnmem.replay.slots import Slot
from tests.dqn_recurrent.worlds import SMALL

N_STEPS = 5


def numbers(dtype: type, low: float, high: float) -> spaces.Box:
    return spaces.Box(low, high, (4,), dtype)


SPACES: dict[str, spaces.Space] = {
    "uint8": numbers(np.uint8, 0, 255),
    "int8": numbers(np.int8, -100, 100),
    "int16": numbers(np.int16, -3000, 3000),
    "int32": numbers(np.int32, -(10**6), 10**6),
    "int64": numbers(np.int64, -(10**12), 10**12),
    "float32": numbers(np.float32, -1e3, 1e3),
    "float64": numbers(np.float64, -1e3, 1e3),
    "matrix": spaces.Box(-5, 5, (2, 3), np.float32),
    "dict": spaces.Dict(a=numbers(np.uint8, 0, 255), b=numbers(np.float32, -9, 9), c=numbers(np.int32, -99, 99)),
}
#: these can only be behind a VecNormalize that leaves them alone
UNNORMALIZED: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(7),
    "multi-discrete": spaces.MultiDiscrete([3, 4]),
    "bits": spaces.MultiBinary(5),
    "mixed": spaces.Dict(number=spaces.Discrete(7), vector=numbers(np.float32, -9, 9)),
}


class Limited(gym.Env):
    """
    Random observations, and a time limit after ``N_STEPS`` steps. It remembers its final observations.

    :param space: of the observations
    :param reuses: whether each observation is written into the same array
    """

    def __init__(self, space: spaces.Space, reuses: bool = False) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        space.seed(0)
        self.finals: list[Any] = []
        self.reuses = reuses
        self.array = np.array(space.sample()) if reuses else None

    def _observe(self) -> Any:
        if self.array is None:
            return self.observation_space.sample()
        self.array[...] = self.observation_space.sample()
        return self.array

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.n_steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.n_steps += 1
        observation = self._observe()
        over = self.n_steps == N_STEPS
        if over:
            keep = np.array if self.reuses else (lambda same: same)
            self.finals.append(keep(observation))
        return observation, 1.0, False, over, {}


def learner(env: VecEnv | gym.Env, **kwargs: Any) -> RecurrentDQN:
    is_dict = isinstance(env.observation_space, spaces.Dict)
    options: dict[str, Any] = dict(buffer_size=200, sequence_length=4, burn_in=0, n_steps=2, train_freq=1, seed=0)
    policy = "MultiInputPolicy" if is_dict else "MlpPolicy"
    return RecurrentDQN(policy, env, policy_kwargs=SMALL, **{**options, **kwargs})


def check_finals(model: RecurrentDQN, world: Limited, n_episodes: int) -> None:
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None
    slots = np.flatnonzero(tapes.kinds[0] == Slot.FINAL)[:n_episodes]
    stored = tapes.read(np.zeros(n_episodes, int), slots)
    assert len(world.finals) >= n_episodes
    for i in range(n_episodes):
        final = world.finals[i]
        for key in final if isinstance(final, dict) else [None]:
            one, other = (stored, final) if key is None else (stored[key], final[key])
            np.testing.assert_array_equal(np.reshape(one[i], np.shape(other)), other)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("clip", [10.0, 0.5])
def test_behind_normalization(name: str, clip: float) -> None:
    world = Limited(SPACES[name])
    model = learner(VecNormalize(DummyVecEnv([lambda: world]), clip_obs=clip))
    model.learn(4 * N_STEPS)
    check_finals(model, world, 4)


@pytest.mark.parametrize("name", UNNORMALIZED)
def test_behind_a_normalization_that_leaves_observations_alone(name: str) -> None:
    world = Limited(UNNORMALIZED[name])
    keys = ["vector"] if name == "mixed" else None
    env = DummyVecEnv([lambda: world])
    model = learner(VecNormalize(env, norm_obs=name == "mixed", norm_obs_keys=keys))
    model.learn(4 * N_STEPS)
    check_finals(model, world, 4)


@pytest.mark.parametrize("name", {**SPACES, **UNNORMALIZED})
def test_without_normalization(name: str) -> None:
    world = Limited({**SPACES, **UNNORMALIZED}[name])
    learner(world).learn(1)
    model = learner(DummyVecEnv([lambda: world]))
    world.finals.clear()
    model.learn(4 * N_STEPS)
    check_finals(model, world, 4)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_environment_that_reuses_its_array(normalized: bool, wrapped: bool) -> None:
    world = Limited(SPACES["float32"], reuses=True)
    env: VecEnv = DummyVecEnv([lambda: gym.wrappers.OrderEnforcing(world) if wrapped else world])
    model = learner(VecNormalize(env) if normalized else env)
    model.learn(4 * N_STEPS)
    check_finals(model, world, 4)


def test_a_reused_array_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the final observation is looked at after the reset has overwritten it."""
    monkeypatch.setattr(FinalsCopied, "__call__", StandIn.__call__)
    world = Limited(SPACES["float32"], reuses=True)
    model = learner(world)
    model.learn(4 * N_STEPS)
    with pytest.raises(AssertionError):
        check_finals(model, world, 4)


class ReusesItsArrays(VecEnvWrapper):
    """A ``VecEnv`` that hands out the same array at each step, as those of other libraries do."""

    def reset(self) -> Any:
        self.array = np.array(self.venv.reset())
        return self.array

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        self.array[...] = observations
        return self.array, *rest


def test_a_vec_env_that_reuses_its_arrays() -> None:
    world, twin = Limited(SPACES["int32"]), Limited(SPACES["int32"])
    models = [learner(DummyVecEnv([lambda: twin])), learner(ReusesItsArrays(DummyVecEnv([lambda: world])))]
    for model, used in zip(models, (twin, world), strict=True):
        used.observation_space.seed(5)
        model.learn(4 * N_STEPS + 2)
    ours, theirs = (model.replay_buffer.tapes for model in models)  # type: ignore[union-attr]
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(ours.observations, theirs.observations)


class LosesFinals(VecEnvWrapper):
    """A ``VecEnv`` that tells of time limits, and gives no final observations."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            info.pop("terminal_observation", None)
        return observations, rewards, dones, infos


@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize])
def test_a_final_observation_that_is_missing(wrap: Callable[[VecEnv], VecEnv]) -> None:
    def make() -> VecEnv:
        return wrap(LosesFinals(DummyVecEnv([lambda: Limited(SPACES["float32"])])))

    with pytest.raises(ValueError, match=r"no infos\[0\]\['terminal_observation'\] to bootstrap from"):
        learner(make()).learn(N_STEPS)
    model = learner(make(), replay_buffer_kwargs=dict(handle_timeout_termination=False))
    model.learn(2 * N_STEPS)
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None and (tapes.kinds == Slot.TERMINAL).sum() == 2
