"""
``sb3-attnmem``: rl_zoo3's own programs with their own flags, with ``rdqn`` among their algorithms and our settings as
the default of ``-conf``.
"""

import difflib
import importlib
import json
import runpy
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from sb3_attnmem.zoo.options import value_of, values_of, without

HELP = """usage: sb3-attnmem COMMAND [options]

The RL Zoo with attention and memory. The commands are rl_zoo3's programs and take its options
(sb3-attnmem COMMAND --help); tune, inspect and export are ours. --algo rdqn is RecurrentDQN.
train takes some options more:

  --checkpoint-freq N    every N environment steps, save all that training depends on
  --resume RUN_FOLDER    go on with such a run (logs/rdqn/ENV_1) from its last checkpoint
  --pretrained AGENT     begin with what another agent learned (a .zip, also of another algorithm)
  --parts PART ...       only with these of its parts (features_extractor, encoder, memory, q_head, ...)
  --freeze WHAT ...      what does not learn: parts, patterns such as *.bias, all, or a number of blocks
  --adapters PART ...    these learn by low-rank adapters
  --learning-rates PART:SHARE ...    these learn at a share of the learning rate
  --offline-data PATH    learn first from a saved replay buffer (.pkl) or a Minari dataset (folder or id)
  --offline-updates N    gradient steps on it (10000)
  --conservative-weight X    of conservative Q-learning in these steps (0)
  --old-share X          of the data in each batch of the run that follows (0.5; 0 drops them)

"""


class Command(NamedTuple):
    """
    :param module: of rl_zoo3, or ours
    :param function: that it is called by; None where the module is the program
    :param help: a line
    """

    module: str
    function: str | None
    help: str


COMMANDS = {
    "train": Command("rl_zoo3.train", "train", "train an agent, or go on with one (-i)"),
    "enjoy": Command("rl_zoo3.enjoy", "enjoy", "watch a trained agent, and its score"),
    "record-video": Command("rl_zoo3.record_video", None, "record a video of a trained agent"),
    "benchmark": Command("rl_zoo3.benchmark", None, "score all trained agents of a folder"),
    "tune": Command(
        "sb3_attnmem.zoo.tune.command", "main", "search for better settings, with as many workers as you like"
    ),
    "inspect": Command("sb3_attnmem.zoo.inspect", "main", "see what an agent looks at, and how far back it remembers"),
    "export": Command("sb3_attnmem.zoo.export", "main", "write an agent as an ONNX file"),
    "plot-train": Command("rl_zoo3.plots.plot_train", "plot_train", "plot training scores"),
    "plot-eval": Command("rl_zoo3.plots.all_plots", "all_plots", "plot evaluations of several agents"),
    "push-to-hub": Command("rl_zoo3.push_to_hub", None, "put a trained agent on the Hugging Face hub"),
    "load-from-hub": Command("rl_zoo3.load_from_hub", None, "fetch one from there"),
}


#: commands of rl_zoo3's that load an agent of a folder
LOADERS = ("enjoy", "record-video", "push-to-hub")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: the command and its options; those of the process by default
    :return: the exit code: 2 where the command line does not make sense
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP + "\n".join(f"  {name:<14} {command.help}" for name, command in COMMANDS.items()))
        return 0 if arguments else 2
    name, *options = arguments
    if name not in COMMANDS:
        return _refuse(f"unknown command '{name}'{_nearest(name, COMMANDS)} (sb3-attnmem --help lists them)")
    from sb3_attnmem.zoo.registration import register, settings_for

    register()
    patches: list[Any] = []
    if name == "train":
        try:
            options, patches = _resuming(options)
        except (OSError, ValueError) as error:
            return _refuse(str(error))
    if name in ("push-to-hub", "load-from-hub"):
        from sb3_attnmem.zoo.patches import mended_hub

        patches.append(mended_hub())
    problem = _check(options) or (_find_agent(options) if name in LOADERS else None)
    if problem:
        return _refuse(problem)
    if name == "train" and not {"-conf", "--conf-file"} & set(options):
        config = settings_for(value_of(options, "--algo", "ppo"), value_of(options, "--env", "CartPole-v1"))
        options += ["-conf", str(config)] if config else []
    return _hand_over(COMMANDS[name], name, options, patches)


