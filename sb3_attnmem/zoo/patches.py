"""
Every change that we make to rl_zoo3, to the hub's packages and to what they call, for as long as a ``with`` lasts.

Each says why. ``tests/zoo/test_patches.py`` has a test of each that fails when a release moves what is patched.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any
from unittest import mock

import optuna
import rl_zoo3.callbacks
import rl_zoo3.utils
import yaml
from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.common.names import nearest
from sb3_attnmem.distributed import learn_with_actors
from sb3_attnmem.dqn_recurrent import MaskedEvalCallback, RecurrentDQN, WholeFileEvalCallback, playing_masked
from sb3_attnmem.envs import EndingSubprocVecEnv
from sb3_attnmem.zoo.run_files import RunLoader, check_run_folder
from sb3_attnmem.zoo.tune.storages import masked


def manager_of_train(manager: Callable[..., Any]) -> AbstractContextManager[Any]:
    """``rl_zoo3.train`` names its class of managers itself, and has no argument for another."""
    return mock.patch("rl_zoo3.train.ExperimentManager", manager)


@contextmanager
def our_programs() -> Iterator[None]:
    """rl_zoo3's ``benchmark`` and ``record_training`` start its other programs, which do not know ``rdqn``: ours do."""
    ours = {"enjoy.py": "enjoy", "rl_zoo3.enjoy": "enjoy", "rl_zoo3.record_video": "record-video"}
    call = subprocess.call

    def call_ours(command: Sequence[str], *args: Any, **kwargs: Any) -> int:
        for i, word in enumerate(command[:3]):
            if word in ours:
                command = [sys.executable, "-m", "sb3_attnmem", ours[word], *command[i + 1 :]]
                break
        return call(command, *args, **kwargs)

    with mock.patch.object(subprocess, "call", call_ours):
        yield


@contextmanager
def examined_options(
    examine: Callable[[argparse.ArgumentParser, argparse.Namespace], argparse.Namespace], more_help: str = ""
) -> Iterator[None]:
    """
    rl_zoo3's parsers live inside its programs, and options have many spellings (``-conf``, ``-c``, ``--conf=``): they
    are read with the program's own parser. The first command line that is read inside the ``with`` is the program's.

    :param examine: takes the parser and what it read, and returns what the program shall go by
    :param more_help: what the program's ``--help`` ends with
    """
    read = argparse.ArgumentParser.parse_args

    def read_and_examine(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        first.stop()
        algo = parser._option_string_actions.get("--algo")
        if algo is not None and algo.choices is not None:
            algo.type = _known_algorithm(list(algo.choices))
        own_help = parser.format_help
        with mock.patch.object(parser, "format_help", lambda: own_help() + more_help):
            arguments = read(parser, args, namespace)
        return examine(parser, arguments)

    first = mock.patch.object(argparse.ArgumentParser, "parse_args", read_and_examine)
    first.start()
    try:
        yield
    finally:
        if argparse.ArgumentParser.parse_args is not read:
            first.stop()


def masked_command_line() -> AbstractContextManager[Any]:
    """rl_zoo3 writes the command line into a run's folder and into the study, a storage's password with it."""
    return mock.patch.object(sys, "orig_argv", [masked(word) for word in sys.orig_argv])


def sampler_of(algo: str, sample: Callable[..., dict[str, Any]]) -> AbstractContextManager[Any]:
    """
    rl_zoo3's ``objective`` looks up what a trial draws by the algorithm's name, and replaces the settings by it.

    :param algo: its name
    :param sample: what is called instead, with the same arguments
    """
    return mock.patch.dict(HYPERPARAMS_SAMPLER, {algo: sample})


def failures_fail_their_trial() -> AbstractContextManager[Any]:
    """What rl_zoo3 does not expect (no memory left, say) would end the study: here it fails its trial."""
    forgiving = partialmethod(optuna.Study.optimize, catch=(Exception,))
    return mock.patch.object(optuna.Study, "optimize", forgiving)


def studies_without_storage() -> AbstractContextManager[Any]:
    """
    rl_zoo3 pickles a study with its report, and with the study its storage and the storage's password: here it pickles
    a copy in memory.
    """
    theirs = importlib.import_module("rl_zoo3.exp_manager").pkl

    def dump(study: optuna.Study, file: IO[bytes]) -> None:
        copy = optuna.study.create_study(study_name=study.study_name, directions=study.directions)
        copy.add_trials(study.trials)
        for name, value in study.user_attrs.items():
            copy.set_user_attr(name, value)
        theirs.dump(copy, file)

    return mock.patch("rl_zoo3.exp_manager.pkl", SimpleNamespace(dump=dump))


@contextmanager
def run_files_are_data() -> Iterator[None]:
    """
    rl_zoo3's programs read ``args.yml`` and ``config.yml`` of a run's folder with yaml's unsafe loader, which builds
    what the file names and so runs what its author wrote, and evaluate ``normalize``. Here they build nothing.
    """
    read = rl_zoo3.utils.get_saved_hyperparams

    def read_checked(stats_path: str, *args: Any, **kwargs: Any) -> Any:
        check_run_folder(stats_path)
        return read(stats_path, *args, **kwargs)

    with (
        mock.patch.object(yaml, "UnsafeLoader", RunLoader),
        mock.patch.object(rl_zoo3.utils, "get_saved_hyperparams", read_checked),
        mock.patch("rl_zoo3.enjoy.get_saved_hyperparams", read_checked),
    ):
        yield


def env_processes_end_with_their_run() -> AbstractContextManager[Any]:
    """rl_zoo3 plays agents in several environments with SB3's processes, which outlive a run that is killed."""
    return mock.patch.object(rl_zoo3.utils, "SubprocVecEnv", EndingSubprocVecEnv)


def whole_evaluations() -> AbstractContextManager[Any]:
    """rl_zoo3's manager makes SB3's ``EvalCallback``, which writes ``evaluations.npz`` in place: a kill breaks it."""
    return mock.patch("rl_zoo3.exp_manager.EvalCallback", WholeFileEvalCallback)


class MaskedTrialEvalCallback(rl_zoo3.callbacks.TrialEvalCallback, MaskedEvalCallback):
    """rl_zoo3's evaluations of a trial, with action masks."""


def masked_trials() -> AbstractContextManager[Any]:
    """rl_zoo3 evaluates a trial's agent as SB3 does, without action masks."""
    return mock.patch("rl_zoo3.exp_manager.TrialEvalCallback", MaskedTrialEvalCallback)


@contextmanager
def masks_while_playing() -> Iterator[None]:
    """rl_zoo3's programs that play an agent make the environment, load the agent, and act without action masks."""
    made: list[VecEnv] = []
    create, load = rl_zoo3.utils.create_test_env, RecurrentDQN.load.__func__  # type: ignore[attr-defined]

    def create_and_remember(*args: Any, **kwargs: Any) -> VecEnv:
        made.append(create(*args, **kwargs))
        return made[-1]

    def load_player(kind: type[RecurrentDQN], *args: Any, **kwargs: Any) -> Any:
        model = load(kind, *args, **kwargs)
        return stack.enter_context(playing_masked(model, made[-1])) if made else model

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(rl_zoo3.utils, "create_test_env", create_and_remember))
        stack.enter_context(mock.patch("rl_zoo3.enjoy.create_test_env", create_and_remember))
        stack.enter_context(mock.patch.object(RecurrentDQN, "load", classmethod(load_player)))
        yield


