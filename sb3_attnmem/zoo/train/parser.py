"""The options of ``train`` that rl_zoo3 does not have."""

import argparse
from collections.abc import Sequence

from sb3_attnmem.common.checks import check_integer, check_number


def read_own_options(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """
    Read our options of ``train``. They are not abbreviated, so that every abbreviation that rl_zoo3 takes is its own.

    :param words: of the command line, without the command
    :return: the options that were given, and the words that are left for rl_zoo3
    :raises SystemExit: by argparse, for values that make no sense
    """
    return _parser().parse_known_args(list(words))


def own_help() -> str:
    """:return: what ``train --help`` says of our options, after rl_zoo3's"""
    return "\n" + _parser().format_help()


def option_name(name: str) -> str:
    """
    :param name: as an attribute of what was read
    :return: as it is typed
    """
    return f"--{name.replace('_', '-')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sb3-attnmem train",
        usage=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    checkpoints = parser.add_argument_group("checkpoints")
    checkpoints.add_argument(
        "--checkpoint-freq",
        type=_steps,
        metavar="N",
        help="every N environment steps, and every N updates from --offline-data, save all that training depends on",
    )
    checkpoints.add_argument(
        "--resume",
        metavar="RUN_FOLDER",
        help="go on with such a run (logs/rdqn/ENV_1) from its last checkpoint, with the options that it had; "
        "-n gives it another total of steps",
    )
    actors = parser.add_argument_group("many actors (RecurrentDQN)")
    actors.add_argument(
        "--actors",
        type=_steps,
        metavar="N",
        help="N processes step the environments, each as many as the settings say (n_envs), on Ray; this one learns",
    )
    actors.add_argument(
        "--ray-address",
        metavar="ADDRESS",
        help="of a Ray cluster, auto for the one that this machine is part of; without it Ray is started here",
    )
    begin = parser.add_argument_group("what the run begins with, and what learns")
    begin.add_argument(
        "--pretrained",
        metavar="AGENT",
        help="begin with what another agent learned (a .zip, also of another algorithm)",
    )
    begin.add_argument(
        "--parts",
        nargs="+",
        metavar="PART",
        help="only with these of its parts (features_extractor, encoder, memory, q_head, ...)",
    )
    begin.add_argument(
        "--freeze",
        nargs="+",
        metavar="WHAT",
        help="what does not learn: parts, patterns such as *.bias, all, or a number of blocks",
    )
    begin.add_argument("--adapters", nargs="+", metavar="PART", help="these learn by low-rank adapters")
    begin.add_argument(
        "--learning-rates",
        nargs="+",
        type=_rate,
        metavar="PART:SHARE",
        help="these learn at a share of the learning rate",
    )
    data = parser.add_argument_group("data to learn from")
    data.add_argument(
        "--offline-data",
        metavar="PATH",
        help="learn first from a saved replay buffer (.pkl) or a Minari dataset (folder or id)",
    )
    data.add_argument("--offline-updates", type=_updates, metavar="N", help="gradient steps on it (10000)")
    data.add_argument(
        "--conservative-weight", type=_weight, metavar="X", help="of conservative Q-learning in these steps (0)"
    )
    data.add_argument(
        "--old-share",
        type=_share,
        metavar="X",
        help="of the data in each batch of the run that follows (0.5; 0 drops them)",
    )
    return parser


def _steps(word: str) -> int:
    return _integer(word, 1)


def _updates(word: str) -> int:
    return _integer(word, 0)


def _integer(word: str, least: int) -> int:
    try:
        return check_integer("N", int(word), least)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: pass an integer of at least {least}") from None


def _weight(word: str) -> float:
    try:
        return check_number("X", float(word), least=0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: pass a number of at least 0") from None


def _share(word: str) -> float:
    try:
        return check_number("X", float(word), least=0, below=1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: pass a number of at least 0 and below 1") from None


def _rate(word: str) -> tuple[str, float]:
    pattern, _, share = word.rpartition(":")
    try:
        if pattern:
            return pattern, check_number("SHARE", float(share), least=0)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{word}: pass PART:SHARE, for example features_extractor:0.1")
