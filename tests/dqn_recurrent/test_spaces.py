"""Every policy name on every observation space: what is replayed is what was acted on."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_attnmem import RecurrentDQN
from tests.dqn_recurrent.worlds import SMALL, SPACES, make_learner, make_world

CASES = [
    *[("MlpPolicy", name) for name in SPACES if name != "dict"],
    ("MlpLstmPolicy", "vector"),
    ("MlpLstmPolicy", "discrete"),
    ("CnnPolicy", "image"),
    ("CnnLstmPolicy", "image"),
    ("MultiInputPolicy", "dict"),
    ("MultiInputLstmPolicy", "dict"),
]


def check_replay(model: RecurrentDQN, n_steps: int = 40) -> None:
    """
    Without training, the Q-values of replayed windows are those that the agent acted with: observations came through
    storing, normalising and preprocessing unharmed. Rewards name the transitions.
    """
    env = model.get_env()
    assert env is not None and model.replay_buffer is not None
    acted: dict[int, np.ndarray] = {}
    steps: list[np.ndarray] = []
    step = model.q_net.step

    def watched(*args: Any) -> Any:
        q_values, state = step(*args)
        steps.append(q_values.numpy())
        return q_values, state

    model.q_net.step = watched  # type: ignore[method-assign]
    model.learn(n_steps * env.num_envs)
    for number, q_values in enumerate(steps):
        acted.update({1000 * row + number: q_values[row] for row in range(env.num_envs)})
    batch = model.replay_buffer.sample(20, model.get_vec_normalize_env())
    with th.no_grad():
        q_replayed = model.q_net.unroll(batch.window, model.q_net.burn_in(batch.burn_in, batch.state))
    for row, column in batch.learning.nonzero().tolist():
        expected = acted[round(batch.rewards[row, column].item())]
        np.testing.assert_allclose(q_replayed[row, column], expected, rtol=1e-4, atol=1e-5)
    assert batch.learning.sum() > 20


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_replayed_is_what_was_acted_on(policy: str, name: str) -> None:
    check_replay(make_learner(make_world(name), policy, learning_starts=10**6))


def test_replayed_is_what_was_acted_on_with_stacked_frames() -> None:
    env = VecFrameStack(make_world("image"), 4)
    model = make_learner(env, "CnnPolicy", learning_starts=10**6)
    assert model.observation_space.shape == (12, 36, 36)
    check_replay(model, n_steps=24)


@pytest.mark.parametrize(("name", "keys"), [("vector", None), ("matrix", None), ("dict", ["vector"])])
def test_replayed_is_what_was_acted_on_with_normalisation(name: str, keys: list[str] | None) -> None:
    """With frozen statistics; they were gathered on other observations, so that they matter."""
    world = make_world(name)
    env = VecNormalize(VecTransposeImage(world) if name == "dict" else world, norm_obs_keys=keys, norm_reward=False)
    env.reset()
    for _ in range(20):
        env.step(np.zeros(2, int))
    for each in env.unwrapped.envs:  # type: ignore[attr-defined]
        each.count = 1000 * (each.count // 1000)
    env.training = False
    check_replay(make_learner(env, "MultiInputPolicy" if name == "dict" else "MlpPolicy", learning_starts=10**6))


@pytest.mark.parametrize(("policy", "name"), [("CnnPolicy", "image"), ("MultiInputPolicy", "dict")])
def test_normalisation_inside_a_transposition_is_refused(policy: str, name: str) -> None:
    """SB3 would hand over originals of another shape. Predicting works, so that such a model can still be enjoyed."""
    env = VecNormalize(make_world(name), norm_obs=False)
    model = make_learner(env, policy)
    model.predict(env.reset())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"VecNormalize sees .*VecNormalize\(VecTransposeImage\(env\)\)"):
        model.learn(8)
    model = make_learner(VecNormalize(VecTransposeImage(make_world(name)), norm_obs=False), policy)
    model.learn(20)


def test_a_wrong_preprocessing_is_caught() -> None:
    """Planted: images are replayed upside down."""
    model = make_learner(make_world("image"), "CnnPolicy", learning_starts=10**6)
    extract = model.q_net.features_extractor.forward
    model.q_net.features_extractor.forward = lambda x: extract(x if len(x) == 2 else x.flip(2))  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        check_replay(model)


@pytest.mark.parametrize(("policy", "name"), CASES)
def test_learns_and_predicts(policy: str, name: str) -> None:
    env = make_world(name)
    model = make_learner(env, policy, policy_kwargs=dict(memory_kwargs=dict(hidden_size=8, num_layers=2)))
    before = {key: tensor.clone() for key, tensor in model.q_net.state_dict().items()}
    model.learn(48)
    assert any(not th.equal(tensor, before[key]) for key, tensor in model.q_net.state_dict().items())
    check_predict(model, env)


def check_predict(model: RecurrentDQN, env: VecEnv) -> None:
    """Single and vectorised observations, with and without state; rows do not mix."""
    observations = env.reset()
    many, state = model.predict(observations, deterministic=True)  # type: ignore[arg-type]
    assert many.shape == (2,) and many.dtype.kind == "i"
    assert isinstance(state, tuple) and [array.shape for array in state] == [(2, 2, 8), (2, 2, 8)]
    assert all(isinstance(array, np.ndarray) and np.isfinite(array).all() for array in state)
    starts = np.array([False, True])
    second, after = model.predict(observations, state, starts, deterministic=True)  # type: ignore[arg-type]
    assert after is not None
    for row in range(2):
        one = {k: v[row] for k, v in observations.items()} if isinstance(observations, dict) else observations[row]
        action, first_alone = model.predict(one, deterministic=True)  # type: ignore[arg-type]
        assert action.shape == () and action == many[row] and model.action_space.contains(action)
        assert first_alone is not None and [array.shape for array in first_alone] == [(1, 2, 8), (1, 2, 8)]
        action, alone = model.predict(one, first_alone, starts[row : row + 1], deterministic=True)  # type: ignore[arg-type]
        assert alone is not None and action == second[row]
        for mine, theirs in zip(alone, after, strict=True):
            np.testing.assert_allclose(mine[0], theirs[row], rtol=1e-4, atol=1e-6)
        if starts[row]:  # the same as a first step
            for mine, theirs in zip(alone, first_alone, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
        else:
            assert not np.allclose(alone[0], first_alone[0])
        for deterministic in (False, True):
            action, _ = model.predict(one, first_alone, deterministic=deterministic)  # type: ignore[arg-type]
            assert action.shape == ()


def test_images_as_the_environment_gives_them_are_transposed_for_predict() -> None:
    env = make_world("image")
    model = make_learner(env, "CnnPolicy")
    assert model.observation_space.shape == (3, 36, 36)
    observations = env.reset()
    actions, state = model.predict(observations, deterministic=True)  # type: ignore[arg-type]
    transposed = np.transpose(observations, (0, 3, 1, 2))  # type: ignore[arg-type]
    again, state_again = model.predict(transposed, episode_start=np.ones(2, bool), deterministic=True)
    assert np.array_equal(actions, again) and state is not None and state_again is not None
    assert np.array_equal(state[0], state_again[0])


def test_the_extractor_follows_policy_and_space() -> None:
    """One class serves all names, and each means what it means in SB3."""
    image = make_world("image")
    assert isinstance(make_learner(image, "CnnPolicy").q_net.features_extractor, NatureCNN)
    assert isinstance(make_learner(image, "MlpPolicy").q_net.features_extractor, FlattenExtractor)
    own = dict(SMALL, features_extractor_class=FlattenExtractor)
    assert isinstance(make_learner(image, "CnnPolicy", policy_kwargs=own).q_net.features_extractor, FlattenExtractor)
    unit = spaces.Box(0, 1, (3, 36, 36), np.float32)
    SPACES["unit image"] = unit
    try:
        kwargs = dict(SMALL, normalize_images=False)
        model = make_learner(make_world("unit image"), "CnnPolicy", policy_kwargs=kwargs, learning_starts=10**6)
        assert isinstance(model.q_net.features_extractor, NatureCNN)
        check_replay(model, n_steps=20)
    finally:
        del SPACES["unit image"]


def test_observations_are_stored_in_their_own_types() -> None:
    model = make_learner(make_world("dict"), "MultiInputPolicy")
    model.learn(20)
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    stored = model.replay_buffer.tapes.observations
    assert isinstance(stored, dict)
    dtypes = {key: array.dtype for key, array in stored.items()}
    assert dtypes == {key: space.dtype for key, space in model.observation_space.spaces.items()}  # type: ignore[attr-defined]
    assert model.replay_buffer.tapes.actions.dtype == np.uint8
