"""A film of an episode: what the agent saw, where it looked, what it expected and what it did."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_attnmem.attention import record_attention
from sb3_attnmem.common.checks import check_choice, check_flag, check_integers, check_number
from sb3_attnmem.inspection.common import check_env, check_model, check_path, check_seed, undisturbed
from sb3_attnmem.inspection.drawing import check_matplotlib, drawing
from sb3_attnmem.inspection.film.episodes import FilmedEpisodes, action_names, film_episodes, has_attention
from sb3_attnmem.inspection.film.estimates import bar_names, n_bars
from sb3_attnmem.inspection.film.views import HEADS, Heads, layers_named
from sb3_attnmem.inspection.film.writing import OpenFilm, find_writer, write_sheet

#: Layers that are shown when none is asked for
MOST_LAYERS = 6


class AttentionVideo(NamedTuple):
    """
    What was written.

    :param video: the film
    :param sheet: the contact sheet
    :param steps: one a frame
    :param returns: sums of true rewards, one an episode
    :param over: whether the last episode ended, rather than being cut
    :param shown: the layers in it
    :param left_out: the layers that recorded beside them
    """

    video: Path
    sheet: Path
    steps: int
    returns: list[float]
    over: bool
    shown: list[str]
    left_out: list[str]


def record_attention_video(
    model: BaseAlgorithm,
    env: VecEnv | gym.Env,
    path: str | Path,
    *,
    heads: Heads = "max",
    layers: Sequence[str] | None = None,
    episodes: int = 1,
    max_steps: int = 500,
    seed: int = 0,
    fps: float = 8.0,
    n_pictures: int = 6,
    deterministic: bool = True,
    names: Sequence[str] | None = None,
    progress: bool = True,
) -> AttentionVideo:
    """
    Play an episode and write a film of it, and a contact sheet beside it (the same name with ``.png``)::

        record_attention_video(model, gym.make("BreakoutNoFrameskip-v4", render_mode="rgb_array"), "breakout.mp4")

    Each frame is a step: the environment's own picture (where ``render_mode="rgb_array"``), the observation, for each
    attention layer what it looked at, a bar for each action and
    the value over the episode. Nothing of the agent is changed.

    :param model: a Stable-Baselines3 model whose extractor or memory has attention layers
    :param env: like the one it was trained in, but not that one; of several environments the first is shown
    :param path: of the film, ``.mp4``; folders are made if need be, older files replaced
    :param heads: what becomes of several heads: "max" or "mean" of them, or "tile", one beside the other
    :param layers: names or parts of names; by default the first six that were called
    :param episodes: one after another
    :param max_steps: frames at most; the episode is cut there
    :param seed: of the first episode
    :param fps: steps a second
    :param n_pictures: in the contact sheet, spread evenly over the episode
    :param deterministic: whether to act greedily
    :param names: of the actions (with ``branching``, of all choices, those of the first dimension first); by default
        the environment's own, or numbers
    :param progress: whether to show progress bars
    :return: what was written
    :raises ValueError: when the model has no attention layers or not those, the environment does not fit or is the one
        that the model trains in, or an option is out of range
    :raises ImportError: without matplotlib or moviepy
    """
    check_model(model)
    path = check_path("path", path, is_folder=False)
    if path.suffix != ".mp4":
        raise ValueError(f"path='{path}' must end in .mp4, the format that is written.")
    check_choice("heads", heads, HEADS)
    episodes, max_steps, n_pictures = check_integers(episodes=episodes, max_steps=max_steps, n_pictures=n_pictures)
    seed = check_seed(seed)
    fps = check_number("fps", fps, least=0.1, most=120, hint="It is in steps a second.")
    deterministic, progress = check_flag("deterministic", deterministic), check_flag("progress", progress)
    check_layers(model, layers, needed=True)
    n_actions = n_bars(model)
    check_names(names, n_actions)
    check_matplotlib("A film")
    open_film = find_writer()
    envs = check_env(model, env)
    names = bar_names(model) or action_names(envs, n_actions) if names is None else tuple(names)
    with undisturbed(model, envs), tqdm(desc="playing", unit=" steps", disable=not progress, leave=False) as bar:
        filmed = film_episodes(
            model, envs, layers, MOST_LAYERS, heads, episodes, max_steps, seed, deterministic, tick=lambda: bar.update()
        )
    sheet = path.with_suffix(".png")
    write_sheet(sheet, _draw(filmed, names, open_film, path, fps, n_pictures, progress))
    shown = [view.layer for view in filmed.views]
    left_out = [layer for layer in filmed.layers if layer not in shown]
    return AttentionVideo(path, sheet, len(filmed.steps), filmed.returns, filmed.over, shown, left_out)


def _draw(
    filmed: FilmedEpisodes,
    names: Sequence[str],
    open_film: OpenFilm,
    path: Path,
    fps: float,
    n_pictures: int,
    progress: bool,
) -> list[np.ndarray]:
    """:return: the pictures for the contact sheet, when all are in the film"""
    from sb3_attnmem.inspection.film.board import Board  # needs matplotlib

    n_steps = len(filmed.steps)
    chosen = set(np.linspace(0, n_steps - 1, min(n_pictures, n_steps)).round().astype(int).tolist())
    pictures = []
    with drawing():
        board = Board(filmed, names or [str(i) for i in range(len(filmed.steps[0].seen.estimate.bars))])
        with open_film(path, board.size, fps) as write:
            for t in tqdm(range(n_steps), desc="drawing", unit=" frames", disable=not progress, leave=False):
                picture = board.draw(t)
                write(picture)
                if t in chosen:
                    pictures.append(picture)
    return pictures


def check_layers(model: BaseAlgorithm, layers: Any, needed: bool = False) -> None:
    """
    Check the layers that are asked for, before anything is played.

    :param model: the agent
    :param layers: that the user wants to see
    :param needed: whether the agent must have one
    :raises ValueError: when it is no list of names or parts of names, or there are no layers and some are needed
    """
    if layers is None and not (needed or has_attention(model)):
        return
    with record_attention(model) as record:  # says so where there is no layer
        known = list(record.layouts)
    if layers is None:
        return
    if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(word, str) for word in layers):
        raise ValueError(f"layers={layers!r} must be a list of names or parts of names, or None.")
    layers_named(known, layers)


def check_names(names: Any, n_actions: int) -> None:
    """
    Check the names of the actions.

    :param names: of the actions, from the user
    :param n_actions: that there are; 0 where they are no list
    :raises ValueError: when they are no names, or not as many
    """
    if names is None:
        return
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names={names!r} must be a list of names, one an action, or None.")
    if len(names) != n_actions:
        raise ValueError(f"Got {len(names)} names for {n_actions} actions.")
