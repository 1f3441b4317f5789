"""Random actions that are held: for how long, in which environments, and when they end."""

import itertools
from typing import Any

import numpy as np
import pytest

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.exploration import HeldActions
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.ledger import make_env, make_model

N_ACTIONS = 1000  # so that a new draw is hardly ever the action before


def test_durations_are_drawn_from_the_zeta_distribution_that_is_cut_off() -> None:
    n_envs, longest, epsilon = 4000, 5, 0.3
    held, rng = HeldActions(n_envs, longest), np.random.default_rng(0)
    greedy = np.full(n_envs, N_ACTIONS)  # none of those that are drawn
    acted = np.stack([held.explore(greedy, epsilon, N_ACTIONS, rng) for _ in range(60)])  # (T, B)
    begins = np.ones_like(acted, dtype=bool)
    begins[1:] = acted[1:] != acted[:-1]
    begins &= acted < N_ACTIONS
    # The first `longest` steps may be what was begun before; those at the end are cut off
    lengths = []
    for env in range(n_envs):
        first = np.flatnonzero(begins[:40, env])
        lengths += [int(np.argmin(np.append(acted[t:, env] == acted[t, env], False))) for t in first]
    shares = np.bincount(lengths, minlength=longest + 1)[1:] / len(lengths)
    expected = np.arange(1, longest + 1.0) ** -2
    expected /= expected.sum()
    # A hold that follows a hold with the same action looks like one: once in N_ACTIONS
    np.testing.assert_allclose(shares[:longest], expected, atol=0.01)
    assert max(lengths) <= 2 * longest
    # ε is the rate at which holds begin where none is held
    free = ~((acted < N_ACTIONS) & ~begins)
    assert abs(begins[free].mean() - epsilon) < 0.01
    assert (acted < N_ACTIONS).mean() > epsilon + 0.05, "more steps are random than ε says"


def acted_while_learning(model_class: type[RecurrentDQN], **kwargs: Any) -> list[list[list[int]]]:
    """:return: for each environment the actions of each episode, all random"""
    env = make_env(((9, 4), (30,), (2, 13)), n_actions=N_ACTIONS)
    model = make_model(env, model_class, gradient_steps=0, learning_starts=10**9, exploration_duration=50, **kwargs)
    model.learn(150 * 3)
    model.learn(50 * 3)  # begins with episodes, although none ended
    episodes = sorted(env.episodes.items())
    return [[episode.actions for key, episode in episodes if key[0] == i] for i in range(3)]


def check_held(per_env: list[list[list[int]]]) -> None:
    repeats, crossings = 0, 0
    for episodes in per_env:
        for before, after in itertools.pairwise(episodes):
            if before and after:
                crossings += before[-1] == after[0]
        for actions in episodes:
            repeats += sum(a == b for a, b in itertools.pairwise(actions))
    assert crossings == 0, "an action was held over an episode's end"
    assert repeats > 200, "actions are held"
    flat = [[action for actions in episodes for action in actions] for episodes in per_env]
    alike = np.mean(np.array(flat[0]) == np.array(flat[1]))
    assert alike < 0.05, "each environment holds its own"


def test_actions_are_held_within_an_episode() -> None:
    check_held(acted_while_learning(RecurrentDQN))


class HoldsOverTheEnd(RecurrentDQN):
    """Planted: an action goes on in the next episode."""

    def _explore_on(self, *args: Any) -> np.ndarray:
        starts, self._last_episode_starts = self._last_episode_starts, np.zeros(self.n_envs, bool)
        actions = super()._explore_on(*args)
        self._last_episode_starts = starts
        return actions


class HoldsForAll(RecurrentDQN):
    """Planted: all environments hold the first one's action."""

    def _explore_on(self, *args: Any) -> np.ndarray:
        return np.full(self.n_envs, super()._explore_on(*args)[0])


class HoldsNothing(RecurrentDQN):
    """Planted: each action lasts a step."""

    def _explore_on(self, *args: Any) -> np.ndarray:
        self._held = None
        return super()._explore_on(*args)


@pytest.mark.parametrize("planted", [HoldsOverTheEnd, HoldsForAll, HoldsNothing])
def test_wrong_holding_is_caught(planted: type[RecurrentDQN]) -> None:
    with pytest.raises(AssertionError):
        check_held(acted_while_learning(planted))


def test_it_is_saved_and_goes_on(tmp_path: Any) -> None:
    model = make_learner(exploration_duration=7)
    model.learn(60)
    assert model._held is not None
    model.save(tmp_path / "model.zip")
    loaded = RecurrentDQN.load(tmp_path / "model.zip", env=make_world())
    assert loaded.exploration_duration == 7 and loaded._held is None
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded._held is not None and loaded._held.longest == 7
