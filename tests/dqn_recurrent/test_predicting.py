"""Predicting: what passes on the state, what warns, what is refused."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy

from tests.dqn_recurrent.worlds import make_learner, make_world


def test_a_prediction_without_state_warns_once_that_the_agent_forgets() -> None:
    model = make_learner()
    observation = np.zeros((2, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(observation, None, np.ones(2, bool))
        model.predict(observation, None, np.ones(2, bool))  # first steps have nothing to forget
        _, state = model.predict(observation)
        for _ in range(3):
            _, state = model.predict(observation, state)
        evaluate_policy(model, make_world(), n_eval_episodes=4, warn=False)
        model.learn(30)
    with pytest.warns(UserWarning, match="forgets everything") as caught:
        for _ in range(10):
            model.predict(observation)
    assert len(caught) == 1 and caught[0].filename == __file__, "once, and it points at the caller"
    for call in (model.policy, model.policy._predict, model.q_net._predict):  # each observation is an episode's first
        model.predict(observation, model.predict(observation, None, np.ones(2, bool))[1])
        with pytest.warns(UserWarning, match="forgets everything") as caught:
            for _ in range(3):
                call(th.as_tensor(observation))
        assert len(caught) == 1 and caught[0].filename == __file__
    forgetful = make_learner(policy_kwargs=dict(memory_class="none"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):
            forgetful.predict(observation)  # has nothing to forget
            forgetful.policy(th.as_tensor(observation))


def test_the_network_predicts_as_the_policy_does() -> None:
    model = make_learner()
    generator = np.random.default_rng(0)
    states: list[Any] = [None, None, None]
    for _ in range(6):
        observation = generator.uniform(-1, 1, (2, 3)).astype(np.float32)
        starts = np.full(2, states[0] is None) | (generator.random(2) < 0.3)
        answers = [
            predictor.predict(observation, state, starts, deterministic=True)
            for predictor, state in zip((model, model.policy, model.q_net), states, strict=True)
        ]
        for actions, state in answers:
            np.testing.assert_array_equal(actions, answers[0][0])
            for one, other in zip(state, answers[0][1], strict=True):  # type: ignore[arg-type]
                np.testing.assert_array_equal(one, other)
        states = [state for _, state in answers]
    assert np.abs(states[2][0]).sum() > 0, "it remembers"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_names_an_observation_that_is_not_finite(bad: float) -> None:
    model = make_learner()
    observation = np.zeros((2, 3), np.float32)
    _, state = model.predict(observation, None, np.ones(2, bool))
    observation[1, 2] = bad
    with pytest.raises(ValueError, match=rf"observation of environment\(s\) \[1\] is not finite.*{bad}"):
        model.predict(observation, state)
    with pytest.raises(ValueError, match=r"observation of environment\(s\) \[0\] is not finite"):
        model.predict(observation[1])
    as_dict = make_learner(make_world("dict"), "MultiInputPolicy")
    sample = make_world("dict").observation_space.sample()
    sample["vector"][0] = bad
    with pytest.raises(ValueError, match=r"observation 'vector' of"):
        as_dict.predict(sample)
