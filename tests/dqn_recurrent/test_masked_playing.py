"""Agents that learned with action masks: predicting, evaluating, saving, exporting; and what is missing is told."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib.common.maskable.evaluation import evaluate_policy as maskable_evaluate_policy
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import MaskedEvalCallback, RecurrentDQN, evaluate_masked_policy
from sb3_attnmem.envs import ActionMaskWrapper
from sb3_attnmem.transfer import fill_from_buffer
from tests.dqn_recurrent.worlds import NVEC, SMALL, Lock, World, make_learner
from tests.ledger import N_MASKED, MaskedLedger, Place, valid_at


def ledgers(told: str = "env", n_envs: int = 2) -> DummyVecEnv:
    ends = ("terminated", "truncated")
    return DummyVecEnv([lambda i=i: Monitor(MaskedLedger(i, (5, 3), ends, told=told)) for i in range(n_envs)])


def learned(told: str = "env", **kwargs: Any) -> RecurrentDQN:
    model = make_learner(ledgers(told), "MultiInputPolicy" if told == "key" else "MlpPolicy", **kwargs)
    return model.learn(60)


@pytest.fixture(scope="module")
def model() -> RecurrentDQN:
    return learned()


def test_predict_takes_masks(model: RecurrentDQN) -> None:
    frames = np.zeros((3, 4), np.float32)
    for action in range(N_MASKED):
        masks = np.zeros((3, N_MASKED), np.int8)
        masks[:, action] = 1
        for deterministic in (True, False):
            actions, _ = model.predict(frames, deterministic=deterministic, action_masks=masks)
            assert actions.tolist() == [action] * 3
        one, _ = model.predict(frames[0], action_masks=masks[0])
        assert one.shape == () and int(one) == action
    model.exploration_rate = 1.0
    masks = np.tile(np.arange(N_MASKED) % 3 == 1, (3, 1))
    drawn = [model.predict(frames, action_masks=masks)[0] for _ in range(100)]
    assert set(np.concatenate(drawn).tolist()) == {1, 4, 7, 10}


def test_a_masked_model_that_gets_no_mask_says_so(model: RecurrentDQN) -> None:
    with pytest.raises(ValueError, match=r"action_masks=get_action_masks\(env\)"):
        evaluate_policy(model, ledgers(), 1, warn=False)
    frames = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected \(2, 11\)"):
        model.predict(frames, action_masks=np.ones((2, 3)))
    nothing = np.ones((2, N_MASKED))
    nothing[1] = 0
    with pytest.raises(ValueError, match="Environment 1 has no valid action"):
        model.predict(frames, action_masks=nothing)


@pytest.mark.parametrize("told", ["env", "info", "key"])
def test_evaluating_asks_for_masks(told: str, tmp_path: Path) -> None:
    model = learned(told)
    env = ledgers(told)
    callback = MaskedEvalCallback(env, eval_freq=10, n_eval_episodes=3, log_path=str(tmp_path), verbose=0)
    model.learn(60, callback)  # the ledger raises where an action is not valid
    assert len(callback.evaluations_results) == 3 and callback.model is model
    assert "step_wait" not in vars(env) and "reset" not in vars(env), "the environment is as it was"
    returns, _ = evaluate_masked_policy(model, env, 4, return_episode_rewards=True, deterministic=False)
    assert len(returns) == 4


def test_it_remembers_while_it_is_evaluated() -> None:
    """sb3-contrib's evaluation of maskable policies drops the state that ``predict`` returns."""
    model, states = learned(), []
    predict = model.predict

    def watched(observation: Any, state: Any = None, *args: Any, **kwargs: Any) -> Any:
        states.append(state)
        return predict(observation, state, *args, **kwargs)

    model.predict = watched  # type: ignore[method-assign]
    evaluate_masked_policy(model, ledgers(), 2)
    assert states[0] is None and all(state is not None for state in states[1:])


