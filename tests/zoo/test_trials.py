"""One trial of a search: what it draws, trains, tells and survives."""

import argparse
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import optuna
import pytest
import torch as th
import yaml
from optuna.trial import TrialState
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.utils import LinearSchedule

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN
from sb3_attnmem.extractors import EntityAttention
from sb3_attnmem.zoo import register
from sb3_attnmem.zoo.refusals import Refusal
from sb3_attnmem.zoo.search_spaces import sample_extractor_kwargs, sample_rdqn_params
from sb3_attnmem.zoo.settings import as_settings, to_yaml
from sb3_attnmem.zoo.tune.storages import masked
from sb3_attnmem.zoo.tune.studies import claim_study, task_of
from sb3_attnmem.zoo.tune.trials import TrialManager
from tests.extractors.cases import CASES, ENTITIES, Case

register()
gym.register("EntityNoise-v0", entry_point="tests.extractors.cases:Noise", kwargs=dict(space=ENTITIES))
SETTINGS = (
    "{n_timesteps: 64, policy: MlpPolicy, n_envs: 2, buffer_size: 2000, "
    "policy_kwargs: {encoder_arch: [7], memory_class: gru}}"
)
EXTRACTOR = "get_class_by_name('sb3_attnmem.extractors.EntityAttention')"


def make_manager(
    folder: Path, algo: str = "rdqn", env: str = "PassiveTMaze10-v0", settings: str = SETTINGS, **options: Any
) -> TrialManager:
    config = folder / "config.yml"
    config.write_text(f"{env}: {settings}", encoding="utf-8")
    manager = TrialManager(
        argparse.Namespace(),
        algo,
        env,
        str(folder),
        **{
            **dict(config=str(config), optimize_hyperparameters=True, verbose=0, n_timesteps=64, log_interval=-1),
            **options,
        },
    )
    manager.setup_experiment()
    return manager


def test_a_trial_s_settings_are_the_arguments_it_trained_with(tmp_path: Path) -> None:
    """What stands in the file goes through the Zoo and comes out as it was drawn."""
    manager = make_manager(tmp_path)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(100):
        drawn = sample_rdqn_params(study.ask(), 2, 8)
        settings = yaml.safe_load(to_yaml("env", as_settings(drawn), ["a comment"]))["env"]
        read = manager._preprocess_hyperparams({**settings, "n_timesteps": 64})[0]
        rates = [rate(0.3) if callable(rate) else rate for rate in (drawn.pop("learning_rate"), read["learning_rate"])]
        assert rates[0] == pytest.approx(rates[1])
        assert drawn == {name: read[name] for name in drawn}


def test_what_yaml_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be written"):
        as_settings(dict(policy_kwargs=dict(optimizer_kwargs=dict(hook=lambda: None))))
    with pytest.raises(TypeError, match="fall to 0"):
        as_settings(dict(learning_rate=LinearSchedule(1e-3, 1e-4, 1.0)))
    assert as_settings(dict(learning_rate=LinearSchedule(1e-3, 0.0, 1.0))) == dict(learning_rate="lin_0.001")
    assert as_settings(dict(train_freq=(1, "episode"))) == dict(train_freq=[1, "episode"])
    written = as_settings(dict(replay_buffer_class=PrioritizedSequenceReplayBuffer, policy_kwargs=dict(x=th.float16)))
    assert "get_class_by_name('sb3_attnmem." in written["replay_buffer_class"]
    assert written["policy_kwargs"] == "{'x': th.float16}"


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_whatever_is_drawn_for_an_extractor_it_takes(case: Case) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        kwargs = sample_extractor_kwargs(study.ask(), case.extractor_class)
        assert kwargs
        case.build(**kwargs)


def test_foreign_extractors_have_nothing_to_search() -> None:
    trial = optuna.create_study().ask()
    assert sample_extractor_kwargs(trial, None) == {} == sample_extractor_kwargs(trial, th.nn.Linear)