def learning_goes_on(kind: type[BaseAlgorithm]) -> AbstractContextManager[Any]:
    """
    rl_zoo3's manager calls ``model.learn`` without ``reset_num_timesteps``: a run that goes on would count from 0.

    :param kind: class of the model
    """
    return mock.patch.object(kind, "learn", partialmethod(kind.learn, reset_num_timesteps=False))


def learning_with_actors(kind: type[RecurrentDQN], **options: Any) -> AbstractContextManager[Any]:
    """
    rl_zoo3's manager calls ``model.learn``, which steps the model's own environments: here actors step theirs.

    :param kind: class of the model
    :param options: of :func:`~sb3_attnmem.distributed.learn_with_actors`
    """

    def learn(model: RecurrentDQN, total_timesteps: int, **kwargs: Any) -> RecurrentDQN:
        return learn_with_actors(model, total_timesteps=total_timesteps, **options, **kwargs)

    return mock.patch.object(kind, "learn", learn)


@contextmanager
def mended_hub() -> Iterator[None]:
    """
    rl_zoo3's programs for the Hugging Face hub lag behind its packages, which renamed a function and raise another
    error for a file that is not there; and a model's page names rl_zoo3's commands, which do not know ``rdqn``.
    """
    import huggingface_sb3
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from requests.exceptions import HTTPError

    helpers = importlib.import_module("huggingface_sb3.push_to_hub")  # the attribute of that name is a function
    upload, download = HfApi.upload_folder, huggingface_sb3.load_from_hub

    def download_or_http_error(repo_id: str, filename: str) -> str:
        try:
            return str(download(repo_id, filename))
        except LocalEntryNotFoundError:  # the hub was out of reach: that says nothing of the file
            raise
        except EntryNotFoundError as error:
            raise HTTPError(str(error)) from error

    def upload_ours(api: HfApi, *args: Any, folder_path: str | Path, **kwargs: Any) -> Any:
        page = Path(folder_path) / "README.md"
        if page.exists():
            page.write_text(_with_our_commands(page.read_text(encoding="utf-8")), encoding="utf-8")
        return upload(api, *args, folder_path=folder_path, **kwargs)

    def metadata(model_name: str, env_id: str, mean_reward: float, std_reward: float) -> dict[str, Any]:
        return dict(helpers._generate_metadata(model_name, env_id, mean_reward, std_reward).to_dict())

    with (
        mock.patch.object(HfApi, "upload_folder", upload_ours),
        mock.patch.object(huggingface_sb3, "load_from_hub", download_or_http_error),
        mock.patch.object(helpers, "generate_metadata", getattr(helpers, "generate_metadata", metadata), create=True),
    ):
        yield


def _with_our_commands(page: str) -> str:
    for name in ("train", "enjoy", "load_from_hub", "push_to_hub"):
        page = page.replace(f"python -m rl_zoo3.{name}", f"sb3-attnmem {name.replace('_', '-')}")
    page = page.replace(
        "Install the RL Zoo (with SB3 and SB3-Contrib):", "Install the RL Zoo with attention and memory:"
    )
    return page.replace("pip install rl_zoo3", 'pip install "sb3_attnmem[zoo]"')


def _known_algorithm(known: list[str]) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise argparse.ArgumentTypeError(f"unknown algorithm '{name}'{hint}; known are {', '.join(sorted(known))}")
        return name

    return check
