"""What we change in other packages is still where we change it, and is as it was afterwards."""

import argparse
import importlib
import importlib.util
import inspect
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import huggingface_sb3
import numpy as np
import optuna
import pytest
import rl_zoo3.callbacks
import rl_zoo3.enjoy
import rl_zoo3.exp_manager
import rl_zoo3.train
import rl_zoo3.utils
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem.dqn_recurrent import MaskedEvalCallback, RecurrentDQN, WholeFileEvalCallback
from sb3_attnmem.envs import EndingSubprocVecEnv
from sb3_attnmem.zoo import patches
from sb3_attnmem.zoo.cli import COMMANDS
from sb3_attnmem.zoo.run_files import RunLoader
from tests.ledger import MaskedLedger


def source(thing: Any) -> str:
    """:return: of a function; or of a module by its name: some of rl_zoo3's run when they are imported"""
    if not isinstance(thing, str):
        return inspect.getsource(thing)
    spec = importlib.util.find_spec(thing)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def test_train_makes_our_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reached(Exception):
        pass

    def manager(*args: Any, **kwargs: Any) -> None:
        raise Reached

    monkeypatch.setattr(sys, "argv", ["train", "--env", "CartPole-v1", "--verbose", "0"])
    with patches.manager_of_train(manager), pytest.raises(Reached):
        rl_zoo3.train.train()
    assert rl_zoo3.train.ExperimentManager is rl_zoo3.exp_manager.ExperimentManager


@pytest.mark.parametrize(
    ("called", "ours"),
    [
        ([sys.executable, "enjoy.py", "--algo", "x"], ["enjoy", "--algo", "x"]),
        ([sys.executable, "-m", "rl_zoo3.enjoy", "-f", "x"], ["enjoy", "-f", "x"]),
        (["python", "-m", "rl_zoo3.record_video"], ["record-video"]),
    ],
)
def test_programs_that_programs_call_are_ours(
    called: list[str], ours: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "call", lambda command, **kwargs: calls.append(command) or 0)
    with patches.our_programs():
        subprocess.call(called)
        subprocess.call(["ls"])
    assert calls == [[sys.executable, "-m", "sb3_attnmem", *ours], ["ls"]]


def test_rl_zoo3_calls_its_programs_as_we_expect() -> None:
    assert 'subprocess.call(["python", "enjoy.py"' in source("rl_zoo3.benchmark")
    assert 'subprocess.call(["python", "-m", "rl_zoo3.record_video"' in source("rl_zoo3.record_training")


def test_no_password_in_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["train", "--storage", "postgresql://me:secret@host/db"])
    with patches.masked_command_line():
        assert sys.orig_argv == ["train", "--storage", "postgresql://me:***@host/db"]
    assert "secret" in sys.orig_argv[2]
    manager = rl_zoo3.exp_manager.ExperimentManager
    assert "sys.orig_argv" in source(manager._save_config)
    assert "sys.orig_argv" in source(manager.hyperparameters_optimization)


def test_a_trial_draws_what_we_draw() -> None:
    theirs = rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER["dqn"]
    with patches.sampler_of("dqn", lambda *args: dict(args=args)):
        assert rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER["dqn"](1, 2) == dict(args=(1, 2))
    assert rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER["dqn"] is theirs
    assert "HYPERPARAMS_SAMPLER[self.algo](" in source(rl_zoo3.exp_manager.ExperimentManager.objective)


def test_a_failure_fails_its_trial_only() -> None:
    def fail(trial: optuna.Trial) -> float:
        raise MemoryError

    study = optuna.create_study()
    with patches.failures_fail_their_trial():
        study.optimize(fail, n_trials=2)
    assert len(study.trials) == 2
    with pytest.raises(MemoryError):
        study.optimize(fail, n_trials=1)
    assert "study.optimize(" in source(rl_zoo3.exp_manager.ExperimentManager.hyperparameters_optimization)


def test_steps_go_on_counting() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=1_000, buffer_size=100, device="cpu")
    model.learn(8)
    with patches.learning_goes_on(DQN):
        model.learn(8)
    assert model.num_timesteps == 16
    model.learn(8)
    assert model.num_timesteps == 8
    assert "model.learn(self.n_timesteps, **kwargs)" in source(rl_zoo3.exp_manager.ExperimentManager.learn)


def test_the_hub_s_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    helpers = importlib.import_module("huggingface_sb3.push_to_hub")
    monkeypatch.delattr(helpers, "generate_metadata", raising=False)
    theirs = huggingface_sb3.load_from_hub, huggingface_hub.HfApi.upload_folder
    with patches.mended_hub():
        described = helpers.generate_metadata("dqn", "CartPole-v1", np.float64(1.0), np.float64(0.5))
        assert huggingface_sb3.load_from_hub is not theirs[0]
    assert described["model-index"][0]["name"] == "dqn"
    assert (huggingface_sb3.load_from_hub, huggingface_hub.HfApi.upload_folder) == theirs
    assert "generate_metadata(" in source("rl_zoo3.push_to_hub")


PROGRAMS = [command.module for command in COMMANDS.values() if command.module.startswith("rl_zoo3.")]


@pytest.mark.parametrize("module", PROGRAMS)
def test_every_program_reads_its_options_with_one_parser(module: str) -> None:
    assert source(module).count(".parse_args()") == 1 and "parse_known_args" not in source(module)


