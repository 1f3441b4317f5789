"""``normalize: true`` normalises what can be, and says of the rest what is really wrong."""

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.zoo import CONFIGS, register
from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.normalization import normalizable
from sb3_attnmem.zoo.tune.trials import TrialManager

register()
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)
ONE_HOT = spaces.Box(0, 1, (5,), np.int64)
BYTES = spaces.Box(0, 255, (4,), np.uint8)
OFF = dict(norm_obs=False)


@pytest.mark.parametrize(
    ("space", "options"),
    [
        (VECTOR, {}),
        (BYTES, {}),
        (spaces.Box(0.0, 1.0, (3,)), {}),
        (spaces.Box(0, 10, (7, 7, 3), np.uint8), {}),
        (IMAGE, OFF),
        (ONE_HOT, OFF),
        (spaces.Box(0, 255, (7, 7, 20), np.uint8), OFF),
        (spaces.Discrete(4), OFF),
        (spaces.MultiDiscrete([3, 2]), OFF),
        (spaces.MultiBinary(3), OFF),
        (spaces.Tuple([VECTOR]), OFF),
        (spaces.Dict(a=VECTOR, b=BYTES), {}),
        (spaces.Dict(a=VECTOR, b=IMAGE, c=spaces.Discrete(3)), dict(norm_obs_keys=["a"])),
        (spaces.Dict(b=IMAGE, c=ONE_HOT), OFF),
    ],
)
def test_vectors_of_numbers_are_normalised(space: spaces.Space, options: dict[str, Any]) -> None:
    assert normalizable(space, {}) == options
    assert normalizable(space, dict(gamma=0.5)) == dict(options, gamma=0.5)


def test_what_the_settings_say_is_taken_as_it_is() -> None:
    space = spaces.Dict(a=VECTOR, b=IMAGE)
    assert normalizable(space, dict(norm_obs_keys=["b"])) == dict(norm_obs_keys=["b"])
    assert normalizable(spaces.Discrete(3), OFF) == OFF


class Noise(gym.Env[Any, int]):
    """Observations of any space."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space = space
        self.n = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n = 0
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n += 1
        return self.observation_space.sample(), 1.0, self.n % 7 == 0, False, {}


def manager_for(env_id: str, algo: str, folder: Path, config: str, **options: Any) -> TrialManager:
    small: dict[str, Any] = dict(n_envs=2) if algo == "ppo" else dict(n_envs=2, buffer_size=500, learning_starts=20)
    return TrialManager(
        argparse.Namespace(env_kwargs=None),
        algo,
        env_id,
        str(folder),
        n_timesteps=40,
        config=config,
        hyperparams=small,
        verbose=0,
        log_interval=-1,
        eval_freq=20,
        n_eval_episodes=1,
        **options,
    )


@pytest.mark.parametrize("name", ["Discrete", "MultiDiscrete", "Dict", "Image"])
def test_normalize_trains_on_any_observations(name: str, tmp_path: Path) -> None:
    spaces_by_name = dict(
        Discrete=spaces.Discrete(5),
        MultiDiscrete=spaces.MultiDiscrete([3, 2]),
        Dict=spaces.Dict(vector=VECTOR, place=spaces.Discrete(4)),
        Image=IMAGE,
    )
    env_id = f"Noise{name}-v0"
    gym.register(env_id, entry_point=Noise, kwargs=dict(space=spaces_by_name[name]))
    config = tmp_path / "config.yml"
    config.write_text(
        "default: {n_envs: 8, normalize: true, n_timesteps: 40, policy: MlpLstmPolicy, buffer_size: 1000}",
        encoding="utf-8",
    )
    manager = manager_for(env_id, "rdqn", tmp_path, str(config))
    if name == "Dict":
        manager.custom_hyperparams = {**(manager.custom_hyperparams or {}), "policy": "MultiInputLstmPolicy"}
    try:
        experiment = manager.setup_experiment()
        assert experiment is not None
        manager.learn(experiment[0])
        normalizer = experiment[0].get_vec_normalize_env()
        assert isinstance(normalizer, VecNormalize) and normalizer.norm_reward
        assert normalizer.norm_obs == (name == "Dict")
        manager.save_trained_model(experiment[0])
        words = ["enjoy", "--algo", "rdqn", "--env", env_id, "-f", str(tmp_path), "--no-render", "-n", "10"]
        assert main(words) == 0
    finally:
        gym.registry.pop(env_id)


def test_stock_algorithms_too(tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    settings = "{n_timesteps: 40, policy: MlpPolicy, normalize: true, n_steps: 16, batch_size: 16}"
    config.write_text(f"default: {settings}", encoding="utf-8")
    manager = manager_for("FrozenLake-v1", "ppo", tmp_path, str(config))
    experiment = manager.setup_experiment()
    assert experiment is not None
    manager.learn(experiment[0])


def test_the_real_reason_is_told(tmp_path: Path) -> None:
    gym.register("NoiseTuple-v0", entry_point=Noise, kwargs=dict(space=spaces.Tuple([VECTOR])))
    try:
        with pytest.raises(Exception) as error:
            manager_for("NoiseTuple-v0", "rdqn", tmp_path, str(CONFIGS["rdqn"])).setup_experiment()
    finally:
        gym.registry.pop("NoiseTuple-v0")
    assert "VecNormalize" not in str(error.value) and "Tuple" in str(error.value)
