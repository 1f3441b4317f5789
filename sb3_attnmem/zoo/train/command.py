"""``sb3-attnmem train``: our options are read first, what is left goes to rl_zoo3's program."""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rl_zoo3.utils import ALGOS
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.checkpoint_files import lock_folder
from sb3_attnmem.zoo.patches import manager_of_train
from sb3_attnmem.zoo.programs import Command, refuse, run
from sb3_attnmem.zoo.registration import settings_for
from sb3_attnmem.zoo.train.actors import ActorOptions
from sb3_attnmem.zoo.train.manager import ZooManager
from sb3_attnmem.zoo.train.offline_data import read_offline
from sb3_attnmem.zoo.train.parser import option_name, own_help, read_own_options
from sb3_attnmem.zoo.train.pretraining import read_pretraining
from sb3_attnmem.zoo.train.run_folder import Resumed, RunFolder

#: options of rl_zoo3's that may stand beside --resume: they do not change what the run is
BESIDE_RESUME = ("n_timesteps", "device", "verbose", "progress", "num_threads")
#: ours that may
OWN_BESIDE_RESUME = ("resume", "checkpoint_freq", "actors", "ray_address")


class Unset:
    """What an option holds that was not given."""


def train(program: Command, words: Sequence[str], check_names: Callable[[argparse.Namespace], None]) -> int:
    """
    :param program: rl_zoo3's
    :param words: the command line, without the command
    :param check_names: refuses algorithms and environments that are not there
    :return: the exit code: 2 where the command line does not make sense
    """
    try:
        own, rest = read_own_options(words)
        folder = None if "resume" not in own else RunFolder.find(own.resume)
        pretraining = read_pretraining(own)
    except (OSError, ValueError) as error:
        return refuse(error)
    except SystemExit as end:  # argparse has said why
        return int(end.code or 0)
    managed: dict[str, Any] = {}  # what our manager is told
    with ExitStack() as stack:

        def examine(parser: argparse.ArgumentParser, read: argparse.Namespace) -> argparse.Namespace:
            if folder is None:
                read = _begun(own, read, check_names)
                managed.update(checkpoint_freq=getattr(own, "checkpoint_freq", 0), pretraining=pretraining)
                managed.update(actors=_actors(own))
                return read
            lock = lock_folder(folder.checkpoints) if folder.checkpoints.is_dir() else None
            if lock is not None:
                stack.callback(lock.release)
            read, freq, resumed = _resumed(folder, own, parser, rest, read)
            begun, _ = read_own_options(folder.options)
            managed.update(checkpoint_freq=freq, resume=resumed, actors=_actors(begun, own))
            check_names(read)
            return read

        def manager(*args: Any, **kwargs: Any) -> ZooManager:
            return ZooManager(*args, options=list(words), **managed, **kwargs)

        return run(program, "train", rest, examine, own_help(), [manager_of_train(manager)])


def _begun(
    own: argparse.Namespace, read: argparse.Namespace, check_names: Callable[[argparse.Namespace], None]
) -> argparse.Namespace:
    """
    :param own: our options that were given
    :param read: rl_zoo3's, with their defaults
    :return: rl_zoo3's, with our settings where none are named
    :raises ValueError: where they make no sense
    """
    check_names(read)
    _check_together(own, read)
    if read.conf_file is None:
        ours = settings_for(read.algo, read.env)
        read.conf_file = None if ours is None else str(ours)
    else:
        _check_conf(read.conf_file)
    if read.trained_agent and not (read.trained_agent.endswith(".zip") and Path(read.trained_agent).is_file()):
        raise ValueError(f"-i {read.trained_agent}: pass the .zip file of an agent; there is no such file")
    return read


def _actors(*given: argparse.Namespace) -> ActorOptions | None:
    """
    :param given: our options, later ones in the place of earlier ones
    :return: who steps the environments; None: the run itself
    :raises ModuleNotFoundError: when that is Ray's, and Ray is not installed
    """
    options = {name: value for one in given for name, value in vars(one).items()}
    if "actors" not in options:
        return None
    importlib.import_module("ray")
    return ActorOptions(options["actors"], options.get("ray_address"))


