"""Gradients: against finite differences, across the windows' edges, and in the T-Maze."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem.envs import PassiveTMaze
from sb3_attnmem.inspection.memory.played import PlayedEpisode, draw_moments
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from sb3_attnmem.inspection.memory.reach import gradient_map, gradient_norms, gradient_reach
from tests.inspection.memory_toys import Repeat, maze_walker, plain


def episode_of(n_steps: int, starts: tuple[int, ...] = (0,), n_features: int = 3) -> PlayedEpisode:
    flags = np.zeros(n_steps, bool)
    flags[list(starts)] = True
    features = th.randn(n_steps, n_features, generator=th.Generator().manual_seed(0))
    nothing = np.zeros(n_steps)
    return PlayedEpisode(features, flags, nothing.astype(int), nothing, np.zeros((n_steps, 3)), [])


def agent(memory: str, **memory_kwargs: int) -> th.nn.Module:
    model = plain(Repeat(), memory, memory_kwargs=dict(hidden_size=8, **memory_kwargs))
    model.policy.set_training_mode(False)
    return model.q_net


@pytest.mark.parametrize("memory", ["lstm", "min_gru", "gtrxl"])
def test_gradients_are_those_of_finite_differences(memory: str) -> None:
    q_net = agent(memory).double()
    episode = episode_of(7)
    episode = episode._replace(features=episode.features.double())
    norms = gradient_norms(q_net, [episode], [(0, 6)], 7)[0]

    def q_values(features: th.Tensor) -> th.Tensor:
        starts = th.zeros(1, 7, dtype=th.bool)
        latents, _ = q_net.memory(features.unsqueeze(0), q_net.memory.initial_state(1), starts)
        return q_net.head(features.unsqueeze(0), latents)[0, -1]

    for step in range(7):
        total = 0.0
        for feature in range(3):
            nudge = th.zeros_like(episode.features)
            nudge[step, feature] = 1e-5
            with th.no_grad():
                slope = (q_values(episode.features + nudge) - q_values(episode.features - nudge)) / 2e-5
            total += float(slope.square().sum())
        assert norms[step] == pytest.approx(total**0.5, rel=1e-4, abs=1e-8)


def test_a_short_window_goes_on_from_the_history_before_it() -> None:
    q_net, episode = agent("lstm"), episode_of(30)
    moments = [(0, 3), (0, 12), (0, 29)]
    whole, short = (gradient_norms(q_net, [episode], moments, length) for length in (30, 5))
    np.testing.assert_allclose(short[1:], whole[1:, -5:], rtol=1e-4)
    np.testing.assert_allclose(short[0, -4:], whole[0, -4:], rtol=1e-4)


def test_nothing_crosses_the_start_of_an_episode() -> None:
    found = gradient_map(agent("gru"), episode_of(10, starts=(0, 6)), 10, 512, lambda n: None)
    same = np.zeros((10, 10), bool)
    same[:6, :6] = same[6:, 6:] = True
    np.testing.assert_array_equal(np.isfinite(found), np.tril(same))
    assert (found[np.isfinite(found)] > 0).all()


def test_places_with_a_history_are_none_of_the_first_steps() -> None:
    episodes = [episode_of(4), episode_of(5, starts=(0, 2))]
    rng = np.random.default_rng(0)
    assert draw_moments(episodes, 99, rng, with_history=True) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 3), (1, 4)]
    assert len(set(draw_moments(episodes, 5, rng))) == 5


def test_the_cue_at_the_start_of_the_maze_is_shown() -> None:
    env = make_vec_env(PassiveTMaze, n_envs=2, env_kwargs=dict(corridor_length=20))
    model = maze_walker(env)
    model.policy.set_training_mode(False)
    episodes = play_episodes(model, env, FullMemory(model.q_net), 2, 0, 100, lambda n: None, keep=True).episodes
    reach = gradient_reach(model.q_net, episodes, 512, 50_000, np.random.default_rng(0), lambda n: None)
    assert reach.observations == 21 and reach.counts[20] == 2
    # |dQ/d cue| = √2 (up and down), in the one step of each lag whose past is the first observation
    np.testing.assert_allclose(reach.means[1:], 2**0.5 / np.arange(20, 0, -1), rtol=1e-5)
    found = gradient_map(model.q_net, episodes[0], 21, 512, lambda n: None)
    assert (found[1:, 0] > 1).all() and np.nanmax(np.tril(found, -1)[:, 1:]) == 0
