"""
Conformance 15, widened: whoever resets or steps the learner's environments between two of its steps, no transition
joins two episodes, and none is lost.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.watching import WatchedEnv
from sb3_attnmem.replay.slots import Slot
from tests.ledger import LSTM, Ledger, make_model

N_STEPS = 12
LENGTHS = ((5, 3), (40,))


def ledgers() -> list[Callable[[], gym.Env]]:
    return [lambda i=i, steps=steps: Ledger(i, steps, ("terminated", "truncated")) for i, steps in enumerate(LENGTHS)]


def joined_wrongly(model: RecurrentDQN) -> tuple[int, int]:
    """:return: transitions that are stored, and those of them whose successor is not the frame that followed"""
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    tapes = model.replay_buffer.tapes
    assert isinstance(tapes.observations, np.ndarray)
    n_stored = n_wrong = 0
    for row in range(tapes.n_envs):
        kinds, frames = tapes.kinds[row], tapes.observations[row]
        for slot in np.flatnonzero((kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL)):
            n_stored += 1
            follows = frames[slot] + [0, 0, 1, 0]
            n_wrong += bool(kinds[slot] == Slot.TRANSITION) and not np.array_equal(frames[slot + 1], follows)
    return n_stored, n_wrong


def evaluates(model: RecurrentDQN, env: VecEnv) -> None:
    evaluate_policy(model, env, n_eval_episodes=2, warn=False)


def resets(model: RecurrentDQN, env: VecEnv) -> None:
    env.reset()


def steps(model: RecurrentDQN, env: VecEnv) -> None:
    env.step(np.zeros(env.num_envs, int))


def evaluates_the_environment_inside(model: RecurrentDQN, env: VecEnv) -> None:
    (inside, *_) = env.unwrapped.envs  # type: ignore[attr-defined]
    evaluate_policy(model, inside, n_eval_episodes=1, warn=False)


def resets_the_environment_inside(model: RecurrentDQN, env: VecEnv) -> None:
    env.unwrapped.envs[1].reset()  # type: ignore[attr-defined]


USES = [evaluates, resets, steps, evaluates_the_environment_inside, resets_the_environment_inside]
ENVS: dict[str, Callable[[], VecEnv]] = {
    "plain": lambda: DummyVecEnv(ledgers()),
    "normalized": lambda: VecNormalize(DummyVecEnv(ledgers())),
    "processes": lambda: SubprocVecEnv(ledgers(), start_method="fork"),
}
CASES = [(name, use) for name in ENVS for use in USES if name == "plain" or "inside" not in use.__name__]


class Uses(BaseCallback):
    """
    Uses the environment in the middle of a ``learn``.

    :param use: what it does with it
    :param at: at which step
    """

    def __init__(self, use: Callable[[RecurrentDQN, VecEnv], None], at: int = 7) -> None:
        super().__init__()
        self.use, self.at = use, at

    def _on_step(self) -> bool:
        if self.n_calls == self.at:
            self.use(self.model, self.training_env)  # type: ignore[arg-type]
        return True


def learner(env: VecEnv, model_class: type[RecurrentDQN] = RecurrentDQN) -> RecurrentDQN:
    return make_model(env, model_class, LSTM, burn_in=4, n_steps=3, train_freq=1)


@pytest.mark.parametrize(("name", "use"), CASES)
def test_use_between_two_learns(name: str, use: Callable[[RecurrentDQN, VecEnv], None]) -> None:
    env = ENVS[name]()
    model = learner(env)
    for _ in range(3):
        model.learn(N_STEPS * 2, reset_num_timesteps=False)
        use(model, env)
    model.learn(N_STEPS * 2, reset_num_timesteps=False)
    env.close()
    assert joined_wrongly(model) == (4 * N_STEPS * 2, 0)


@pytest.mark.parametrize(("name", "use"), CASES)
def test_use_by_a_callback(name: str, use: Callable[[RecurrentDQN, VecEnv], None]) -> None:
    env = ENVS[name]()
    model = learner(env)
    model.learn(2 * N_STEPS * 2, callback=Uses(use))
    env.close()
    assert joined_wrongly(model) == (2 * N_STEPS * 2, 0)


@pytest.mark.parametrize("name", ["plain", "normalized"])
def test_eval_callback_on_the_training_environment(name: str) -> None:
    env = ENVS[name]()
    model = learner(env)
    model.learn(80, callback=EvalCallback(env, n_eval_episodes=1, eval_freq=9, verbose=0, warn=False))
    assert joined_wrongly(model) == (80, 0)


def test_the_first_step_after_it_begins_an_episode() -> None:
    env = DummyVecEnv(ledgers())
    model = learner(env)
    model.learn(24)
    env.reset()
    model.learn(2, reset_num_timesteps=False)
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None and isinstance(tapes.observations, np.ndarray)
    newest = tapes.heads - 1
    assert (tapes.observations[tapes.rows, newest, 2] == 0).all() and tapes.starts[tapes.rows, newest].all()


def test_nothing_is_cut_where_nobody_used_the_environments() -> None:
    env = VecNormalize(DummyVecEnv(ledgers()))
    model = learner(env)
    for _ in range(6):
        model.learn(4, reset_num_timesteps=False)
        model.predict(env.normalize_obs(np.ones((2, 4), np.float32)), None, np.ones(2, bool))
        env.get_attr("lengths")
    assert joined_wrongly(model) == (24, 0)
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None and tapes.starts[1].sum() == 1, "its one episode was never cut"


class Blind(WatchedEnv):
    """Planted: what others do with the environments is not noticed."""

    was_used = False  # type: ignore[assignment]


@pytest.mark.parametrize("in_learn", [False, True])
def test_unnoticed_use_is_caught(in_learn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.dqn_recurrent.acting.WatchedEnv", Blind)
    env = DummyVecEnv(ledgers())
    model = learner(env)
    model.learn(N_STEPS * 2, callback=Uses(resets) if in_learn else None)
    resets(model, env)
    model.learn(N_STEPS * 2, reset_num_timesteps=False)
    assert joined_wrongly(model)[1] > 0


def test_two_learners_share_the_environments() -> None:
    env = DummyVecEnv(ledgers())
    models = [learner(env), learner(env)]
    for _ in range(3):
        for model in models:
            model.learn(10, reset_num_timesteps=False)
    assert [joined_wrongly(model) for model in models] == [(30, 0)] * 2


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_of_a_watched_environment_is_one_of_its_own(duplicate: Callable[[Any], Any]) -> None:
    original = Ledger(0, (5,))
    RecurrentDQN("MlpPolicy", original, policy_kwargs=LSTM, sequence_length=4, burn_in=0).learn(1)
    other = duplicate(original)
    before = original.episode
    other.reset()
    other.step(0)
    assert other.episode == before + 1 and other.step_number == 1
    assert original.episode == before, "the copy is not the original"


def test_stacked_frames_are_watched_below_their_wrapper() -> None:
    env = VecFrameStack(DummyVecEnv(ledgers()), 2)
    model = RecurrentDQN("MlpPolicy", env, sequence_length=4, n_steps=1, burn_in=0, buffer_size=400, train_freq=1)
    model.learn(24)
    evaluate_policy(model, env, n_eval_episodes=1, warn=False)
    model.learn(24, reset_num_timesteps=False)
    assert joined_wrongly(model) == (48, 0)
