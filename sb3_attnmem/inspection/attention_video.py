"""A film of an episode: what the agent saw, where it looked, what it expected and what it did."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from PIL import Image
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_attnmem.attention import record_attention
from sb3_attnmem.inspection.agent import check_env, undisturbed
from sb3_attnmem.inspection.board import Board
from sb3_attnmem.inspection.episode import action_names, play_episodes
from sb3_attnmem.inspection.observed import Picture
from sb3_attnmem.inspection.views import HEADS, Heads

#: Layers that are shown when none is asked for
MOST_LAYERS = 6


class AttentionVideo(NamedTuple):
    """
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
    :param names: of the actions; by default the environment's own, or numbers
    :param progress: whether to show progress bars
    :return: what was written
    :raises ValueError: when the model has no attention layers or not those, the environment does not fit or is the one
        that the model trains in, or an option is out of range
    :raises ImportError: without moviepy
    """
    path = _check_options(path, heads, fps, layers, episodes=episodes, max_steps=max_steps, n_pictures=n_pictures)
    with record_attention(model):  # says so where there is no layer, before anything is played
        pass
    n_actions = int(model.action_space.n) if isinstance(model.action_space, gym.spaces.Discrete) else 0
    if names is not None and len(names) != n_actions:
        raise ValueError(f"Got {len(names)} names for {n_actions} actions.")
    open_writer = _find_writer()
    envs = check_env(model, env)
    names = action_names(envs, n_actions) if names is None else tuple(names)
    with undisturbed(model, envs), tqdm(desc="playing", unit=" steps", disable=not progress, leave=False) as bar:
        episode = play_episodes(
            model, envs, layers, MOST_LAYERS, heads, episodes, max_steps, seed, deterministic, tick=lambda: bar.update()
        )
    board = Board(episode, names or [str(i) for i in range(len(episode.looks[0].opinion.bars))])
    n_steps = len(episode.looks)
    chosen = set(np.linspace(0, n_steps - 1, min(n_pictures, n_steps)).round().astype(int).tolist())
    pictures = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, board.size, fps) as write:
        for t in tqdm(range(n_steps), desc="drawing", unit=" frames", disable=not progress, leave=False):
            picture = board.draw(t)
            write(picture)
            if t in chosen:
                pictures.append(picture)
    sheet = _write_sheet(path.with_suffix(".png"), pictures)
    shown = [view.layer for view in episode.views]
    return AttentionVideo(
        path,
        sheet,
        n_steps,
        episode.returns,
        episode.over,
        shown,
        [layer for layer in episode.layers if layer not in shown],
    )


def _check_options(path: str | Path, heads: str, fps: float, layers: Sequence[str] | None, **counts: int) -> Path:
    path = Path(path)
    if path.suffix != ".mp4":
        raise ValueError(f"path='{path}' must end in .mp4, the format that is written.")
    if heads not in HEADS:
        raise ValueError(f"heads={heads!r} is none of {', '.join(HEADS)}.")
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1.")
    if not 0.1 <= fps <= 120:
        raise ValueError(f"fps={fps!r} is in steps a second; it must lie between 0.1 and 120.")
    if isinstance(layers, str) or (layers is not None and len(layers) == 0):
        raise ValueError(f"layers={layers!r} must be a list of names or parts of names, or None.")
    return path


Writer = Callable[[Path, tuple[int, int], float], Any]


def _find_writer() -> Writer:
    """
    :return: path, (width, height) and frames a second -> what opens a film and gives the function that adds a frame
    :raises ImportError: without moviepy
    """
    try:
        from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(f'Films are written by moviepy: pip install "sb3_attnmem[zoo]" ({error})') from error

    @contextmanager
    def opened(path: Path, size: tuple[int, int], fps: float) -> Iterator[Callable[[Picture], None]]:
        unfinished = path.with_name(f"unfinished-{path.name}")
        # Players want this pixel format, and one that can start before all is there
        options = ["-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        writer = FFMPEG_VideoWriter(str(unfinished), size, fps, ffmpeg_params=options)
        try:
            yield writer.write_frame
            writer.close()
            os.replace(unfinished, path)
        except BaseException:
            with suppress(Exception):
                writer.close()
            unfinished.unlink(missing_ok=True)
            raise

    return opened


def _write_sheet(path: Path, pictures: list[Picture]) -> Path:
    """
    :param pictures: all of one size
    """
    height, width = pictures[0].shape[:2]
    n_columns = 1 if len(pictures) == 1 or width > 2.2 * height else 2
    n_rows = -(-len(pictures) // n_columns)
    gap = 6
    sheet = np.full((n_rows * (height + gap) - gap, n_columns * (width + gap) - gap, 3), 160, np.uint8)
    for i in range(n_rows * n_columns):
        row, column = divmod(i, n_columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = pictures[i] if i < len(pictures) else 255
    unfinished = path.with_name(f"unfinished-{path.name}")
    Image.fromarray(sheet).save(unfinished, format="PNG", optimize=True)
    os.replace(unfinished, path)
    return path
