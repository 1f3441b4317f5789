"""``sb3-attnmem inspect``: what a trained agent looks at, and how far back it remembers."""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

from sb3_attnmem.inspection import (
    AttentionVideo,
    EpisodePage,
    record_attention_video,
    write_episode_page,
    write_memory_report,
)
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
    output = options.output or trained.path.with_name("attention.html")
    if output.suffix not in (".html", ".mp4"):
        raise ValueError(f"-o {output} must end in .html, a page to play, or in .mp4, a film.")
    played = {
        "layers": options.layers,
        "episodes": options.episodes,
        "max_steps": options.n_timesteps,
        "seed": options.seed,
        "deterministic": not options.stochastic,
        "progress": not options.no_progress,
    }
    film = None
    if output.suffix == ".mp4" or options.png:  # first: it needs more packages than the page
        film = record_attention_video(
            trained.model,
            trained.env,
            output.with_suffix(".mp4"),
            heads=options.heads,
            fps=options.fps,
            n_pictures=options.n_pictures,
            **played,
        )
    if output.suffix == ".html":
        page = write_episode_page(trained.model, trained.env, output, **played)
        _tell_episodes(page)
        print(f"  page    {page.html}  ({page.n_bytes / 1e6:.1f} MB)")
    if film is not None:
        if output.suffix == ".mp4":
            _tell_episodes(film)
        print(f"  film    {film.video}")
        print(f"  sheet   {film.sheet}")


def _tell_episodes(written: EpisodePage | AttentionVideo) -> None:
    returns = ", ".join(f"{one:g}" for one in written.returns)
    print(f"{written.steps} steps{'' if written.over else ' (cut)'}, return {returns}")
    print(f"  layers  {', '.join(written.shown) or 'none: nothing attends'}")
    if written.left_out:
        print(f"  not shown, name them with --layers: {', '.join(written.left_out)}")


def _memory(options: argparse.Namespace, trained: Trained) -> None:
    report = write_memory_report(
        trained.model,  # type: ignore[arg-type]  # another model gets a ValueError that says so
        trained.env,
        options.output or trained.path.with_name("memory"),
        episodes=options.episodes,
        seed=options.seed,
        tolerance=options.tolerance,
        max_history=options.max_history,
        format="both" if options.png else "player",
        progress=not options.no_progress,
    )
    print(report.verdict)
    print(f"  report   {report.html}")
    if report.pictures is not None:
        print(f"  pictures {report.pictures}")
    print(f"  figures  {report.json}")


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    subjects = parser.add_subparsers(dest="subject", required=True, metavar="SUBJECT")
    attention = subjects.add_parser("attention", help="a page that plays an episode: frames, attention, values, memory")
    add_agent_options(attention)
    attention.set_defaults(inspect=_attention, n_envs=1, render_mode="rgb_array")
    attention.add_argument(
        "-o",
        "--output",
        type=Path,
        help="page (.html) to write, or a film instead of it (.mp4); by default attention.html beside the agent's file",
    )
    attention.add_argument("--png", action="store_true", help="also the film (.mp4) and its contact sheet (.png)")
    attention.add_argument("--heads", default="max", choices=HEADS, help="in the film: of several heads the largest...")
    attention.add_argument("--layers", nargs="+", help="names of layers, or parts of them (default: the first six)")
    attention.add_argument("--episodes", type=int, default=1, help="one after another")
    attention.add_argument("-n", "--n-timesteps", type=int, default=500, help="steps at most; the episode is cut there")
    attention.add_argument("--fps", type=float, default=8.0, help="in the film: steps a second")
    attention.add_argument("--n-pictures", type=int, default=6, help="in the contact sheet")
    attention.add_argument("--stochastic", action="store_true", help="explore, or sample from the policy")
    memory = subjects.add_parser("memory", help="a report: how many steps of history the agent uses")
    add_agent_options(memory)
    memory.set_defaults(inspect=_memory, render_mode="rgb_array")
    memory.add_argument("-o", "--output", type=Path, help="folder to write to; by default beside the agent's file")
    memory.add_argument("--png", action="store_true", help="also a page of pictures, memory-pictures.html")
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
