"""Stable-Baselines3's own tools around RecurrentDQN: evaluation, callbacks, wrappers, loggers, schedules."""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnNoModelImprovement,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize, VecTransposeImage

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs.tmaze import DOWN, RIGHT, UP, PassiveTMaze
from tests.dqn_recurrent.worlds import SMALL, SPACES, World, make_learner, make_world
from tests.toys import SumMemory

# Evaluation


def remembers_the_cue() -> tuple[RecurrentDQN, Any]:
    """:return: an agent that solves the T-Maze by hand-set weights, if and only if its memory is kept and reset"""
    env = make_vec_env(lambda: Monitor(PassiveTMaze(corridor_length=4)), n_envs=3, seed=3)
    kwargs = dict(memory_class=SumMemory, encoder_arch=[], net_arch=[], dueling=False, memory_fusion="none")
    model = make_learner(env, policy_kwargs=kwargs, buffer_size=1000)
    # The sum of all observations is (at the junction, cue): right along the corridor, up or down at its end
    head = model.q_net.q_net[0]  # type: ignore[index]
    assert isinstance(head, th.nn.Linear)
    with th.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[RIGHT] = 2.0
        for move, sign in ((UP, 1.0), (DOWN, -1.0)):
            head.weight[move] = th.tensor([4.0, sign])
    return model, env


def test_evaluate_policy_keeps_and_resets_the_memory() -> None:
    """The cue is seen at the first step only, and a cue of the episode before would mislead."""
    model, env = remembers_the_cue()
    returns, lengths = evaluate_policy(model, env, n_eval_episodes=30, return_episode_rewards=True)
    assert returns == [1.0] * 30 and lengths == [5] * 30


def test_evaluation_without_resets_is_caught() -> None:
    """Planted: ``episode_start`` is ignored, so that cues of several episodes add up."""
    model, env = remembers_the_cue()
    predict = model.predict
    model.predict = lambda obs, state=None, episode_start=None, deterministic=False: predict(  # type: ignore[method-assign, assignment]
        obs, state, np.zeros(3, bool), deterministic
    )
    returns, _ = evaluate_policy(model, env, n_eval_episodes=30, return_episode_rewards=True, warn=False)
    assert np.mean(returns) < 1.0


