"""Whatever the search space draws can be built, and is what it says."""

from typing import Any

import gymnasium as gym
import optuna
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

from sb3_attnmem import MEMORIES, RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.memory import get_memory_class
from sb3_attnmem.replay.capacity import choose_state_interval
from sb3_attnmem.zoo.search_spaces import MEMORIES as SEARCHED
from sb3_attnmem.zoo.search_spaces import MEMORY_OPTIONS, convert_rdqn_params, sample_rdqn_params, sample_rqrdqn_params

optuna.logging.set_verbosity(optuna.logging.WARNING)


def draw(n_trials: int, n_envs: int = 8) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(n_trials):
        trial = study.ask()
        drawn.append((trial, sample_rdqn_params(trial, 2, n_envs, {})))
    return drawn


def test_a_hundred_configurations_can_be_built() -> None:
    env = gym.make("CartPole-v1")
    seen: dict[str, set[Any]] = {}
    for _, hyperparams in draw(100):
        RecurrentDQN("MlpPolicy", env, **hyperparams)
        for name in ("sequence_length", "burn_in", "n_steps", "refresh_states"):
            seen.setdefault(name, set()).add(hyperparams[name])
        seen.setdefault("memory", set()).add(hyperparams["policy_kwargs"]["memory_class"])
        assert hyperparams["n_steps"] <= hyperparams["sequence_length"]
        assert hyperparams["burn_in"] < hyperparams["sequence_length"]
        assert 256 <= hyperparams["batch_size"] * hyperparams["sequence_length"] <= 2048
    assert seen["memory"] == set(SEARCHED) <= set(MEMORIES)
    assert seen["sequence_length"] == {8, 16, 32, 64} and seen["refresh_states"] == {False, True}


@pytest.mark.parametrize("n_envs", [1, 8])
def test_the_replay_ratio_is_what_was_drawn(n_envs: int) -> None:
    for trial, hyperparams in draw(50, n_envs):
        trained = hyperparams["batch_size"] * hyperparams["sequence_length"]
        steps, unit = hyperparams["train_freq"]
        assert unit == "transition"  # whatever the number of environments
        ratio = trained / steps
        assert ratio == pytest.approx(trial.params["replay_ratio"], rel=0.5), trial.params


def test_a_memory_gets_its_own_options_only() -> None:
    for _, hyperparams in draw(100):
        policy_kwargs = hyperparams["policy_kwargs"]
        for option, takers in MEMORY_OPTIONS.items():
            assert (option in policy_kwargs["memory_kwargs"]) == (policy_kwargs["memory_class"] in takers)


def test_stored_states_fit_into_any_machine() -> None:
    """A window of 64 with 2 x 256 units would take 26 GB of a million transitions, and fail where less is free."""
    env, kinds = gym.make("CartPole-v1"), set()
    for _, hyperparams in draw(300):
        policy_kwargs = hyperparams["policy_kwargs"]
        memory = get_memory_class(policy_kwargs["memory_class"])(1, **policy_kwargs["memory_kwargs"])
        n_bytes = sum(part.nbytes for part in memory.initial_state(1))
        given = hyperparams.get("replay_buffer_kwargs", {}).get("state_interval")
        interval = choose_state_interval(given, hyperparams["sequence_length"], hyperparams["burn_in"])
        stored = hyperparams.get("state_init", "stored") == "stored"
        assert not stored or n_bytes / interval <= 2_048, "bytes a transition"
        assert stored or (n_bytes > 2_048 and not hyperparams["refresh_states"])
        kinds.add((policy_kwargs["memory_class"] == "window", stored, given is not None))
        if given is not None or not stored:
            RecurrentDQN("MlpPolicy", env, buffer_size=1_000, **hyperparams)
    assert kinds >= {(True, False, False), (True, True, True), (False, True, False)}


def test_a_finished_trial_is_converted_as_it_was_drawn() -> None:
    for trial, hyperparams in draw(20):
        again = convert_rdqn_params({**trial.params, "n_envs": 8})
        ours, theirs = (x.pop("learning_rate") for x in (hyperparams, again))
        assert hyperparams == again
        at_half = trial.params["learning_rate"] * (0.5 if trial.params["lr_schedule"] == "linear" else 1.0)
        assert {rate(0.5) if callable(rate) else rate for rate in (ours, theirs)} == {at_half}


def test_drawn_agents_learn_a_few_steps() -> None:
    th.manual_seed(0)
    for _, hyperparams in draw(4, 2):
        env = make_vec_env("CartPole-v1", 2, seed=0)
        steps = min(hyperparams["train_freq"][0], 40)  # only to come to an update sooner
        hyperparams["train_freq"] = (steps, "transition")
        model = RecurrentDQN("MlpPolicy", env, learning_starts=20, buffer_size=2_000, seed=0, **hyperparams)
        model.learn(2 * max(steps, 20) + 20)
        assert model._n_updates >= 1


def test_quantiles_are_searched_too() -> None:
    study, env = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)), gym.make("CartPole-v1")
    seen = set()
    for _ in range(20):
        trial = study.ask()
        hyperparams = sample_rqrdqn_params(trial, 2, 8, {})
        again = convert_rdqn_params({**trial.params, "n_envs": 8})
        model = RecurrentQRDQN("MlpPolicy", env, buffer_size=1_000, **hyperparams)
        n_quantiles = trial.params["n_quantiles"]
        assert model.policy.architecture.n_quantiles == n_quantiles == again["policy_kwargs"]["n_quantiles"]  # type: ignore[attr-defined]
        seen.add(n_quantiles)
    assert seen == {10, 25, 50, 100}