def test_the_evaluation_of_sb3_contrib_works_without_memory() -> None:
    model = learned(policy_kwargs=dict(memory_class="none"))
    mean, _ = maskable_evaluate_policy(model, ledgers(), 3, warn=False)  # type: ignore[arg-type]
    assert np.isfinite(mean)
    wrapped = DummyVecEnv([lambda: ActionMaskWrapper(MaskedLedger(0, told="info"))])
    wrapped.reset()
    np.testing.assert_array_equal(get_action_masks(wrapped)[0], valid_at(Place(0, 0, 0)))
    mean, _ = maskable_evaluate_policy(model, wrapped, 3, warn=False)  # type: ignore[arg-type]
    assert np.isfinite(mean)


@pytest.mark.parametrize("told", ["env", "info", "key"])
def test_it_is_saved_with_its_masks(told: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = learned(told, verbose=1)
    words = {"env": "action_masks()", "info": "info['action_mask']", "key": "the key 'action_mask'"}
    assert f"Action masks: {words[told]}" in capsys.readouterr().out.replace("the environment's ", "")
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    source = "action_mask" if told == "key" else told
    assert RecurrentDQN.load(tmp_path / "model.zip").mask_source == source
    loaded = RecurrentDQN.load(tmp_path / "model.zip", env=ledgers(told))
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    before, after = model.replay_buffer, loaded.replay_buffer
    assert before is not None and after is not None and before.tapes is not None and after.tapes is not None
    if told != "key":
        assert before.tapes.masks is not None and after.tapes.masks is not None
        np.testing.assert_array_equal(before.tapes.masks.forbidden, after.tapes.masks.forbidden)
        assert before.tapes.masks.forbidden.any()
        assert before.tapes.masks.forbidden.nbytes == before.tapes.rewards.size * 2, "a bit an action"
        assert before.tapes.nbytes > before.tapes.masks.forbidden.nbytes + before.tapes.rewards.nbytes
    loaded.learn_offline(2)
    loaded.learn(20, reset_num_timesteps=False)


def test_a_smaller_number_of_environments_keeps_the_masks(model: RecurrentDQN, tmp_path: Path) -> None:
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    other = make_learner(ledgers(n_envs=1))
    other.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    tapes = other.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None and tapes.masks is not None
    places = np.arange(tapes.ends[0])
    present = tapes.kinds[0, places] != 0
    frames = tapes.observations[0, places[present]]  # type: ignore[index]
    expected = [valid_at(Place(*frame[:3].astype(int).tolist())) for frame in frames]
    np.testing.assert_array_equal(tapes.masks.read(np.zeros(1, int), places[present]), expected)


def test_masks_come_along_with_transferred_episodes(model: RecurrentDQN) -> None:
    other = make_learner(ledgers(n_envs=3))
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    fill_from_buffer(other, model.replay_buffer)
    tapes = other.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None and tapes.masks is not None
    n_checked = 0
    for row in range(3):
        places = np.flatnonzero(tapes.kinds[row] != 0)
        masks = tapes.masks.read(np.full(1, row), places)
        for frame, mask in zip(tapes.observations[row, places], masks, strict=True):  # type: ignore[index]
            if frame[2] < (5, 3)[int(frame[1]) % 2]:  # at the end of a terminated episode there is none
                np.testing.assert_array_equal(mask, valid_at(Place(*frame[:3].astype(int).tolist())))
                n_checked += 1
    assert n_checked >= 60


def test_the_exported_policy_takes_masks(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from sb3_attnmem.export import OnnxPolicy, export_onnx

    model = learned("key", policy_kwargs=dict(memory_class="none", encoder_arch=[4]))
    path = export_onnx(model, tmp_path / "model.onnx", check=False).path
    policy = OnnxPolicy(path, epsilon=0.5, seed=0)
    rng = np.random.default_rng(0)
    frames, masks = rng.normal(size=(50, 4)).astype(np.float32), rng.random((50, N_MASKED)) < 0.3
    masks[:, 3] = True
    observation = dict(place=frames, action_mask=masks.astype(np.int8))
    ours, _ = policy.predict(observation, deterministic=True)
    np.testing.assert_array_equal(ours, model.predict(observation, deterministic=True)[0])
    np.testing.assert_array_equal(ours, policy.predict(observation, deterministic=True, action_masks=masks)[0])
    drawn, _ = policy.predict(observation)
    assert masks[np.arange(50), drawn].all() and (drawn != ours).any()
    with pytest.raises(ValueError, match="no valid action"):
        policy.predict(observation, action_masks=np.zeros((50, N_MASKED)))
    policy.mask_source = "env"  # as if the masks had come from there
    with pytest.raises(ValueError, match="Pass action_masks"):
        policy.predict(observation)


# What is wrong is told


class NoWayOut(gym.Wrapper):
    """Without a valid action at the third step of its second episode."""

    def action_masks(self) -> np.ndarray:
        at: Any = self.env.unwrapped
        return np.ones(3) * (at.n_episodes != 2 or at.n_steps != 3)


class TellsNothing(gym.Wrapper):
    def action_masks(self) -> np.ndarray:
        return np.ones(2)


def test_an_observation_without_a_valid_action_is_named() -> None:
    env = DummyVecEnv([lambda: World(env_id=0), lambda: NoWayOut(World(env_id=1))])
    assert make_learner(env).mask_source is None, "not all of them have masks"
    env = DummyVecEnv([lambda i=i: NoWayOut(World(env_id=i)) for i in range(2)])
    with pytest.raises(ValueError, match="Environment 0 has no valid action at step 3 of its episode"):
        make_learner(env).learn(60)


DICT = spaces.Dict(x=spaces.Box(-1, 1, (2,)), mask=spaces.MultiBinary(3), wide=spaces.MultiBinary(4))


@pytest.mark.parametrize(
    ("space", "value", "words"),
    [
        (DICT, "masks", ["action_masks='masks'", "'auto', 'none', 'env'", "['x', 'mask', 'wide']"]),
        (DICT, True, ["action_masks=True"]),
        (DICT, "x", ["action_masks='x'", "MultiBinary"]),
        (DICT, "wide", ["action_masks='wide'", "shape (3,)"]),
        (DICT, "env", ["no method action_masks()", "ActionMasker"]),
        (DICT, "info", ["no 'action_mask' at step 0"]),
    ],
)
def test_masks_that_are_not_there(space: spaces.Space, value: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make_learner(DummyVecEnv([lambda: World(space)]), "MultiInputPolicy", action_masks=value).learn(20)
    assert all(word in str(error.value) for word in words), error.value


def test_masks_of_several_dimensions_are_not_taken() -> None:
    class Tells(Lock):
        def action_masks(self) -> np.ndarray:
            return np.ones(sum(NVEC))

    env = DummyVecEnv([Tells])
    with pytest.warns(UserWarning, match="masks are for Discrete actions.*MultiDiscrete.*action_masks='none'"):
        assert make_learner(env).mask_source == "none"
    with pytest.raises(ValueError, match=r"action_masks='env' needs Discrete actions.*MultiDiscrete"):
        make_learner(env, action_masks="env")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_learner(env, action_masks="none")


def test_masks_of_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\); expected \(1, 3\)"):
        make_learner(DummyVecEnv([lambda: TellsNothing(World())])).learn(20)


def test_a_normalised_mask_is_refused() -> None:
    space = spaces.Dict(x=spaces.Box(-1, 1, (2,)), action_mask=spaces.Box(0, 1, (3,), np.int8))
    env = VecNormalize(DummyVecEnv([lambda: World(space)]))
    with pytest.raises(ValueError, match=r"norm_obs_keys=\['x'\]"):
        make_learner(env, "MultiInputPolicy").learn(20)


def test_masks_can_be_left_out() -> None:
    space = spaces.Dict(x=spaces.Box(-1, 1, (2,)), action_mask=spaces.Box(0, 1, (3,), np.int8))
    for value in ("none", None):
        model = make_learner(DummyVecEnv([lambda: World(space)]), "MultiInputPolicy", action_masks=value)
        model.learn(20)
        assert model.mask_source == "none"
    assert SMALL is not None