def test_eval_callback_saves_the_best_model_and_stops_without_improvement(tmp_path: Path) -> None:
    model, env = remembers_the_cue()
    stop = StopTrainingOnNoModelImprovement(max_no_improvement_evals=2, min_evals=1, verbose=0)
    callback = EvalCallback(
        make_vec_env(lambda: PassiveTMaze(corridor_length=4), seed=5),
        callback_after_eval=stop,
        n_eval_episodes=5,
        eval_freq=10,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    model.learning_starts = 10**6  # the weights stay, so no evaluation is better than the first
    model.learn(3000, callback)
    assert callback.best_mean_reward == 1.0
    assert len(callback.evaluations_timesteps) == 4 and model.num_timesteps == 4 * 10 * 3
    best = RecurrentDQN.load(tmp_path / "best_model")
    returns, _ = evaluate_policy(best, env, n_eval_episodes=6, return_episode_rewards=True)
    assert returns == [1.0] * 6


@pytest.mark.parametrize("normalize", [False, True])
def test_checkpoints_with_replay_buffer(normalize: bool, tmp_path: Path) -> None:
    env = VecNormalize(make_world()) if normalize else make_world()
    model = make_learner(env)
    callback = CheckpointCallback(
        save_freq=15, save_path=str(tmp_path), save_replay_buffer=True, save_vecnormalize=normalize
    )
    model.learn(80, callback)
    loaded = RecurrentDQN.load(tmp_path / "rl_model_60_steps", env=env)
    loaded.load_replay_buffer(tmp_path / "rl_model_replay_buffer_60_steps.pkl")
    assert loaded.replay_buffer is not None
    assert loaded.replay_buffer.size() == 29, "a callback runs before the step it follows is stored"
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.num_timesteps == 92 and loaded._n_updates > 0


# Wrappers


@pytest.mark.parametrize("name", ["vector", "dict"])
def test_samples_are_normalised_as_the_wrapper_does_now(name: str) -> None:
    """With statistics that move on: what is stored is the original, samples follow the present statistics."""
    world = make_world(name)
    keys = ["vector"] if name == "dict" else None
    env = VecNormalize(VecTransposeImage(world) if name == "dict" else world, norm_obs_keys=keys)
    model = make_learner(env, "MultiInputPolicy" if name == "dict" else "MlpPolicy")
    model.learn(60)
    assert model.replay_buffer is not None and model._n_updates > 0
    model.replay_buffer.seed(1)
    plain = model.replay_buffer.sample(8)
    model.replay_buffer.seed(1)
    normalised = model.replay_buffer.sample(8, env)

    def arrays(observations: Any) -> dict[str, np.ndarray]:
        as_dict = observations if isinstance(observations, dict) else {"vector": observations}
        return {key: tensor.numpy() for key, tensor in as_dict.items()}

    original, changed = arrays(plain.window.observations), arrays(normalised.window.observations)
    space = SPACES["vector"]
    assert space.low.max() <= original["vector"].min() and original["vector"].max() <= space.high.min()  # type: ignore[attr-defined]
    expected = env.normalize_obs(original if name == "dict" else original["vector"])
    for key, array in changed.items():
        np.testing.assert_allclose(array, expected[key] if isinstance(expected, dict) else expected, rtol=1e-5)
        assert np.array_equal(array, original[key]) == (key != "vector")
    np.testing.assert_allclose(normalised.rewards, env.normalize_reward(plain.rewards.numpy()), rtol=1e-5)


def test_the_true_final_observation_is_stored_unnormalised() -> None:
    env = VecNormalize(make_world())
    model = make_learner(env, learning_starts=10**6)
    finals: list[np.ndarray] = []
    for world in env.unwrapped.envs:  # type: ignore[attr-defined]
        step = world.step

        def watched(action: int, step: Any = step) -> Any:
            result = step(action)
            if result[3]:
                finals.append(result[0])
            return result

        world.step = watched
    model.learn(80)
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None and len(finals) >= 4
    stored = model.replay_buffer.tapes.observations
    assert isinstance(stored, np.ndarray)
    for final in finals:
        assert np.isclose(stored, final, atol=1e-5).all(axis=-1).any()


def test_subprocess_environments() -> None:
    makers = [lambda i=i: World(SPACES["vector"], i) for i in range(2)]
    policies = []
    for vec_env in (SubprocVecEnv(makers, start_method="fork"), DummyVecEnv(makers)):
        model = make_learner(vec_env).learn(60)
        policies.append(model.policy.state_dict())
        vec_env.close()
    for key, tensor in policies[0].items():
        assert th.equal(tensor, policies[1][key]), "the same as without processes"


def test_a_bare_environment_and_a_registered_id() -> None:
    make_learner(World()).learn(30)
    RecurrentDQN("MlpPolicy", "CartPole-v1", learning_starts=10, buffer_size=500, policy_kwargs=SMALL).learn(30)


# Progress and logs


def test_progress_bar(capfd: pytest.CaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm.rich calls itself experimental
        make_learner().learn(48, progress_bar=True)
    captured = capfd.readouterr()
    assert "48/48" in captured.out + captured.err


KEYS = {
    *("rollout/exploration_rate", "time/total_timesteps", "time/fps"),
    *("train/loss", "train/td_error", "train/q_mean", "train/grad_norm", "train/learning_rate"),
}


def test_loggers(tmp_path: Path) -> None:
    model = make_learner(make_world())
    model.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    model.learn(80, log_interval=2)
    with open(tmp_path / "progress.csv") as file:
        lines = list(csv.DictReader(file))
    assert lines and KEYS <= lines[-1].keys() and {"train/n_updates", "time/episodes"} <= lines[-1].keys()
    assert all(np.isfinite(float(lines[-1][key])) for key in KEYS)
    assert 0 < float(lines[-1]["train/n_updates"]) <= model._n_updates

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) >= KEYS - {"time/total_timesteps"}  # its x axis


def test_tensorboard_log_argument(tmp_path: Path) -> None:
    make_learner(tensorboard_log=str(tmp_path)).learn(40, log_interval=1)
    assert list((tmp_path / "RecurrentDQN_1").glob("events*"))


def test_the_replay_buffers_size_is_told_once(capsys: pytest.CaptureFixture) -> None:
    model = make_learner(make_world("image"), "CnnPolicy", verbose=1, buffer_size=1000)
    assert "replay buffer" not in capsys.readouterr().out, "nothing is allocated yet"
    model.learn(4)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "replay buffer" in line]
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert f"{model.replay_buffer.tapes.nbytes / 1e6:,.0f} MB" in line and "1,000 transitions" in line
    model.learn(4)
    assert "replay buffer" not in capsys.readouterr().out
    make_learner(verbose=0).learn(4)
    assert "replay buffer" not in capsys.readouterr().out


def test_a_replay_buffer_can_be_deleted_and_loaded(tmp_path: Path) -> None:
    model = make_learner()
    model.learn(30)
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is not None
    size = model.replay_buffer.size()
    del model.replay_buffer
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match="replay buffer was deleted: call load_replay_buffer"):
        model.learn(30)
    with pytest.raises(FileNotFoundError):
        model.load_replay_buffer(tmp_path / "nothing.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is not None and model.replay_buffer.size() == size
    model.learn(30, reset_num_timesteps=False)
