"""Environments tell the ends of episodes as bools, integers, floats or lists."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from sb3_attnmem import RecurrentDQN
from tests.dqn_recurrent.worlds import make_learner, make_world

KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda dones: dones,
    "int": lambda dones: dones.astype(int),
    "uint8": lambda dones: dones.astype(np.uint8),
    "float": lambda dones: dones.astype(np.float32),
    "list": lambda dones: [int(done) for done in dones],
}


class Tells(VecEnvWrapper):
    """
    :param kind: what ``dones`` are
    """

    def __init__(self, venv: VecEnv, kind: str) -> None:
        super().__init__(venv)
        self.kind = kind

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, rewards, KINDS[self.kind](dones), infos


def learned(kind: str, normalized: bool) -> RecurrentDQN:
    env: VecEnv = Tells(make_world(), kind)
    env.seed(3)
    model = make_learner(VecNormalize(env) if normalized else env, learning_starts=0)
    model.learn(60)
    return model


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bool"])
def test_as_if_they_were_bools(kind: str, normalized: bool) -> None:
    ours, theirs = learned(kind, normalized), learned("bool", normalized)
    assert ours.replay_buffer is not None and theirs.replay_buffer is not None
    tapes, expected = ours.replay_buffer.tapes, theirs.replay_buffer.tapes
    assert tapes is not None and expected is not None and ours._n_updates > 0
    for one, other in zip(tapes.arrays(), expected.arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
    if normalized:  # which takes `dones` for an index where they are integers
        normalizers = ours.get_vec_normalize_env(), theirs.get_vec_normalize_env()
        assert normalizers[0] is not None and normalizers[1] is not None
        np.testing.assert_array_equal(normalizers[0].returns, normalizers[1].returns)
        assert normalizers[0].ret_rms.var == normalizers[1].ret_rms.var


class ZeroOrOne(gym.Wrapper):
    """An environment that gives 0 and 1 for its two flags."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, int(terminated), int(truncated), info


@pytest.mark.parametrize("in_processes", [False, True])
def test_environments_that_give_zeros_and_ones(in_processes: bool) -> None:
    makers = [lambda: ZeroOrOne(make_world(n_envs=1).envs[0])] * 2  # type: ignore[attr-defined]
    env: VecEnv = SubprocVecEnv(makers, start_method="fork") if in_processes else DummyVecEnv(makers)
    model = make_learner(env, learning_starts=0)
    model.learn(60)
    env.close()
    assert model._n_updates > 0 and model._episode_num == 2 * (model.num_timesteps // 2 // 7)
