"""
The pictures of docs/attention.md and docs/memories.md: trained agents, and what they look at.

    pip install --no-deps minatar
    python benchmarks/attention_pictures.py [--only doorkey] [--out docs/pictures]

Each agent takes some minutes to train on one CPU thread. Pong's picture is made by ``examples/attention_atari.py``.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import torch as th
from attention_learning import TASKS, make_model
from stable_baselines3 import DQN
from tasks import cued_target

from sb3_attnmem import attention_overlay, record_attention

LAYER = "q_net.features_extractor.attention"
#: of MinAtar Breakout's channels: paddle, ball, the ball's trail, bricks
COLOURS = np.array([[0.2, 0.9, 0.4], [1.0, 1.0, 1.0], [0.5, 0.5, 0.6], [0.3, 0.4, 0.9]])


def strip(pictures: list[np.ndarray]) -> np.ndarray:
    """:return: the pictures side by side, with a gap between them"""
    gap = np.full((pictures[0].shape[0], 8, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def look(model: DQN, task: str, draw: Callable[[Any, np.ndarray], np.ndarray], flip: bool) -> np.ndarray:
    """
    Let a stock DQN play greedily until an episode brings a reward.

    :param draw: environment and observation -> the frame to paint on
    :param flip: whether the observation's first axis runs across the picture
    :return: five overlays, spread over that episode (over its first 40 steps, where it is longer)
    """
    env = TASKS[task][0]()
    for episode in range(50):
        obs, _ = env.reset(seed=10_000 + episode)
        overlays, total, over = [], 0.0, False
        while not over and len(overlays) < 200:
            with record_attention(model) as record:
                action, _ = model.predict(obs, deterministic=True)
            weights = record.on_grid(LAYER)[0]
            grid = record.layouts[LAYER]  # square: the same when flipped
            overlays.append(attention_overlay(draw(env, obs), weights.transpose(1, 2) if flip else weights, grid))
            obs, reward, terminated, truncated, _ = env.step(action)
            total, over = total + float(reward), terminated or truncated
        if total > 0 and len(overlays) > 5:
            break
    shown = np.linspace(0, min(len(overlays) - 1, 40), 5).astype(int)
    return strip([overlays[step] for step in shown])


def stock_dqn(task: str) -> DQN:
    """:return: a stock DQN with SpatialAttentionCNN, trained as in ``attention_learning.py``"""
    return make_model(task, "spatial_attention_cnn", seed=0).learn(TASKS[task][1])


def doorkey() -> np.ndarray:
    """:return: MiniGrid: the agent's own view, an episode from its beginning"""
    task = "MiniGrid DoorKey 5×5"
    return look(stock_dqn(task), task, lambda env, _: env.unwrapped.get_pov_render(tile_size=24), True)


def breakout() -> np.ndarray:
    """:return: MinAtar Breakout"""
    task = "MinAtar Breakout"

    def draw(_: Any, obs: np.ndarray) -> np.ndarray:
        shown = np.zeros((10, 10, 3))
        for channel in (3, 2, 1, 0):
            shown[obs[..., channel]] = COLOURS[channel]
        return (255 * np.kron(shown, np.ones((16, 16, 1)))).astype(np.uint8)

    return look(stock_dqn(task), task, draw, False)


def cue() -> np.ndarray:
    """:return: the same boards after a red cue (above) and after a blue one (below), attentive LSTM"""
    model = cued_target.train(
        20_000,
        0,
        memory_class="attentive_lstm",
        memory_kwargs=dict(n_heads=1),  # as in the paper: four share the work, and one picture shows little of it
        features_extractor_class="plain_cnn",
        features_extractor_kwargs=dict(output="map", trunk=cued_target.ONE_CELL),
    )
    env = cued_target.CuedTarget()
    env.reset(seed=0)
    boards = [env._board() for _ in range(5)]
    rows = []
    for colour in (0, 2):
        first = np.zeros_like(boards[0])
        first[..., colour] = 255
        state, overlays = None, [np.kron(first, np.ones((8, 8, 1), np.uint8))]
        for i, board in enumerate([first, *boards]):
            with record_attention(model) as record:
                frame = board.transpose(2, 0, 1)[None]
                _, state = model.predict(frame, state, np.array([i == 0]), deterministic=True)
            if i:
                weights = record["q_net.memory.attention"][0, 0, 0].reshape(5, 5)
                overlays.append(attention_overlay(board, weights, record.layouts["q_net.memory.attention"], zoom=8))
        rows.append(strip(overlays))
    gap = np.full((8, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([rows[0], gap, rows[1]])


PICTURES = {"doorkey": doorkey, "breakout": breakout, "cue": cue}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        matplotlib.image.imsave(args.out / f"{name}.png", PICTURES[name]())
        print(args.out / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
