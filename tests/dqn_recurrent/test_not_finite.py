"""Numbers that are none: named before they are stored, normalised or learned from."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from tests.ledger import LSTM, make_env, make_model


class Poisoned(gym.Env):
    """
    Episodes of five steps, of which the third holds a bad number.

    :param where: "first" and "reset" observation, one in the "middle", "terminated" or "truncated": the last, "reward"
    :param bad: the number
    """

    def __init__(self, where: str, bad: float, as_dict: bool) -> None:
        box = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.observation_space = spaces.Dict(whiskers=box) if as_dict else box
        self.action_space = spaces.Discrete(2)
        self.where, self.bad, self.episode = where, bad, 2 if where == "first" else -1

    def _observation(self, poisoned: bool) -> Any:
        observation = np.array([1, self.bad if poisoned and self.episode % 4 == 3 else 1, 1], np.float32)
        return {"whiskers": observation} if isinstance(self.observation_space, spaces.Dict) else observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.episode += 1
        self.n_steps = 0
        return self._observation(self.where in ("first", "reset")), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.n_steps += 1
        last, truncates = self.n_steps == 5, self.where == "truncated"
        observation = self._observation(last if self.where in ("terminated", "truncated") else self.where == "middle")
        reward = self.bad if self.where == "reward" and self.episode == 3 else 0.0
        return observation, reward, last and not truncates, last and truncates, {}


@pytest.mark.parametrize("where", ["first", "reset", "middle", "terminated", "truncated", "reward"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_numbers_that_are_none_are_named(where: str, bad: float, as_dict: bool, normalized: bool) -> None:
    env: VecEnv = DummyVecEnv([lambda: Poisoned("none", bad, as_dict), lambda: Poisoned(where, bad, as_dict)])
    if normalized:
        env = VecNormalize(env)
    model = RecurrentDQN(
        "MultiInputPolicy" if as_dict else "MlpPolicy", env, learning_starts=0, train_freq=1, batch_size=2
    )
    name = {"reward": "reward", "first": "first observation", "terminated": "final observation"}.get(
        where, "observation"
    )
    with pytest.raises(ValueError, match=rf"{name}.* of environment\(s\) \[1\] is not finite.*({bad})") as error:
        model.learn(200)
    assert not as_dict or where == "reward" or "'whiskers'" in str(error.value)
    assert all(parameter.isfinite().all() for parameter in model.policy.parameters())
    if model.replay_buffer is not None and model.replay_buffer.tapes is not None:
        for array in model.replay_buffer.tapes.arrays():
            assert np.isfinite(array).all(), "what is not finite is not stored either"
    if isinstance(env, VecNormalize):  # whose statistics would never forget it
        statistics = [env.ret_rms, *(env.obs_rms.values() if isinstance(env.obs_rms, dict) else [env.obs_rms])]
        assert all(np.isfinite(each.mean).all() and np.isfinite(each.var).all() for each in statistics)
        assert np.isfinite(env.returns).all()
    if where == "first":  # the next reset is a new chance
        model.learn(20, reset_num_timesteps=False)


def test_a_loss_that_is_none_leaves_the_weights_alone() -> None:
    env = make_env()
    model = make_model(env, policy_kwargs=LSTM, learning_starts=0, train_freq=1)
    model.learn(30)
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    model.replay_buffer.tapes.rewards[:] = np.nan
    weights = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    moments = [tensor.clone() for state in model.policy.optimizer.state.values() for tensor in state.values()]
    n_updates = model._n_updates
    with pytest.raises(ValueError, match=rf"loss became nan after {n_updates} updates; the weights are as they were"):
        model.train(3, 8)
    for name, tensor in model.policy.state_dict().items():
        assert th.equal(tensor, weights[name]), name
    after = [tensor for state in model.policy.optimizer.state.values() for tensor in state.values()]
    assert all(map(th.equal, moments, after)) and model._n_updates == n_updates
