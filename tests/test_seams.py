"""
What we rely on in Stable-Baselines3, sb3-contrib and rl_zoo3 beyond their public functions. A release that moves one of
these seams fails here first, and says which. Patches of other packages have tests of their own in ``tests/zoo``.
"""

import importlib
import inspect
import pkgutil
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import requires, version
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from packaging.requirements import Requirement
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_attnmem
from sb3_attnmem import RecurrentDQN

THEIRS = ("stable_baselines3", "sb3_contrib", "rl_zoo3")
#: methods of theirs with an underscore that we override: nobody promised that they stay
OVERRIDDEN = {
    "ActorEpisodes": {"_on_step", "_on_training_end", "_on_training_start"},
    "ActingWithMemory": {"_sample_action", "_setup_learn", "_store_transition", "_update_current_progress_remaining"},
    "FiguresFile": {"_on_step", "_on_training_start"},
    "LearningPolicy": {"_get_constructor_parameters"},
    "MaskedEvalCallback": {"_on_step"},
    "PredictingNetwork": {"_predict"},
    "RecurrentDQN": {"_setup_model"},
    "RecurrentDQNPolicy": {"_build", "_get_constructor_parameters"},
    "RecurrentQNetwork": {"_get_constructor_parameters"},
    "ResumableCheckpoint": {"_on_rollout_start", "_on_step", "_on_training_end", "_on_training_start"},
    "SavingAndLoading": {"_excluded_save_params"},
    "TrainingOnSequences": {"_convert_train_freq", "_on_step", "_setup_learn"},
    "TrialManager": {"_create_pruner", "_create_sampler", "_maybe_normalize", "_preprocess_hyperparams"},
    "ValidationCallback": {"_init_callback", "_on_step", "_on_training_end"},
    "WholeFileEvalCallback": {"_on_step"},
    "ZooManager": {"_load_pretrained_agent", "_maybe_normalize", "_save_config"},
    "_End": {"_on_step", "_on_training_end"},
    "_UpdatesBar": {"_on_step"},
}


def our_classes() -> Iterator[type]:
    """:return: all classes of the package that derive from one of theirs"""
    for module in pkgutil.walk_packages(sb3_attnmem.__path__, "sb3_attnmem."):
        if module.name == "sb3_attnmem.__main__":
            continue
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if found.__module__ == module.name and any(base.__module__.startswith(THEIRS) for base in found.__mro__):
                yield found


def overrides(ours: type) -> Iterator[tuple[str, Any, Any]]:
    """:return: name, our function and theirs of each method of theirs that a class of ours defines anew"""
    for name, function in vars(ours).items():
        if not inspect.isfunction(function) or name == "__init__":
            continue
        for base in ours.__mro__[1:]:
            if base.__module__.startswith(THEIRS) and inspect.isfunction(vars(base).get(name)):
                yield name, function, vars(base)[name]
                break


