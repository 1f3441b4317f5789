"""What films and reports share: who may be looked at, and one way to play, whatever the environments are like."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecTransposeImage

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import AttentionCombinedExtractor, EntityAttention, SpatialAttentionCNN
from sb3_attnmem.inspection.common import check_env, play
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, film_episodes
from sb3_attnmem.inspection.memory.playing import FullMemory, Results, play_episodes
from tests.inspection.film_toys import ENTITIES, IMAGE, N_STEPS, Noise, make

SET = spaces.Box(-1, 1, ENTITIES.shape, np.float64)


class Reusing(DummyVecEnv):
    """Hands the same arrays out at every step, and says 0 and 1 at the ends of episodes."""

    def reset(self) -> Any:
        self.shared = [super().reset(), np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.uint8)]
        return self.shared[0]

    def step_wait(self) -> Any:
        *arrays, infos = super().step_wait()
        for shared, array in zip(self.shared, arrays, strict=True):
            shared[...] = array
        return *self.shared, infos


@pytest.mark.parametrize("space, extractor", [(IMAGE, SpatialAttentionCNN), (SET, EntityAttention)])
def test_environments_that_reuse_their_arrays(space: spaces.Space, extractor: type) -> None:
    policy = "CnnPolicy" if space is IMAGE else "MlpPolicy"
    model = make(RecurrentDQN, Noise(space), extractor, policy)
    model.policy.set_training_mode(False)

    def looked_at(kind: type[DummyVecEnv]) -> tuple[FilmedEpisodes, Results]:
        env = check_env(model, kind([lambda: Noise(space)] * 2))
        filmed = film_episodes(model, env, None, 6, "max", 2, 50, 0, True, lambda: None)
        return filmed, play_episodes(model, env, FullMemory(model.q_net), 3, 0, 50, lambda n: None, keep=True)

    (filmed, results), (expected_film, expected) = looked_at(Reusing), looked_at(DummyVecEnv)
    assert len(filmed.steps) == 2 * N_STEPS and filmed.returns == expected_film.returns == [15.0, 15.0]
    assert [step.starts for step in filmed.steps] == [t % N_STEPS == 0 for t in range(2 * N_STEPS)]
    for step, other in zip(filmed.steps, expected_film.steps, strict=True):
        np.testing.assert_equal((step.seen.pictures, step.seen.table), (other.seen.pictures, other.seen.table))
    np.testing.assert_array_equal(results.returns, expected.returns)
    for episode, other_episode in zip(results.episodes, expected.episodes, strict=True):
        np.testing.assert_equal(episode.observations, other_episode.observations)
        np.testing.assert_equal(episode[1:5], other_episode[1:5])


def test_a_monitor_says_when_a_game_is_over_and_what_it_brought() -> None:
    env = DummyVecEnv([lambda: Monitor(Noise())])
    steps = play(env, lambda observations, starts: (np.zeros(1, int), None), seed=0)
    played = [next(steps) for _ in range(N_STEPS)]
    assert [bool(step.over[0]) for step in played] == [False] * (N_STEPS - 1) + [True]
    assert played[-1].monitored.tolist() == [15.0] and np.isnan(played[0].monitored).all()
    assert next(steps).starts.tolist() == [True]


def test_images_are_transposed_as_in_training() -> None:
    model = make(DQN, Noise(), SpatialAttentionCNN)
    for env in (Noise(), DummyVecEnv([Noise]), VecTransposeImage(DummyVecEnv([Noise]))):
        assert check_env(model, env).observation_space == model.observation_space
    mixed = spaces.Dict(camera=IMAGE, speed=spaces.Box(-1, 1, (2,)))
    model = DQN(
        "MultiInputPolicy",
        Noise(mixed),
        buffer_size=8,
        policy_kwargs=dict(features_extractor_class=AttentionCombinedExtractor),
    )
    assert check_env(model, Noise(mixed)).observation_space["camera"].shape == (3, 12, 16)


@pytest.mark.parametrize("algorithm", [DQN, RecurrentDQN])
def test_the_environment_of_the_training_is_refused_once_it_began(algorithm: type, tmp_path: Path) -> None:
    env = DummyVecEnv([Noise])
    model = make(algorithm, env, SpatialAttentionCNN)
    assert check_env(model, env).num_envs == 1, "nothing was begun that could be torn"
    model.learn(3)
    for same in (env, env.envs[0], model.get_env()):
        with pytest.raises(ValueError, match="environment that the model trains in"):
            check_env(model, same)
    check_env(model, Noise())
    model.save(tmp_path / "agent")
    check_env(algorithm.load(tmp_path / "agent", env=env), env)  # type: ignore[attr-defined]