@pytest.mark.parametrize("algo", ["dqn", "qrdqn", "ppo"])
def test_a_search_for_a_stock_algorithm_has_its_extractor_s_arguments(algo: str, tmp_path: Path) -> None:
    policy_kwargs = f"\"dict(features_extractor_class={EXTRACTOR}, features_extractor_kwargs=dict(pooling='mean'))\""
    manager = make_manager(
        tmp_path,
        algo,
        "EntityNoise-v0",
        f"{{n_timesteps: 64, policy: MlpPolicy, policy_kwargs: {policy_kwargs}}}",
        n_eval_episodes=1,
        n_evaluations=1,
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    trial = study.ask()
    manager.objective(trial)
    assert trial.params["extractor_n_heads"] in (1, 2, 4, 8) and "learning_rate" in trial.params
    settings = manager._preprocess_hyperparams({**trial.user_attrs["settings"], "n_timesteps": 64})[0]
    policy_kwargs = settings["policy_kwargs"]
    assert policy_kwargs["features_extractor_class"] is EntityAttention and "net_arch" in policy_kwargs
    assert policy_kwargs["features_extractor_kwargs"]["pooling"] == trial.params["extractor_pooling"]


def test_short_trials_are_judged_on_their_way(tmp_path: Path) -> None:
    assert make_manager(tmp_path).n_evaluations == 8
    assert make_manager(tmp_path, n_timesteps=2_000_000).n_evaluations == 20
    assert make_manager(tmp_path, n_evaluations=3).n_evaluations == 3


def test_reward_normalization_has_the_gamma_that_was_drawn(tmp_path: Path) -> None:
    settings = "{n_timesteps: 64, policy: MlpPolicy, normalize: true, gamma: 0.5, buffer_size: 2000}"
    manager = make_manager(tmp_path, settings=settings, n_eval_episodes=1, n_evaluations=1)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    manager.objective(trial)
    assert manager.normalize_kwargs["gamma"] == pytest.approx(1 - trial.params["one_minus_gamma"])


@pytest.mark.parametrize("error", [MemoryError("no memory left"), ValueError("the loss is NaN")])
def test_a_failure_is_told_and_the_study_goes_on(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make_manager(tmp_path, n_trials=3, no_optim_plots=True, n_eval_episodes=1, n_evaluations=1)
    learn, calls = RecurrentDQN.learn, []

    def learn_or_fail(self: RecurrentDQN, *args: Any, **kwargs: Any) -> RecurrentDQN:
        calls.append(self)
        if len(calls) == 1:
            raise error
        return learn(self, *args, **kwargs)

    monkeypatch.setattr(RecurrentDQN, "learn", learn_or_fail)
    create, studies = optuna.create_study, []

    def watched(*args: Any, **kwargs: Any) -> optuna.Study:
        studies.append(create(*args, **kwargs))
        return studies[0]

    monkeypatch.setattr(optuna, "create_study", watched)
    manager.hyperparameters_optimization()
    states = [trial.state for trial in studies[0].trials]
    assert states[0] == TrialState.FAIL and states[1:] != [TrialState.FAIL] * 2 and len(states) == 3
    assert str(error) in studies[0].trials[0].user_attrs["error"]


def test_a_value_that_is_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = make_manager(tmp_path)
    monkeypatch.setattr(ExperimentManager, "objective", lambda self, trial: float("nan"))
    study = optuna.create_study()
    study.optimize(manager.objective, n_trials=1, catch=(ValueError,))
    assert study.trials[0].user_attrs["error"] == "ValueError: the mean return is nan"


class TestSeveralSeeds:
    def test_the_value_is_their_mean_and_each_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = make_manager(tmp_path, n_seeds=4, n_eval_episodes=1)
        seeds = []
        create = manager.create_envs
        monkeypatch.setattr(manager, "create_envs", lambda *a, **k: seeds.append(manager.seed) or create(*a, **k))
        study = optuna.create_study(direction="maximize", pruner=manager._create_pruner("wilcoxon"))
        study.optimize(manager.objective, n_trials=1)
        trial = study.trials[0]
        assert list(trial.intermediate_values) == [0, 1, 2, 3]
        assert trial.value == pytest.approx(np.mean(trial.user_attrs["scores"]))
        assert set(seeds) == {0, 1, 2, 3} and manager.seed == 0

    def test_a_trial_that_loses_with_every_seed_is_pruned(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manager = make_manager(tmp_path, n_seeds=6)
        study = optuna.create_study(direction="maximize", pruner=manager._create_pruner("wilcoxon"))
        study.optimize(lambda trial: manager._over_seeds(trial, lambda _: 1.0 + 0.01 * manager.seed), n_trials=1)
        study.optimize(lambda trial: manager._over_seeds(trial, lambda _: 0.01 * manager.seed), n_trials=1)
        study.optimize(lambda trial: manager._over_seeds(trial, lambda _: 2.0 + 0.01 * manager.seed), n_trials=1)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
        assert len(study.trials[1].intermediate_values) == 4, "as soon as p can be below 0.1"


def test_stacked_observations_are_normalized_as_stacks(tmp_path: Path) -> None:
    """rl_zoo3 normalises before it stacks: off-policy algorithms then store observations of the wrong shape."""
    settings = "{n_timesteps: 64, policy: MlpPolicy, normalize: true, frame_stack: 3, learning_starts: 20}"
    for algo in ("rdqn", "dqn"):
        manager = make_manager(tmp_path, algo, settings=settings, optimize_hyperparameters=False, eval_freq=32)
        experiment = manager.setup_experiment()
        assert experiment is not None
        manager.learn(experiment[0])
        assert experiment[0].observation_space.shape == (6,), "three stacked observations of two features"
        manager.save_trained_model(experiment[0])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("postgresql://me:sec@ret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:secret@[broken/db", "postgresql://me:***@[broken/db"),
        ("--storage=postgresql+psycopg://me:a/b:c@host/db", "--storage=postgresql+psycopg://me:***@host/db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:///logs/study.db", "sqlite:///logs/study.db"),
        ("grpc://host:13000", "grpc://host:13000"),
        ("--n-trials", "--n-trials"),
    ],
)
def test_passwords_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_a_run_s_files_hold_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sb3_attnmem.zoo.train.manager import ZooManager

    url = "postgresql://me:secret@127.0.0.1/db"
    monkeypatch.setattr("sys.orig_argv", ["sb3-attnmem", "train", "--storage", url])
    config = tmp_path / "config.yml"
    config.write_text(f"PassiveTMaze10-v0: {SETTINGS}", encoding="utf-8")
    manager = ZooManager(
        argparse.Namespace(storage=url),
        "rdqn",
        "PassiveTMaze10-v0",
        str(tmp_path),
        config=str(config),
        storage=url,
        verbose=0,
        checkpoint_freq=0,
        resume=None,
        options=["--storage", url],
    )
    manager.setup_experiment()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("me:***@" in path.read_text(encoding="utf-8") for path in files if path.suffix in (".txt", ".yml"))
    assert not any(b"secret" in path.read_bytes() for path in files)


def test_arguments_of_the_settings_file_are_the_evaluation_s_too(tmp_path: Path) -> None:
    """rl_zoo3 evaluates in the environment as it is without them."""
    settings = SETTINGS.replace("n_envs: 2", "n_envs: 2, env_kwargs: {corridor_length: 4}")
    for more, expected in ((dict(), 4), (dict(eval_env_kwargs=dict(corridor_length=6)), 6)):
        manager = make_manager(tmp_path, settings=settings, **more)
        for eval_env, length in ((False, 4), (True, expected)):
            env = manager.create_envs(1, eval_env=eval_env, no_log=True)
            assert env.get_attr("corridor_length") == [length]
            env.close()


def test_a_search_of_rl_zoo3_s_is_for_one_task_too(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    claim_study(
        optuna.create_study(storage=storage, study_name="mine", direction="maximize"),
        task_of("rdqn", "PassiveTMaze30-v0", None),
    )
    manager = make_manager(tmp_path, storage=storage, study_name="mine", n_trials=1)
    with pytest.raises(Refusal, match="'mine' is for rdqn on PassiveTMaze30-v0, not for rdqn on PassiveTMaze10-v0"):
        manager.hyperparameters_optimization()
    with pytest.raises(Refusal, match="in memory"):
        make_manager(tmp_path, storage="sqlite://", n_trials=1).hyperparameters_optimization()


def test_a_sampler_whose_package_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optunahub", None)
    with pytest.raises(ImportError, match="--sampler auto needs the package optunahub: pip install"):
        make_manager(tmp_path, sampler="auto").make_sampler()