def _check_conf(conf: str) -> None:
    if conf.endswith((".yml", ".yaml", ".py")):
        if not Path(conf).is_file():
            raise ValueError(f"-conf {conf}: there is no such file")
        return
    try:
        found = importlib.util.find_spec(conf)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ValueError(f"-conf {conf}: this is no .yml, .yaml or .py file, and there is no such module")


def _check_together(own: argparse.Namespace, read: argparse.Namespace) -> None:
    given = [option_name(name) for name in vars(own)]
    if read.optimize_hyperparameters and given:
        raise ValueError(f"{', '.join(given)}: a search trains many agents from scratch; leave these options out")
    if "ray_address" in own and "actors" not in own:
        raise ValueError("--ray-address says where actors run: pass --actors N as well")
    if "actors" in own and not issubclass(ALGOS[read.algo], RecurrentDQN):
        raise ValueError(f"--actors is for rdqn and rqrdqn, not for {read.algo}")
    if "checkpoint_freq" in own and not issubclass(ALGOS[read.algo], OffPolicyAlgorithm):
        raise ValueError(f"--checkpoint-freq is for algorithms with a replay buffer, not for {read.algo}")


def _resumed(
    folder: RunFolder,
    own: argparse.Namespace,
    parser: argparse.ArgumentParser,
    rest: list[str],
    read: argparse.Namespace,
) -> tuple[argparse.Namespace, int, Resumed]:
    """
    :param folder: of the run to go on with
    :param own: our options that were given beside --resume
    :param parser: rl_zoo3's
    :param rest: its options that were given beside --resume
    :param read: the same, with their defaults
    :return: rl_zoo3's options of the run, the steps from one checkpoint to the next, and where the run goes on
    :raises OSError: when there is no checkpoint to go on from
    :raises ValueError: for options that the run cannot be given any more
    :raises SystemExit: when it is finished
    """
    given = parser.parse_args(rest, argparse.Namespace(**dict.fromkeys(vars(read), Unset)))
    names = [name for name in vars(given) if vars(given)[name] is not Unset]
    wrong = [name for name in names if name not in BESIDE_RESUME]
    wrong += [name for name in vars(own) if name not in OWN_BESIDE_RESUME]
    if wrong:
        raise ValueError(
            f"{', '.join(map(option_name, wrong))}: --resume goes on with the run as it was begun; beside it stand "
            f"{', '.join(map(option_name, (*BESIDE_RESUME, *OWN_BESIDE_RESUME[1:])))}"
        )
    begun, words = read_own_options(folder.options)
    steps = given.n_timesteps if "n_timesteps" in names else None
    if folder.finished is not None and (steps is None or steps <= folder.finished):
        print(f"{folder.path} is finished, at {folder.finished:,} steps; -n with more of them goes on")
        raise SystemExit(0)
    checkpoint = folder.newest()
    if steps is not None:
        if steps <= checkpoint.steps:
            raise ValueError(f"-n {steps}: the run has {checkpoint.steps:,} steps already")
        folder.n_timesteps, folder.finished = steps, None
    read = parser.parse_args(words)
    # What these led to stands in the settings; the agent that the run began with is in its checkpoint
    read.conf_file = str(folder.settings)
    read.hyperparams = read.storage = read.study_name = read.trial_id = None
    read.trained_agent = ""
    for name in names:
        setattr(read, name, getattr(given, name))
    if folder.n_timesteps is not None:
        read.n_timesteps = folder.n_timesteps
    is_offline = checkpoint.manifest()["updates"] is not None
    resumed = Resumed(folder, checkpoint, read_offline(begun) if is_offline else None)
    return read, getattr(own, "checkpoint_freq", getattr(begun, "checkpoint_freq", 0)), resumed
