"""Conformance 1, 2, 3 (while acting) and 13: the memory, the dice, and who may touch them."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from tests.dqn_recurrent.conformance.reference import EveryWindow, every_window, rows
from tests.ledger import LSTM, Place, Recorder, make_env, make_model

# Items 1 and 3: the acting state


def check_states(model_class: type[RecurrentDQN], **kwargs: Any) -> None:
    """
    ``SumMemory`` holds the sum of all observations since the episode began, whatever chose the actions:
    so it must be in every stored state, and in the state that goes on acting.
    """
    env = make_env(((5, 3), (17,), (1, 2, 9)))
    options = dict(gradient_steps=0, sequence_length=4, replay_buffer_kwargs=dict(state_interval=1))
    model = make_model(env, model_class, **{**options, **kwargs})  # type: ignore[arg-type]
    model.learn(50 * env.num_envs)

    def since_the_beginning(place: Place) -> np.ndarray:
        return np.sum(env.episodes[place[:2]].frames[: place.step], axis=0)

    batch = every_window(model)
    n_checked = 0
    for row, (_, window) in enumerate(rows(batch)):
        first = window[0]
        assert first is not None
        # The state before an episode is reset by its first step; behind a time limit's observation nobody acted
        if 0 < first.step < len(env.episodes[first[:2]].actions):
            np.testing.assert_allclose(batch.state[0][row], since_the_beginning(first))
            n_checked += 1
    assert n_checked > 50
    assert model._memory_state is not None
    for state, episode in zip(model._memory_state[0], env.current, strict=True):
        if episode.actions:
            np.testing.assert_allclose(state, np.sum(episode.frames[:-1], axis=0))


WAYS_TO_ACT: dict[str, dict[str, Any]] = {
    "warm-up": dict(learning_starts=10**9),
    "greedy": dict(learning_starts=0, exploration_initial_eps=0.0, exploration_final_eps=0.0),
    "epsilon": dict(learning_starts=0, exploration_initial_eps=0.5, exploration_final_eps=0.5),
    "one after another": dict(learning_starts=60, exploration_fraction=0.5),
}


@pytest.mark.parametrize("way", WAYS_TO_ACT)
def test_the_memory_advances_on_every_step_and_resets_where_an_episode_ended(way: str) -> None:
    check_states(RecurrentDQN, **WAYS_TO_ACT[way])


class StandsStillInWarmUp(RecurrentDQN):
    """Planted: SB3's ``_sample_action`` does not ask the policy during warm-up."""

    def _sample_action(self, learning_starts: int, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        before = self._memory_state
        actions = super()._sample_action(learning_starts, *args)
        if self.num_timesteps < learning_starts:
            self._memory_state = before
        return actions


class StandsStillWhenRandom(RecurrentDQN):
    """Planted: SB3's ``DQN.predict`` returns the old state with a random action."""

    def _sample_action(self, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        before = self._memory_state
        assert before is not None
        self.chosen = np.zeros(0)
        actions = super()._sample_action(*args)
        assert self._memory_state is not None
        random = th.as_tensor(actions[0] != self.chosen).unsqueeze(1)
        self._memory_state = (th.where(random, before[0], self._memory_state[0]),)
        return actions

    def _explore(self, greedy: np.ndarray, *args: Any) -> np.ndarray:
        self.chosen = greedy
        return super()._explore(greedy, *args)


class ResetsEveryone(RecurrentDQN):
    """Planted: one environment's end resets the memory of all."""

    def _store_transition(self, *args: Any) -> None:
        super()._store_transition(*args)
        assert self._last_episode_starts is not None
        self._last_episode_starts = np.full_like(self._last_episode_starts, self._last_episode_starts.any())


class ResetsNoOne(RecurrentDQN):
    """Planted: SB3's off-policy code never updates ``_last_episode_starts`` after the first step."""

    def _store_transition(self, *args: Any) -> None:
        super()._store_transition(*args)
        assert self._last_episode_starts is not None
        self._last_episode_starts = np.zeros_like(self._last_episode_starts)


class StoresTheStateAfter(RecurrentDQN):
    """Planted: what is stored with an observation is the state after it."""

    def _sample_action(self, *args: Any) -> tuple[np.ndarray, np.ndarray]:
        actions = super()._sample_action(*args)
        assert self.replay_buffer is not None and self._memory_state is not None
        self.replay_buffer.stage_state(self._memory_state)
        return actions


@pytest.mark.parametrize(
    ("planted", "way"),
    [
        (StandsStillInWarmUp, "warm-up"),
        (StandsStillInWarmUp, "one after another"),
        (StandsStillWhenRandom, "epsilon"),
        (StandsStillWhenRandom, "warm-up"),
        (ResetsEveryone, "greedy"),
        (ResetsNoOne, "greedy"),
        (StoresTheStateAfter, "greedy"),
    ],
)
def test_wrong_states_are_caught(planted: type[RecurrentDQN], way: str) -> None:
    with pytest.raises(AssertionError):
        check_states(planted, **WAYS_TO_ACT[way])


# Item 2: the dice

N_ENVS, N_ACTIONS, EPSILON = 8, 100, 0.5


def check_dice(explored: np.ndarray, epsilon: float) -> None:
    """
    :param explored: (steps, environments) bool, where the action was not the greedy one
    :param epsilon: the probability of a random action, which hits the greedy one once in ``N_ACTIONS``
    """
    n_steps = len(explored)
    expected = epsilon * (1 - 1 / N_ACTIONS)
    tolerance = 5 * np.sqrt(expected * (1 - expected) / explored.size) + 1e-9
    assert abs(explored.mean() - expected) < tolerance
    # With a coin for each environment, how many of them explore is binomial
    variance = N_ENVS * expected * (1 - expected)
    assert explored.sum(axis=1).var() < variance * (1 + 5 * np.sqrt(2 / n_steps)) + 1e-9
    assert explored.any(axis=0).all(), "every environment explores"


def explored_while_learning(model_class: type[RecurrentDQN], **kwargs: Any) -> np.ndarray:
    env = make_env([[20]] * N_ENVS, n_actions=N_ACTIONS)
    model = make_model(env, model_class, gradient_steps=0, **kwargs)
    greedy: list[np.ndarray] = []
    acted: list[np.ndarray] = []
    step, step_async = model.q_net.step, env.step_async

    def watched_step(*args: Any) -> Any:
        q_values, state = step(*args)
        greedy.append(q_values.argmax(dim=1).numpy())
        return q_values, state

    def watched_step_async(actions: np.ndarray) -> None:
        acted.append(actions.copy())
        step_async(actions)

    model.q_net.step, env.step_async = watched_step, watched_step_async  # type: ignore[method-assign]
    model.learn(150 * N_ENVS)
    return np.array(greedy) != np.array(acted)


def explored_while_predicting(model_class: type[RecurrentDQN], **settings: Any) -> np.ndarray:
    env = make_env([[20]] * N_ENVS, n_actions=N_ACTIONS)
    model = make_model(env, model_class, **settings)
    model.exploration_rate = EPSILON
    observations, state, result = env.reset(), None, []
    starts = np.ones(N_ENVS, bool)
    for _ in range(150):
        greedy, _ = model.predict(observations, state, starts, deterministic=True)
        acted, state = model.predict(observations, state, starts, deterministic=False)
        result.append(greedy != acted)
        observations, _, starts, _ = env.step(acted)
    return np.array(result)


CONSTANT = dict(learning_starts=0, exploration_initial_eps=EPSILON, exploration_final_eps=EPSILON)


def test_epsilon_is_tossed_for_each_environment() -> None:
    check_dice(explored_while_learning(RecurrentDQN, **CONSTANT), EPSILON)
    check_dice(explored_while_predicting(RecurrentDQN), EPSILON)


def test_predicting_explores_as_the_middle_of_the_episodes_does() -> None:
    # ε itself is the rate of the episodes that explore most
    check_dice(explored_while_predicting(RecurrentDQN, exploration_ladder=2.0), EPSILON**2)


def test_warm_up_is_all_random() -> None:
    check_dice(explored_while_learning(RecurrentDQN, learning_starts=10**9), 1.0)


class OneCoin(RecurrentDQN):
    """Planted: one coin for the whole ``VecEnv``."""

    def _explore(self, greedy: np.ndarray, epsilon: Any, rng: np.random.Generator, valid: Any = None) -> np.ndarray:
        return super()._explore(greedy, 1.0, rng) if rng.random() < epsilon else greedy


class FirstExploresOnly(RecurrentDQN):
    """Planted: the coins are spread unevenly."""

    def _explore(self, greedy: np.ndarray, epsilon: Any, rng: np.random.Generator, valid: Any = None) -> np.ndarray:
        explored = super()._explore(greedy, epsilon, rng)
        explored[1:] = greedy[1:]
        return explored


@pytest.mark.parametrize("planted", [OneCoin, FirstExploresOnly])
def test_wrong_dice_are_caught(planted: type[RecurrentDQN]) -> None:
    with pytest.raises(AssertionError):
        check_dice(explored_while_learning(planted, **CONSTANT), EPSILON)
    with pytest.raises(AssertionError):
        check_dice(explored_while_predicting(planted), EPSILON)


# Item 13: evaluating disturbs nothing


class Meddler(BaseCallback):
    """Predicts and evaluates while the model learns."""

    def _on_step(self) -> bool:
        if self.n_calls % 7 == 0:
            observation = np.ones(4, np.float32)
            state = None
            for deterministic in (True, False, False):
                _, state = self.model.predict(observation, state, np.zeros(1, bool), deterministic)
            assert isinstance(self.model.policy, th.nn.Module)
            self.model.policy.predict(np.ones((5, 4), np.float32))
            evaluate_policy(
                self.model, make_env([[5], [8]]), n_eval_episodes=2, deterministic=self.n_calls % 2 == 0, warn=False
            )
        return True


def trained(
    model_class: type[RecurrentDQN], callback: BaseCallback | None, noisy: bool
) -> tuple[RecurrentDQN, Recorder]:
    env, options = make_env(), dict(LSTM, noisy=noisy)
    model = make_model(
        env, model_class, options, learning_starts=30, train_freq=3, learning_rate=1e-2, target_update_interval=30
    )
    model.learn(150, callback)
    return model, env


def check_undisturbed(model_class: type[RecurrentDQN], noisy: bool = False) -> None:
    alone, env = trained(model_class, None, noisy)
    watched, watched_env = trained(model_class, Meddler(), noisy)
    for (name, one), other in zip(alone.policy.state_dict().items(), watched.policy.state_dict().values(), strict=True):
        assert th.equal(one, other), name
    assert alone._memory_state is not None and watched._memory_state is not None
    for one, other in zip(alone._memory_state, watched._memory_state, strict=True):
        assert th.equal(one, other)
    assert [e.actions for e in env.episodes.values()] == [e.actions for e in watched_env.episodes.values()]
    assert alone.replay_buffer is not None and watched.replay_buffer is not None
    assert alone.replay_buffer.tapes is not None and watched.replay_buffer.tapes is not None
    for one, other in zip(alone.replay_buffer.tapes.arrays(), watched.replay_buffer.tapes.arrays(), strict=True):
        assert np.array_equal(one, other)
    assert alone.replay_buffer.rng.random() == watched.replay_buffer.rng.random()
    assert alone._exploration_rng.random() == watched._exploration_rng.random()


@pytest.mark.parametrize(
    ("model_class", "noisy"), [(RecurrentDQN, False), (RecurrentDQN, True), (RecurrentQRDQN, True)]
)
def test_predicting_and_evaluating_change_nothing_in_training(model_class: type[RecurrentDQN], noisy: bool) -> None:
    check_undisturbed(model_class, noisy)


class SharedDice(RecurrentDQN):
    """Planted: predicting draws from the generator that training explores with."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        self._prediction_rng = self._exploration_rng
        return super().predict(*args, **kwargs)


class SharedState(RecurrentDQN):
    """Planted: predicting writes the state that training acts with."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        actions, state = super().predict(*args, **kwargs)
        assert self._memory_state is not None and state is not None
        for mine, theirs in zip(self._memory_state, state, strict=True):
            mine[:1] = th.as_tensor(theirs[:1])
        return actions, state


class SharedWindows(RecurrentDQN):
    """Planted: evaluating draws from the generator that picks the windows."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        assert self.replay_buffer is not None and not isinstance(self.replay_buffer.rng, EveryWindow)
        self.replay_buffer.rng.random()
        return super().predict(*args, **kwargs)


class Learns(RecurrentDQN):
    """Planted: an evaluation leaves the target network changed."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        return super().predict(*args, **kwargs)


class SharedNoise(RecurrentDQN):
    """Planted: predicting draws its noise from the generator that training draws its own from."""

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        self.policy.q_net._noisy_layers[0].draw(self._exploration_rng)
        self.policy.q_net._noisy_layers[0].noise = None
        return super().predict(*args, **kwargs)


def test_noise_that_predicting_shares_with_training_is_caught() -> None:
    with pytest.raises(AssertionError):
        check_undisturbed(SharedNoise, noisy=True)


@pytest.mark.parametrize("planted", [SharedDice, SharedState, SharedWindows, Learns])
def test_disturbances_are_caught(planted: type[RecurrentDQN]) -> None:
    with pytest.raises(AssertionError):
        check_undisturbed(planted)