def _resuming(options: list[str]) -> tuple[list[str], list[Any]]:
    """
    :param options: of ``train``
    :return: those of rl_zoo3's, and what must be patched in it
    :raises ValueError: for a number that is none
    :raises OSError: when the folder to go on with is not one of ours
    """
    from sb3_attnmem.zoo.manager import OPTIONS_FILE, ZooManager
    from sb3_attnmem.zoo.patches import manager_of_train
    from sb3_attnmem.zoo.pretraining import read_pretraining, without_pretraining

    folder = value_of(options, "--resume", None)
    if folder is not None:
        path = Path(folder) / OPTIONS_FILE
        if not path.exists():
            raise FileNotFoundError(
                f"--resume {folder}: there is no {path}; only runs of `sb3-attnmem train --checkpoint-freq N` can be "
                "gone on with"
            )
        options = json.loads(path.read_text(encoding="utf-8"))
    typed = list(options)
    frequency = value_of(options, "--checkpoint-freq", "0")
    if not frequency.isdigit():
        raise ValueError(f"--checkpoint-freq {frequency}: pass a number of environment steps")
    # A checkpoint holds all that a run began with
    pretraining = read_pretraining(options) if folder is None else None
    options = without_pretraining(without(options, "--checkpoint-freq"))
    manager = partial(
        ZooManager,
        checkpoint_freq=int(frequency),
        resume=None if folder is None else Path(folder),
        options=typed,
        pretraining=pretraining,
    )
    return options, [manager_of_train(manager)]


def _hand_over(command: Command, name: str, options: list[str], patches: list[Any]) -> int:
    from sb3_attnmem.zoo.patches import our_programs

    argv = [f"sb3-attnmem {name}", *options]
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        stack.enter_context(our_programs())
        for patch in patches:
            stack.enter_context(patch)
        try:
            if command.function is None:
                runpy.run_module(command.module, run_name="__main__")
            else:
                return int(getattr(importlib.import_module(command.module), command.function)() or 0)
        except SystemExit as end:  # of argparse
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    return 0


def _check(options: list[str]) -> str | None:
    """:return: what is wrong with the algorithm or the environment, before rl_zoo3 builds anything"""
    import gymnasium as gym
    from rl_zoo3.utils import ALGOS

    algo = value_of(options, "--algo", "ppo")
    if algo not in ALGOS:
        return f"unknown algorithm '{algo}'{_nearest(algo, ALGOS)}; known are {', '.join(sorted(ALGOS))}"
    env = value_of(options, "--env", None)
    for package in values_of(options, "--gym-packages"):
        importlib.import_module(package)
    if env is not None and ":" not in env and env not in gym.registry:
        return (
            f"unknown environment '{env}'{_nearest(env, gym.registry)}; name the package that registers it, "
            "for example --gym-packages popgym"
        )
    return None


def _find_agent(options: list[str]) -> str | None:
    """:return: what is wrong with the folder that an agent is loaded from, before rl_zoo3 ends with a traceback"""
    from rl_zoo3.utils import get_model_path

    folder = value_of(options, "-f", value_of(options, "--folder", None))
    number = value_of(options, "--exp-id", "0")
    if folder is None or "rl-trained-agents" in folder or not number.lstrip("-").isdigit():
        return None  # rl_zoo3 has defaults, downloads and messages for these
    algo, env = value_of(options, "--algo", "ppo"), value_of(options, "--env", "CartPole-v1")
    try:
        get_model_path(int(number), folder, algo, env)
    except (AssertionError, ValueError) as error:
        return f"{error}; -f names the folder of logs"
    return None


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else ""


def _refuse(why: str) -> int:
    print(f"sb3-attnmem: {why}", file=sys.stderr)
    return 2
