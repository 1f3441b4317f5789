"""
``sb3-attnmem``: rl_zoo3's own programs with their own flags, with ``rdqn`` among their algorithms and our settings as
the default of ``-conf``.
"""

import argparse
import contextlib
import importlib
import io
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sb3_attnmem.common.names import nearest
from sb3_attnmem.zoo.programs import Command, refuse, run

HELP = """usage: sb3-attnmem COMMAND [options]

The RL Zoo with attention and memory. The commands are rl_zoo3's programs and take its options
(sb3-attnmem COMMAND --help); tune, inspect, doctor and export are ours, and train has options of ours
beside rl_zoo3's. --algo rdqn is RecurrentDQN, rqrdqn RecurrentQRDQN.

"""

COMMANDS = {
    "train": Command("rl_zoo3.train", "train", "train an agent, or go on with one (--resume, -i)"),
    "enjoy": Command("rl_zoo3.enjoy", "enjoy", "watch a trained agent, and its score"),
    "record-video": Command("rl_zoo3.record_video", None, "record a video of a trained agent"),
    "record-training": Command(
        "rl_zoo3.record_training", None, "record how an agent got better, checkpoint by checkpoint"
    ),
    "benchmark": Command("rl_zoo3.benchmark", None, "score all trained agents of a folder"),
    "tune": Command(
        "sb3_attnmem.zoo.tune.command", "main", "search for better settings, with as many workers as you like"
    ),
    "inspect": Command("sb3_attnmem.zoo.inspect", "main", "see what an agent looks at, and how far back it remembers"),
    "doctor": Command(
        "sb3_attnmem.zoo.doctor", "main", "how much memory a task asks for, and why an agent does not learn"
    ),
    "export": Command("sb3_attnmem.zoo.export", "main", "write an agent as an ONNX file"),
    "plot-train": Command("rl_zoo3.plots.plot_train", "plot_train", "plot training scores"),
    "plot-eval": Command("rl_zoo3.plots.all_plots", "all_plots", "plot evaluations of several agents"),
    "push-to-hub": Command("rl_zoo3.push_to_hub", None, "put a trained agent on the Hugging Face hub"),
    "load-from-hub": Command("rl_zoo3.load_from_hub", None, "fetch one from there"),
}


#: package that may be missing -> what of this package needs it
EXTRAS = {
    **dict.fromkeys(("rl_zoo3", "huggingface_sb3", "huggingface_hub", "requests", "yaml"), "zoo"),
    **dict.fromkeys(("matplotlib", "pandas", "plotly", "seaborn", "scipy", "moviepy", "cv2", "tensorboard"), "zoo"),
    **dict.fromkeys(("onnx", "onnxscript", "onnxruntime"), "export"),
    **dict.fromkeys(("minari", "peft", "safetensors"), "transfer"),
    **dict.fromkeys(("grpc", "psycopg"), "distributed"),
    "ray": "ray",
    **dict.fromkeys(("popgym", "minigrid", "Box2D"), "memory-tasks"),
}
#: commands of rl_zoo3's that load an agent of a folder
LOADERS = ("enjoy", "record-video", "record-training", "push-to-hub")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    :param arguments: the command and its options; those of the process by default
    :return: the exit code: 2 where the command line does not make sense
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP + "\n".join(f"  {name:<15} {command.help}" for name, command in COMMANDS.items()))
        return 0 if arguments else 2
    name, *options = arguments
    if name not in COMMANDS:
        near = nearest(name, COMMANDS)
        hint = f"; did you mean '{near}'?" if near else ""
        return refuse(f"unknown command '{name}'{hint} (sb3-attnmem --help lists them)")
    try:
        return _run(name, options)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        return refuse(f'{name} needs {package}, which is not installed: pip install "sb3_attnmem[{EXTRAS[package]}]"')


def _run(name: str, options: list[str]) -> int:
    from sb3_attnmem.zoo.registration import register

    register()
    if name == "train":
        from sb3_attnmem.zoo.train.command import train

        return train(COMMANDS[name], options, check_names)
    patches: list[Any] = []
    if name in ("push-to-hub", "load-from-hub"):
        from sb3_attnmem.zoo.patches import mended_hub

        patches.append(mended_hub())
    if name in ("enjoy", "record-video"):
        from sb3_attnmem.zoo.patches import masks_while_playing

        patches.append(masks_while_playing())
    return run(COMMANDS[name], name, options, partial(_examine, name), patches=patches)


def check_names(read: argparse.Namespace) -> None:
    """
    :param read: options of a command; what it does not take is not there
    :raises ValueError: when it names an algorithm, a package or an environment that is not there, before anything is
        built
    """
    import gymnasium as gym
    from rl_zoo3.utils import ALGOS

    algo: str | None = getattr(read, "algo", None)
    env: Any = getattr(read, "env", None)
    if not isinstance(env, str):  # plots take several, and parts of their names
        return
    for package in getattr(read, "gym_packages", []):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise ValueError(f"--gym-packages {package}: {error}") from error
    if algo is not None and algo not in ALGOS:
        near = nearest(algo, ALGOS)
        hint = f"; did you mean '{near}'?" if near else ""
        raise ValueError(f"unknown algorithm '{algo}'{hint}; known are {', '.join(sorted(ALGOS))}")
    env = str(getattr(env, "gym_id", env))
    if ":" not in env and env not in gym.registry:
        near = nearest(env, gym.registry)
        hint = f"; did you mean '{near}'?" if near else ""
        raise ValueError(
            f"unknown environment '{env}'{hint}; name the package that registers it, for example --gym-packages popgym"
        )


def _examine(name: str, parser: argparse.ArgumentParser, read: argparse.Namespace) -> argparse.Namespace:
    check_names(read)
    # enjoy downloads what is missing there
    if name in LOADERS and not (name == "enjoy" and "rl-trained-agents" in read.folder):
        _find_agent(name, read)
    logs = {"benchmark": "--log-dir", "plot-train": "-f"}
    if name in logs:
        folder = Path(read.log_dir) if name == "benchmark" else Path(read.exp_folder) / read.algo
        if not folder.is_dir():
            raise ValueError(f"The {folder} folder was not found; {logs[name]} names the folder of logs")
    if name == "record-training":
        _check_recording(read)
    return read


def _check_recording(read: argparse.Namespace) -> None:
    """
    :raises ValueError: when rl_zoo3's program could not join its videos, or would remove more than videos: it empties
        the output folder first
    """
    if shutil.which("ffmpeg") is None:
        raise ValueError("record-training joins its videos with ffmpeg, which is not installed (apt install ffmpeg)")
    folder = None if read.output_folder is None else Path(read.output_folder)
    if folder is not None and folder.is_dir():
        others = sorted(path.name for path in folder.iterdir() if path.suffix not in (".mp4", ".gif", ".json"))
        if others:
            raise ValueError(f"-o {folder}: record-training removes all that is in there, {others[0]} too")


def _find_agent(name: str, read: argparse.Namespace) -> None:
    """
    :raises ValueError: for a folder without the agent that shall be loaded, before rl_zoo3 ends with a traceback
    """
    from rl_zoo3.utils import get_model_path

    which = [getattr(read, flag, None) for flag in ("load_best", "load_checkpoint", "load_last_checkpoint")]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it will be told again
            get_model_path(read.exp_id, read.folder, read.algo, read.env, *which)  # type: ignore[arg-type]
    except AssertionError as error:
        raise ValueError(f"{error}; -f names the folder of logs") from error
    except ValueError as error:
        if name != "record-training":  # which takes the models that there are
            raise ValueError(f"{error}; -f names the folder of logs") from error
