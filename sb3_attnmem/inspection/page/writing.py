"""Episodes of an agent as one page that is played."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import __version__
from sb3_attnmem.common.checks import check_flag, check_integers
from sb3_attnmem.common.files import write_text
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.common import (
    Bar,
    bars,
    check_env,
    check_model,
    check_path,
    check_seed,
    environment_of,
    undisturbed,
)
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, action_names, film_episodes
from sb3_attnmem.inspection.film.estimates import bar_names, n_bars
from sb3_attnmem.inspection.film.video import MOST_LAYERS, check_layers, check_names
from sb3_attnmem.inspection.page.data import page_data
from sb3_attnmem.inspection.page.document import as_document
from sb3_attnmem.inspection.page.packing import check_pillow
from sb3_attnmem.inspection.page.remembered import remember


class EpisodePage(NamedTuple):
    """
    What was written.

    :param html: the page
    :param n_bytes: its size
    :param steps: that are played on it
    :param returns: sums of true rewards, one an episode
    :param over: whether the last episode ended, rather than being cut
    :param shown: the attention layers in it
    :param left_out: the layers that recorded beside them
    """

    html: Path
    n_bytes: int
    steps: int
    returns: list[float]
    over: bool
    shown: list[str]
    left_out: list[str]


def write_episode_page(
    model: BaseAlgorithm,
    env: VecEnv | gym.Env,
    path: str | Path,
    *,
    layers: Sequence[str] | None = None,
    episodes: int = 1,
    max_steps: int = 500,
    max_history: int = 64,
    seed: int = 0,
    deterministic: bool = True,
    names: Sequence[str] | None = None,
    progress: bool = True,
) -> EpisodePage:
    """
    Play an episode and write it as one HTML page on which it is played again, step by step::

        write_episode_page(model, gym.make("PassiveTMaze10-v0", render_mode="rgb_array"), "episode.html")

    The page holds everything it needs and asks no network: the environment's own picture (where
    ``render_mode="rgb_array"``) and the observation, each attention head over it, values and quantiles, and of a
    ``RecurrentDQN`` the memory's state and gates, what it would do had its memory been cut k steps ago, and from which
    past observations its Q-values come. Nothing of the agent is changed.

    :param model: a Stable-Baselines3 model, with or without attention or memory
    :param env: like the one it was trained in, but not that one; of several environments the first is shown
    :param path: of the page, ``.html``; folders are made if need be, an older file is replaced
    :param layers: names or parts of names of attention layers; by default the first six that were called
    :param episodes: one after another
    :param max_steps: of all of them; the last one is cut there
    :param max_history: observations to go back over at most, for cut memories and gradients
    :param seed: of the first episode
    :param deterministic: whether to act greedily
    :param names: of the actions; by default the environment's own, or numbers
    :param progress: whether to show progress bars
    :return: what was written
    :raises ValueError: when the environment does not fit or is the one that the model trains in, or an option is out of
        range
    :raises ImportError: without Pillow
    """
    check_model(model)
    path = check_path("path", path, is_folder=False)
    if path.suffix != ".html":
        raise ValueError(f"path='{path}' must end in .html, the format that is written.")
    episodes, max_steps, max_history = check_integers(episodes=episodes, max_steps=max_steps, max_history=max_history)
    seed, deterministic = check_seed(seed), check_flag("deterministic", deterministic)
    progress = check_flag("progress", progress)
    check_layers(model, layers)
    check_names(names, n_bars(model))
    check_pillow("a page")
    envs = check_env(model, env)
    with undisturbed(model, envs):
        filmed, data = film_page(
            model, envs, layers, names, episodes, max_steps, max_history, seed, deterministic, bars(progress)
        )
    about = f"{environment_of(envs)}, {type(model).__name__}, trained for {model.num_timesteps:,} steps; {_how(filmed)}"
    write_text(path, as_document("What it does, step by step", f"{about}. sb3_attnmem {__version__}", data))
    shown = [view.layer for view in filmed.views]
    left_out = [layer for layer in filmed.layers if layer not in shown]
    n_bytes = path.stat().st_size
    return EpisodePage(path, n_bytes, len(filmed.steps), filmed.returns, filmed.over, shown, left_out)


def film_page(
    model: BaseAlgorithm,
    envs: VecEnv,
    layers: Sequence[str] | None,
    names: Sequence[str] | None,
    episodes: int,
    max_steps: int,
    max_history: int,
    seed: int,
    deterministic: bool,
    bar: Bar,
) -> tuple[FilmedEpisodes, dict[str, Any]]:
    """
    Play episodes for a page; all that is checked is checked before.

    :param model: the agent
    :param envs: that fit it
    :param layers: see :func:`write_episode_page`, as the next ones
    :param names: of the actions
    :param episodes: one after another
    :param max_steps: of all of them
    :param max_history: observations to go back over at most
    :param seed: of the first episode
    :param deterministic: whether to act greedily
    :param bar: see :func:`~sb3_attnmem.inspection.common.bars`
    :return: what the agent did, and what the page is told
    """
    with bar("playing", max_steps, "steps") as tick:
        filmed = film_episodes(
            *(model, envs, layers, MOST_LAYERS, "tile", episodes, max_steps, seed, deterministic, lambda: tick(1)),
            needs_layers=False,
        )
    remembered = None
    if isinstance(model, RecurrentDQN):
        with bar("looking back", 2 * len(filmed.steps), "steps") as tick:
            remembered = remember(model, filmed, max_history, tick)
    known = bar_names(model) or action_names(envs, n_bars(model)) if names is None else tuple(names)
    return filmed, page_data(filmed, known, remembered)


def _how(filmed: FilmedEpisodes) -> str:
    n = len(filmed.returns)
    cut = "" if filmed.over else ", the last one cut"
    return f"{n} episode{'s' * (n > 1)}{cut}, {len(filmed.steps)} steps"