CLASSES = sorted(set(our_classes()), key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize("ours", CLASSES, ids=lambda cls: cls.__qualname__)
def test_what_we_override_is_called_as_we_expect(ours: type) -> None:
    for name, function, theirs in overrides(ours):
        given = list(inspect.signature(theirs).parameters.values())
        taken = inspect.signature(function).parameters
        kinds = {parameter.kind for parameter in taken.values()}
        if {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD} <= kinds:
            continue
        names = [
            parameter.name
            for parameter in given
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        positional = [name for name in taken if name in names]
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            missing = [each for each in names if each not in taken]
            # The first argument of a forward pass may be named after what it is
            assert len(missing) <= 1, f"{ours.__qualname__}.{name} does not take {missing} of {theirs.__qualname__}"
        assert positional == [each for each in names if each in positional], (
            f"{ours.__qualname__}.{name}: another order"
        )


def test_private_methods_that_we_override_are_still_there() -> None:
    found: dict[str, set[str]] = {}
    for ours in CLASSES:
        private = {name for name, _, _ in overrides(ours) if name.startswith("_") and not name.startswith("__")}
        if private:
            found[ours.__qualname__] = private
    assert found == OVERRIDDEN, "a seam moved (or a new one was opened: then add it here)"


def test_the_versions_that_setup_py_allows_end_at_what_is_tested() -> None:
    allowed = [Requirement(line) for line in requires("sb3_attnmem") or []]
    for package in ("stable-baselines3", "sb3-contrib", "rl_zoo3"):
        (requirement,) = [r for r in allowed if r.name.replace("_", "-").lower() == package.replace("_", "-")]
        major, minor = version(package).split(".")[:2]
        assert requirement.specifier.contains(version(package)), f"{package} {version(package)}: {requirement}"
        assert not requirement.specifier.contains(f"{major}.{int(minor) + 1}.0"), f"{requirement} is not capped"


class Line(gym.Env):
    """Two steps an episode, ended by a time limit; the observation is the number of the step."""

    observation_space = spaces.Box(0, 10, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, False, self.t == 2, {}


def small(**kwargs: Any) -> DQN:
    return DQN("MlpPolicy", Line(), buffer_size=50, learning_starts=1_000, device="cpu", **kwargs)


class Stop(BaseCallback):
    def _on_step(self) -> bool:
        return False


def test_what_a_stopped_rollout_leaves_to_be_stored() -> None:
    model = small()
    callback = Stop()
    model.learn(10, callback=callback)
    for name in ("buffer_actions", "new_obs", "rewards", "dones", "infos", "num_collected_steps"):
        assert name in callback.locals, f"collect_rollouts has no local {name} any more"
    assert model.replay_buffer is not None and model.replay_buffer.size() == 0, "SB3 now stores that step itself"


def test_a_callback_sees_a_step_before_it_is_stored() -> None:
    sizes = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            sizes.append(self.model.replay_buffer.size())  # type: ignore[attr-defined]
            return True

    small().learn(3, callback=Look())
    assert sizes == [0, 1, 2, 3]


def test_final_observations_come_in_infos_and_are_normalised_with_the_rest() -> None:
    env = VecNormalize(DummyVecEnv([Line]), norm_reward=False)
    env.obs_rms.mean, env.obs_rms.var, env.training = np.array([1.0]), np.array([1.0]), False
    env.reset()
    env.step(np.zeros(1, int))
    _, _, dones, infos = env.step(np.zeros(1, int))
    assert dones[0] and infos[0]["TimeLimit.truncated"]
    assert np.allclose(infos[0]["terminal_observation"], 1.0, atol=1e-3)
    assert np.allclose(env.get_original_obs(), 0.0)


def test_a_final_observation_waits_in_its_info_while_the_environment_is_reset() -> None:
    """There it is copied, for environments that write all observations into one array."""
    waiting: list[Any] = []

    class Looks(Line):
        def reset(self, **kwargs: Any) -> Any:
            waiting.append(env.buf_infos[0].get("terminal_observation") if env is not None else None)
            return super().reset(**kwargs)

    env: Any = None
    env = DummyVecEnv([Looks])
    env.reset()
    infos = [env.step(np.zeros(1, int))[3] for _ in range(2)][-1]
    assert waiting[0] is None and waiting[1] is not None
    np.testing.assert_array_equal(waiting[1], infos[0]["terminal_observation"])


@pytest.mark.parametrize("wrap", [VecNormalize, lambda env: env], ids=["VecNormalize", "VecEnv"])
def test_methods_are_looked_up_on_the_environment_itself(wrap: Any) -> None:
    """So that what stands in for them there is called: in the ``VecEnv`` below a wrapper, and in the one inside it."""
    called = []
    inside = Line()
    env = DummyVecEnv([lambda: inside])
    reset, step_wait, inner = env.reset, env.step_wait, inside.reset
    env.reset = lambda: called.append("reset") or reset()  # type: ignore[method-assign]
    env.step_wait = lambda: called.append("step_wait") or step_wait()  # type: ignore[method-assign]
    inside.reset = lambda **kwargs: called.append("inner reset") or inner(**kwargs)  # type: ignore[method-assign]
    wrapped = wrap(env)
    wrapped.reset()
    wrapped.step(np.zeros(1, int))
    wrapped.step(np.zeros(1, int))
    assert called == ["reset", "inner reset", "step_wait", "step_wait", "inner reset"]


def test_attributes_that_we_read() -> None:
    model = small()
    model.learn(4)
    names = (
        *("_last_obs", "_last_original_obs", "_last_episode_starts", "_vec_normalize_env", "_n_calls", "_n_updates"),
        *("_current_progress_remaining", "_total_timesteps", "_custom_logger", "_logger", "_episode_num"),
        *("exploration_schedule", "exploration_rate", "batch_norm_stats", "batch_norm_stats_target", "start_time"),
    )
    for name in names:
        assert hasattr(model, name), f"DQN has no {name} any more"
    for name in (
        "_convert_train_freq",
        "_init_callback",
        "_update_learning_rate",
        "_excluded_save_params",
        "_wrap_env",
    ):
        assert callable(getattr(model, name, None)), f"DQN has no {name}() any more"
    assert model._n_calls == 4, "_on_step no longer counts calls"


def test_every_argument_of_dqn_is_one_of_ours() -> None:
    theirs, ours = (inspect.signature(cls.__init__).parameters for cls in (DQN, RecurrentDQN))
    assert set(theirs) - set(ours) == set(), "DQN has arguments that RecurrentDQN does not take"


def test_texts_of_the_warnings_that_we_silence() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small(n_steps=3, replay_buffer_class=ReplayBuffer)
        vec_env = DummyVecEnv([Line] * 3)
        DQN("MlpPolicy", vec_env, buffer_size=50, target_update_interval=1, device="cpu")
    texts = [str(warning.message) for warning in caught]
    for begin in ("`n_steps=", "The number of environments used is greater than the target"):
        assert any(text.startswith(begin) for text in texts), f"no warning begins with {begin!r}: {texts}"


def test_evaluation_passes_state_and_episode_starts() -> None:
    seen: list[tuple[Any, list[bool]]] = []

    class Player:
        def predict(
            self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
        ) -> Any:
            seen.append((state, list(episode_start)))
            return np.zeros(len(observation), int), len(seen)

    evaluate_policy(Player(), DummyVecEnv([Line]), n_eval_episodes=2, warn=False)  # type: ignore[arg-type]
    assert [state for state, _ in seen] == [None, 1, 2, 3]
    assert [start for _, (start,) in seen] == [True, False, True, False]


def test_trpo_skips_weights_by_their_name() -> None:
    from sb3_contrib import TRPO

    text = inspect.getsource(TRPO)
    assert re.search(r'"value"\s*in\s*\w+', text), "TRPO tells the critic's weights in another way: look at ours"


def test_networks_of_the_policies_that_transfer_knows() -> None:
    from sb3_contrib import QRDQN

    assert isinstance(small().policy.q_net, th.nn.Module) and isinstance(small().policy.q_net_target, th.nn.Module)
    model = QRDQN("MlpPolicy", Line(), buffer_size=50, device="cpu")
    for name in ("quantile_net", "quantile_net_target"):
        assert isinstance(getattr(model.policy, name), th.nn.Module)