def test_the_first_options_that_are_read_are_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args = argparse.ArgumentParser.parse_args

    def examine(parser: argparse.ArgumentParser, read: argparse.Namespace) -> argparse.Namespace:
        return argparse.Namespace(x=read.x + 1, again=parser.parse_args(["-x", "5"]).x)

    with patches.examined_options(examine):
        parser = argparse.ArgumentParser()
        parser.add_argument("-x", type=int)
        assert parser.parse_args(["-x", "2"]) == argparse.Namespace(x=3, again=5)
        assert parser.parse_args(["-x", "2"]) == argparse.Namespace(x=2)
    assert argparse.ArgumentParser.parse_args is parse_args
    with patches.examined_options(examine):
        pass
    assert argparse.ArgumentParser.parse_args is parse_args


def test_a_report_s_pickle_holds_no_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/secret.db"
    study = optuna.create_study(storage=url, study_name="name", direction="maximize")
    study.set_user_attr("a", 1)
    study.optimize(lambda trial: trial.suggest_float("x", 0.0, 1.0), n_trials=2)
    with (tmp_path / "study.pkl").open("wb") as file, patches.studies_without_storage():
        rl_zoo3.exp_manager.pkl.dump(study, file)
    assert b"secret" not in (tmp_path / "study.pkl").read_bytes()
    again = pickle.loads((tmp_path / "study.pkl").read_bytes())
    assert again.study_name == "name" and again.user_attrs == dict(a=1) and again.best_params == study.best_params
    assert rl_zoo3.exp_manager.pkl is pickle
    assert "pkl.dump(study, f)" in source(rl_zoo3.exp_manager.ExperimentManager.hyperparameters_optimization)


def test_files_of_a_run_are_read_as_data() -> None:
    """What they must not do is in test_run_files.py; here, that rl_zoo3 still reads them where we change it."""
    unsafe, read = yaml.UnsafeLoader, rl_zoo3.utils.get_saved_hyperparams
    with patches.run_files_are_data():
        assert yaml.UnsafeLoader is RunLoader
        assert rl_zoo3.enjoy.get_saved_hyperparams is rl_zoo3.utils.get_saved_hyperparams is not read
    assert yaml.UnsafeLoader is unsafe and rl_zoo3.enjoy.get_saved_hyperparams is rl_zoo3.utils.get_saved_hyperparams
    for name in ("enjoy", "utils", "record_video", "push_to_hub", "benchmark", "load_from_hub"):
        text = source(f"rl_zoo3.{name}")
        assert "unsafe_load" not in text and "full_load" not in text
        assert text.count("yaml.load(") == text.count("Loader=yaml.UnsafeLoader)"), name
        assert "eval(" not in text or name == "utils", name
    assert source(rl_zoo3.utils.get_saved_hyperparams).count("eval(") == 1


def test_processes_of_environments_end_with_their_run() -> None:
    theirs = rl_zoo3.utils.SubprocVecEnv
    with patches.env_processes_end_with_their_run():
        assert rl_zoo3.utils.SubprocVecEnv is EndingSubprocVecEnv
    assert rl_zoo3.utils.SubprocVecEnv is theirs
    assert "vec_env_cls = SubprocVecEnv if n_envs > 1" in source(rl_zoo3.utils.create_test_env)


def test_agents_are_played_and_tried_with_action_masks() -> None:
    create, load = rl_zoo3.utils.create_test_env, RecurrentDQN.__dict__.get("load")
    env = DummyVecEnv([lambda: MaskedLedger(0, (3,))])
    model = RecurrentDQN("MlpPolicy", env, buffer_size=100, policy_kwargs=dict(memory_class="none"))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(rl_zoo3.utils, "create_test_env", lambda: env):
        model.save(f"{folder}/model.zip")
        with patches.masks_while_playing():
            played = rl_zoo3.utils.create_test_env()
            player = RecurrentDQN.load(f"{folder}/model.zip")
            observation = played.reset()
            for _ in range(9):  # the ledger raises where an action is not valid
                observation, *_ = played.step(player.predict(observation, deterministic=True)[0])
            assert rl_zoo3.enjoy.create_test_env is rl_zoo3.utils.create_test_env
    assert rl_zoo3.utils.create_test_env is create and rl_zoo3.enjoy.create_test_env is create
    assert RecurrentDQN.__dict__.get("load") is load and "step_wait" not in vars(env)
    for name in ("enjoy", "record_video"):
        text = source(f"rl_zoo3.{name}")
        assert text.index("env = create_test_env(") < text.index("ALGOS[algo].load(") < text.index("env.reset()")
        assert "model.predict(" in text
    with patches.masked_trials():
        assert issubclass(rl_zoo3.exp_manager.TrialEvalCallback, MaskedEvalCallback)
    assert "eval_callback = TrialEvalCallback(" in source(rl_zoo3.exp_manager.ExperimentManager.objective)
    assert "super()._on_step()" in source(rl_zoo3.callbacks.TrialEvalCallback._on_step)


def test_evaluations_of_runs_are_written_whole() -> None:
    source_of_manager = source(rl_zoo3.exp_manager.ExperimentManager.create_callbacks)
    assert "eval_callback = EvalCallback(" in source_of_manager
    theirs = rl_zoo3.exp_manager.EvalCallback
    with patches.whole_evaluations():
        assert rl_zoo3.exp_manager.EvalCallback is WholeFileEvalCallback
    assert rl_zoo3.exp_manager.EvalCallback is theirs
