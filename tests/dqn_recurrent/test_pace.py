"""What an environment step brings is the same with any number of environments: updates, target updates, exploration."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.exploration import LONG_EPISODE, Ladder
from tests.dqn_recurrent.worlds import SMALL, World


def by_default(n_envs: int) -> RecurrentDQN:
    """Default arguments, but for what is small here."""
    env = DummyVecEnv([lambda i=i: World(env_id=i) for i in range(n_envs)])
    return RecurrentDQN("MlpPolicy", env, buffer_size=20_000, batch_size=1, seed=0, policy_kwargs=SMALL)


@pytest.mark.parametrize("n_envs", [1, 6, 8, 64])
def test_updates_and_target_updates_an_environment_step(n_envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = by_default(n_envs)
    target_updates = []
    monkeypatch.setattr(model, "update_target", lambda: target_updates.append(model._n_updates))
    model.learn(1_000 + 64 * 6)
    due = model.num_timesteps // 32 - 1_000 // 32
    assert abs(model._n_updates - due) <= 1 and model._n_updates >= 11
    assert target_updates == list(range(1, model._n_updates + 1))


def test_an_update_is_due_again_in_a_second_learn() -> None:
    model = by_default(8)
    model.learn(1_064)
    n_updates = model._n_updates
    model.learn(1_064)
    assert model._n_updates == 2 * n_updates
    model.learn(64, reset_num_timesteps=False)
    assert model._n_updates == 2 * n_updates + 2


def test_other_units_are_those_of_dqn() -> None:
    env = DummyVecEnv([World])
    for given, unit in ((4, "step"), ((4, "step"), "step"), ((2, "episode"), "episode")):
        model = RecurrentDQN("MlpPolicy", env, train_freq=given, policy_kwargs=SMALL)
        assert model.train_freq == (4 if unit == "step" else 2, TrainFrequencyUnit(unit))  # type: ignore[comparison-overlap]
        assert model._transitions_per_update is None
    with pytest.raises(ValueError, match="train_freq's unit"):
        RecurrentDQN("MlpPolicy", env, train_freq=(4, "transitions"), policy_kwargs=SMALL)


@pytest.mark.parametrize("n_envs", [1, 8, 64])
def test_the_ladder_means_the_same_with_any_number_of_environments(n_envs: int) -> None:
    ladder = Ladder(n_envs)
    starts = np.ones(n_envs, dtype=bool)
    rates = np.concatenate([np.atleast_1d(ladder.rates(0.4, 7.0, starts)) for _ in range(6_400 // n_envs)])
    exponents = np.log(rates) / np.log(0.4)
    assert exponents.min() == pytest.approx(1.0) and 7.9 < exponents.max() < 8.0
    # Spread evenly: a tenth of the episodes in each tenth of the range
    counts, _ = np.histogram(exponents, bins=10, range=(1, 8))
    assert (abs(counts - len(rates) / 10) <= 2).all()


def test_an_episode_keeps_its_rate() -> None:
    ladder = Ladder(3)
    first = ladder.rates(0.4, 7.0, np.ones(3, dtype=bool))
    second = ladder.rates(0.4, 7.0, np.array([False, True, False]))
    assert isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
    assert (first != second).tolist() == [False, True, False]


def test_an_episode_without_end_does_not_keep_it_for_ever() -> None:
    ladder = Ladder(1)
    rates = [float(np.squeeze(ladder.rates(0.4, 7.0, np.array([t == 0])))) for t in range(2 * LONG_EPISODE)]
    assert len(set(rates[:LONG_EPISODE])) == 1 and len(set(rates)) == 2


def test_another_ladder_counts_at_once() -> None:
    ladder = Ladder(3)
    first = ladder.rates(0.4, 7.0, np.ones(3, dtype=bool))
    second = ladder.rates(0.4, 3.5, np.zeros(3, dtype=bool))
    np.testing.assert_allclose(np.log(second / 0.4), np.log(first / 0.4) / 2)


def test_all_explore_alike_without_a_ladder() -> None:
    assert Ladder(8).rates(0.3, 0.0, np.ones(8, dtype=bool)) == 0.3


def test_some_episodes_are_almost_greedy() -> None:
    """What the agent does follows the ladder: with a final rate of 1, α = 0 all is random; without it, not so."""

    class Counting(gym.Wrapper):
        actions: list[int] = []  # noqa: RUF012

        def step(self, action: int):  # type: ignore[no-untyped-def,override]
            self.actions.append(int(action))
            return super().step(action)

    shares = []
    for alpha in (0.0, 7.0):
        Counting.actions = []
        model = RecurrentDQN(
            "MlpPolicy",
            DummyVecEnv([lambda i=i: Counting(World(env_id=i)) for i in range(4)]),
            learning_starts=0,
            exploration_initial_eps=0.4,
            exploration_final_eps=0.4,
            exploration_ladder=alpha,
            gradient_steps=0,
            policy_kwargs=SMALL,
            seed=0,
        )
        bias = model.q_net.q_net.advantage[-1].bias
        with th.no_grad():
            bias[1] += 100  # greedy
        model.learn(2_000)
        shares.append(np.mean(np.array(Counting.actions) != 1))
    assert shares[0] == pytest.approx(0.4 * 2 / 3, abs=0.04)
    expected = np.mean(0.4 ** (1 + 7 * np.linspace(0, 1, 1000))) * 2 / 3
    assert shares[1] == pytest.approx(expected, abs=0.02)
