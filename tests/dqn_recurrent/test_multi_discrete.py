"""MultiDiscrete actions: a Q-value for each combination, the environment's own shape outside."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, SequenceReplayBuffer
from sb3_attnmem.dqn_recurrent.branches import Branches
from sb3_attnmem.dqn_recurrent.heads import DuelingHead, DuelingQuantileHead
from sb3_attnmem.dqn_recurrent.targets import conservative_gaps
from sb3_attnmem.inspection.film.estimates import bar_names
from sb3_attnmem.replay import join_actions, n_actions_of, read_episodes, split_actions
from sb3_attnmem.transfer import fill_from_buffer
from tests.dqn_recurrent.worlds import NVEC, Lock, make_learner


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
    names = bar_names(model)
    assert names is not None and names[0] == "0 0 0" and names[7] == "0 1 3" and len(names) == 24


# Branches


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
@pytest.mark.parametrize("dueling", [True, False])
def test_branches_say_of_combinations_what_a_table_of_all_would(dueling: bool, model_class: type[RecurrentDQN]) -> None:
    branches, space = Branches(NVEC), spaces.MultiDiscrete(NVEC)
    values = th.randn(5, 6, sum(NVEC), generator=th.Generator().manual_seed(0))
    table = th.zeros(5, 6, 24)
    for number in range(24):
        choices = split_actions(space, np.int64(number)) + np.array([0, 3, 5])
        table[..., number] = values[..., choices].mean(dim=-1)
    assert th.equal(branches.best(values), table.argmax(dim=-1))
    actions = th.arange(30).view(5, 6) % 24
    th.testing.assert_close(branches.values_of(values, actions), table.gather(-1, actions.unsqueeze(-1)).squeeze(-1))
    th.testing.assert_close(branches.gaps(values, actions), conservative_gaps(table, actions))
    quantiles = th.randn(5, 6, 4, sum(NVEC))
    each = th.stack([branches.values_of(quantiles[:, :, i], actions) for i in range(4)], dim=-1)
    th.testing.assert_close(branches.values_of(quantiles, actions), each)
    head = DuelingHead(4, sum(NVEC), [8], th.nn.ReLU, nvec=NVEC)
    latents = th.randn(3, 4)
    parts = head(latents).split(NVEC, dim=-1)
    for part in parts:  # advantages are centred in each dimension, so that each has the value for its mean
        th.testing.assert_close(part.mean(dim=-1), head.streams(latents)[0].squeeze(-1))
    of_quantiles = DuelingQuantileHead(4, sum(NVEC), 5, [8], th.nn.ReLU, nvec=NVEC)
    for part in of_quantiles.quantiles(latents).split(NVEC, dim=-1):
        th.testing.assert_close(part.mean(dim=-1), of_quantiles.streams(latents)[0])
    kwargs = dict(memory_class="none", branching=True, dueling=dueling)
    model = make_learner(locks(), model_class=model_class, policy_kwargs=kwargs, double_q=dueling)
    model.learn(40)
    model.learn_offline(1, conservative_weight=0.1)
    assert model.q_net(th.zeros(2, 9)).shape == (2, 9)


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
def test_branches_learn_and_are_exported(model_class: type[RecurrentDQN], tmp_path: Path) -> None:
    kwargs = dict(memory_class="none", encoder_arch=[32], net_arch=[], branching=True)
    options: dict[str, Any] = dict(learning_rate=5e-3, gamma=0.0, n_steps=1, burn_in=0, batch_size=16, train_freq=1)
    model = make_learner(locks(), model_class=model_class, buffer_size=2_000, policy_kwargs=kwargs, **options).learn(
        700
    )
    mean, _ = evaluate_policy(model, locks(), 10, warn=False)
    assert mean > 3.5
    model.save(tmp_path / "model.zip")
    loaded = model_class.load(tmp_path / "model.zip")
    frames = np.random.default_rng(0).random((20, sum(NVEC))).astype(np.float32)
    actions, _ = model.predict(frames, deterministic=True)
    np.testing.assert_array_equal(actions, loaded.predict(frames, deterministic=True)[0])
    assert model.policy._predict(th.as_tensor(frames)).shape == (20, 3)
    pytest.importorskip("onnxscript")
    from sb3_attnmem.export import OnnxPolicy, export_onnx

    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx", check=False).path, epsilon=1.0, seed=0)
    np.testing.assert_array_equal(policy.predict(frames, deterministic=True)[0], actions)
    assert len(np.unique(policy.predict(np.repeat(frames, 20, axis=0))[0], axis=0)) == 24


def test_branches_number_more_combinations_than_a_table_could_hold() -> None:
    env = DummyVecEnv([lambda: Wide(spaces.MultiDiscrete([50] * 11))])
    env.envs[0].step = lambda action: (np.zeros(9, np.float32), 0.0, False, False, {})  # type: ignore[method-assign]
    model = make_learner(env, policy_kwargs=dict(memory_class="none", branching=True))
    model.learn(30)
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert model.replay_buffer.tapes.actions.dtype == np.uint64
    stored = model.replay_buffer.tapes.actions[0, :20].astype(np.int64)
    assert (split_actions(model.action_space, stored).max(axis=0) > 20).all()


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Discrete(3), ["branching=True", "MultiDiscrete", "Discrete(3)"]),
        (spaces.MultiDiscrete([1_000] * 30), ["64 bits"]),
    ],
)
def test_where_branches_do_not_fit(space: spaces.Space, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        RecurrentDQN("MlpPolicy", DummyVecEnv([lambda: Wide(space)]), policy_kwargs=dict(branching=True))
    assert all(word in str(error.value) for word in words), error.value


class Wide(Lock):
    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        self.action_space = space


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.MultiDiscrete([17, 17, 17]), ["4,913 combinations", "4,096", "branching=True"]),
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
