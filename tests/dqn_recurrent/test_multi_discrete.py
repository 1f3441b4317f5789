"""MultiDiscrete actions: a Q-value for each combination, the environment's own shape outside."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.inspection.film.episodes import action_names
from sb3_attnmem.replay import join_actions, n_actions_of, read_episodes, split_actions
from sb3_attnmem.transfer import fill_from_buffer
from tests.dqn_recurrent.worlds import make_learner

NVEC = [3, 2, 4]


class Lock(gym.Env):
    """The observation is the combination; 1 for a step with all of it, in part for a part. Episodes of five steps."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 1, (sum(NVEC),), np.float32)
        self.action_space = spaces.MultiDiscrete(NVEC)

    def _observation(self) -> np.ndarray:
        self.wanted = self.np_random.integers(NVEC)
        return np.concatenate([np.eye(n)[i] for n, i in zip(NVEC, self.wanted, strict=True)]).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        reward = float((action == self.wanted).mean())
        self.t += 1
        return self._observation(), reward, False, self.t == 5, {}


def locks(n_envs: int = 2) -> DummyVecEnv:
    return DummyVecEnv([Lock for _ in range(n_envs)])


def test_numbers_and_combinations_are_inverse() -> None:
    space = spaces.MultiDiscrete(NVEC)
    numbers = np.arange(24)
    combinations = split_actions(space, numbers)
    assert n_actions_of(space) == 24 and space.contains(combinations[5]) and len(np.unique(combinations, axis=0)) == 24
    np.testing.assert_array_equal(join_actions(space, combinations), numbers)
    np.testing.assert_array_equal(combinations[23], [2, 1, 3])
    assert split_actions(space, np.int64(7)).shape == (3,)
    with pytest.raises(ValueError, match=r"integers from 0 to \[2, 1, 3\]"):
        join_actions(space, [[0, 2, 0]])


@pytest.fixture(scope="module")
def model() -> RecurrentDQN:
    kwargs = dict(memory_class="none", encoder_arch=[32], net_arch=[])
    options: dict[str, Any] = dict(learning_rate=5e-3, gamma=0.0, n_steps=1, burn_in=0, batch_size=16, train_freq=1)
    return make_learner(locks(), buffer_size=2_000, policy_kwargs=kwargs, **options).learn(1_000)


def test_it_learns_what_the_environment_wants(model: RecurrentDQN) -> None:
    mean, _ = evaluate_policy(model, locks(), 10, warn=False)
    assert mean > 3.5  # of 5; the right combination by chance is 1 of 24, and gives 5 * (1/3 + 1/2 + 1/4) / 3 = 1.8


def test_actions_have_the_shape_of_the_environment(model: RecurrentDQN) -> None:
    frames = np.zeros((4, sum(NVEC)), np.float32)
    space = model.action_space
    for deterministic in (True, False):
        model.exploration_rate = 1.0
        batch, _ = model.predict(frames, deterministic=deterministic)
        one, _ = model.predict(frames[0], deterministic=deterministic)
        assert batch.shape == (4, 3) and one.shape == (3,) and space.contains(one) and batch.dtype == space.dtype
    drawn = np.concatenate([model.predict(frames)[0] for _ in range(100)])
    assert len(np.unique(drawn, axis=0)) == 24
    assert model.policy.predict(frames)[0].shape == (4, 3)
    assert model.policy._predict(model.policy.obs_to_tensor(frames)[0]).shape == (4, 3)


def test_a_combination_is_stored_as_one_number(model: RecurrentDQN, tmp_path: Path) -> None:
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert model.replay_buffer.tapes.actions.dtype == np.uint8
    batch = model.replay_buffer.sample(4)
    assert batch.actions.dim() == 2 and 4 < int(batch.actions.max()) < 24
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = RecurrentDQN.load(tmp_path / "model.zip", env=locks())
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    frames = np.eye(9, dtype=np.float32)
    ours, theirs = (agent.predict(frames, deterministic=True)[0] for agent in (model, loaded))
    np.testing.assert_array_equal(ours, theirs)
    loaded.learn_offline(1)
    loaded.learn(20, reset_num_timesteps=False)


def test_transitions_from_elsewhere(model: RecurrentDQN) -> None:
    space = model.action_space
    buffer = SequenceReplayBuffer(100, model.observation_space, space, n_envs=1, sequence_length=4)
    frame = np.zeros((1, sum(NVEC)), np.float32)
    taken = [[0, 1, 3], [2, 0, 1]]
    for action in taken:
        buffer.add(frame, frame, np.array([action]), np.zeros(1), np.zeros(1), [{}])
    (episode,) = read_episodes(buffer)
    np.testing.assert_array_equal(split_actions(space, episode.actions), taken)
    with pytest.raises(ValueError, match="action="):
        buffer.add(frame, frame, np.array([[0, 2, 0]]), np.zeros(1), np.zeros(1), [{}])
    other = make_learner(locks(), policy_kwargs=dict(memory_class="none"))
    assert fill_from_buffer(other, buffer) == 2


def test_the_exported_policy_acts_as_the_model_does(model: RecurrentDQN, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from sb3_attnmem.export import OnnxPolicy, export_onnx

    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx", check=False).path)
    frames = np.random.default_rng(0).random((20, sum(NVEC))).astype(np.float32)
    ours, theirs = policy.predict(frames, deterministic=True)[0], model.predict(frames, deterministic=True)[0]
    np.testing.assert_array_equal(ours, theirs)
    assert policy.predict(frames[0])[0].shape == (3,)


def test_combinations_have_names(model: RecurrentDQN) -> None:
    names = action_names(locks(), 24)
    assert names[0] == "0 0 0" and names[7] == "0 1 3" and len(names) == 24


class Wide(Lock):
    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        self.action_space = space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.MultiDiscrete([17, 17, 17]), ["4,913 combinations", "4,096"]),
        (spaces.MultiDiscrete([1_000] * 30), ["combinations"]),
        (spaces.MultiDiscrete([[2, 2], [2, 2]]), ["MultiDiscrete of one axis"]),
        (spaces.MultiDiscrete([2, 2], start=[1, 0]), ["starts at 0"]),
        (spaces.MultiBinary(3), ["MultiDiscrete of one axis"]),
        (spaces.Box(-1, 1, (2,)), ["MultiDiscrete of one axis"]),
    ],
)
def test_other_spaces_are_refused(space: spaces.Space, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make_learner(DummyVecEnv([lambda: Wide(space)]))
    assert all(word in str(error.value) for word in words), error.value


def test_stock_dqn_refuses_them_as_before() -> None:
    with pytest.raises(AssertionError, match="only supports"):
        DQN("MlpPolicy", locks())
