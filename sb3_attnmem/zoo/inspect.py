"""``sb3-attnmem inspect``: what a trained agent looks at, and how far back it remembers."""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

from sb3_attnmem.inspection import record_attention_video, write_memory_report
from sb3_attnmem.inspection.film.views import HEADS
from sb3_attnmem.zoo.trained import Trained, add_agent_options, load_agent


def main() -> int:
    """
    Read the command line of the process, look into the agent, write what was found.

    :return: the exit code: 0 when it is written, 2 where the command line does not make sense or the agent cannot be
        looked into
    """
    options = _read_options()
    inspect: Callable[[argparse.Namespace, Trained], None] = options.inspect
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            trained = load_agent(options, options.n_envs, options.render_mode)
        print(f"Looking into {trained.path}")
        try:
            inspect(options, trained)
        finally:
            trained.env.close()
    except (ImportError, OSError, ValueError) as error:
        print(f"sb3-attnmem inspect: {error}", file=sys.stderr)
        return 2
    return 0


def _attention(options: argparse.Namespace, trained: Trained) -> None:
    film = record_attention_video(
        trained.model,
        trained.env,
        options.output or trained.path.with_name("attention.mp4"),
        heads=options.heads,
        layers=options.layers,
        episodes=options.episodes,
        max_steps=options.n_timesteps,
        seed=options.seed,
        fps=options.fps,
        n_pictures=options.n_pictures,
        deterministic=not options.stochastic,
        progress=not options.no_progress,
    )
    returns = ", ".join(f"{one:g}" for one in film.returns)
    print(f"{film.steps} steps{'' if film.over else ' (cut)'}, return {returns}")
    print(f"  layers  {', '.join(film.shown)}")
    if film.left_out:
        print(f"  not shown, name them with --layers: {', '.join(film.left_out)}")
    print(f"  film    {film.video}")
    print(f"  sheet   {film.sheet}")


def _memory(options: argparse.Namespace, trained: Trained) -> None:
    report = write_memory_report(
        trained.model,  # type: ignore[arg-type]  # another model gets a ValueError that says so
        trained.env,
        options.output or trained.path.with_name("memory"),
        episodes=options.episodes,
        seed=options.seed,
        tolerance=options.tolerance,
        max_history=options.max_history,
        progress=not options.no_progress,
    )
    print(report.verdict)
    print(f"  report   {report.html}")
    print(f"  figures  {report.json}")


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    attention = subjects.add_parser("attention", help="a film of an episode: frames, attention, values, actions")
    add_agent_options(attention)
    attention.set_defaults(inspect=_attention, n_envs=1, render_mode="rgb_array")
    attention.add_argument("-o", "--output", type=Path, help="film (.mp4) to write; by default beside the agent's file")
    attention.add_argument("--heads", default="max", choices=HEADS, help="of several heads the largest weight, ...")
    attention.add_argument("--layers", nargs="+", help="names of layers, or parts of them (default: the first six)")
    attention.add_argument("--episodes", type=int, default=1, help="one after another")
    attention.add_argument(
        "-n", "--n-timesteps", type=int, default=500, help="frames at most; the episode is cut there"
    )
    attention.add_argument("--fps", type=float, default=8.0, help="steps a second")
    attention.add_argument("--n-pictures", type=int, default=6, help="in the contact sheet")
    attention.add_argument("--stochastic", action="store_true", help="explore, or sample from the policy")
    memory = subjects.add_parser("memory", help="a report: how many steps of history the agent uses")
    add_agent_options(memory)
    memory.set_defaults(inspect=_memory, render_mode=None)
    memory.add_argument("-o", "--output", type=Path, help="folder to write to; by default beside the agent's file")
    memory.add_argument("--episodes", type=int, default=50, help="that each score is the mean of")
    memory.add_argument("--n-envs", type=int, default=25, help="environments side by side")
    memory.add_argument("--tolerance", type=float, default=0.05, help="share of the return that may be lost")
    memory.add_argument("--max-history", type=int, default=512, help="observations to go back over at most")
    for one in (attention, memory):
        one.add_argument("--no-progress", action="store_true", help="no progress bars")
    options = parser.parse_args()
    if options.n_envs < 1:
        parser.error(f"--n-envs {options.n_envs}: pass at least 1")
    return options
