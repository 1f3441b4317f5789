"""
What does an Atari agent look at? Stock DQN with SpatialAttentionCNN, then a picture and a video of where its heads lie.

    python examples/attention_atari.py --steps 250000          # Pong, about half an hour on one CPU thread
    python examples/attention_atari.py --model outputs/attention_atari/PongNoFrameskip-v4.zip    # only the pictures
"""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
import matplotlib.image
import numpy as np
import torch as th
from moviepy import ImageSequenceClip
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from sb3_attnmem import attention_overlay, record_attention
from sb3_attnmem.extractors import SpatialAttentionCNN

LAYER = "q_net.features_extractor.attention"

gym.register_envs(ale_py)


def make_env(game: str, n_envs: int, seed: int) -> VecEnv:
    """:return: Atari as DQN sees it: 84×84, 4 stacked frames"""
    return VecFrameStack(make_atari_env(game, n_envs, seed=seed, env_kwargs=dict(render_mode="rgb_array")), 4)


def train(game: str, steps: int, seed: int) -> DQN:
    """:return: a stock DQN after ``steps`` environment steps"""
    model = DQN(
        "CnnPolicy",
        make_env(game, 8, seed),
        learning_rate=2.5e-4,
        buffer_size=100_000,
        learning_starts=10_000,
        batch_size=32,
        n_steps=3,
        train_freq=1,
        gradient_steps=2,  # one update every 4 environment steps
        target_update_interval=4_000,
        exploration_fraction=0.2,
        exploration_final_eps=0.01,
        policy_kwargs=dict(features_extractor_class=SpatialAttentionCNN),
        seed=seed,
        device="cpu",
    )
    return model.learn(steps, progress_bar=True)


def watch(model: DQN, env: VecEnv, n_frames: int) -> tuple[list[np.ndarray], float]:
    """
    :param env: one environment
    :return: overlays of the game's own frames, and the mean weight of the heaviest place of each head's map
    """
    overlays, largest = [], []
    obs = env.reset()
    for _ in range(n_frames):
        with record_attention(model) as record:
            action, _ = model.predict(obs, deterministic=True)
        weights = record.on_grid(LAYER)[0]  # (heads, H, W)
        largest.append(weights.amax(dim=(1, 2)).mean().item())
        frame = env.render(mode="rgb_array")
        assert frame is not None
        overlays.append(attention_overlay(frame, weights, record.layouts[LAYER], zoom=2))
        obs, *_ = env.step(action)
    return overlays, float(np.mean(largest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="PongNoFrameskip-v4")
    parser.add_argument("--steps", type=int, default=250_000, help="environment steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, help="a saved model, instead of training one")
    parser.add_argument("--frames", type=int, default=600, help="of the video")
    parser.add_argument("--out", type=Path, default=Path("outputs/attention_atari"))
    args = parser.parse_args()
    th.set_num_threads(1)  # networks this small are fastest on one
    args.out.mkdir(parents=True, exist_ok=True)

    env = make_env(args.game, 1, args.seed + 1_000)
    if args.model is None:
        model = train(args.game, args.steps, args.seed)
        model.save(args.out / args.game)
        returns = [episode["r"] for episode in model.ep_info_buffer or []]
        print(f"mean return of the last {len(returns)} training episodes: {np.mean(returns):.1f}")
    else:
        model = DQN.load(args.model, env=env, device="cpu")
    overlays, largest = watch(model, env, args.frames)
    print(f"mean weight of the heaviest of the 49 places, over heads: {largest:.2f} (uniform: {1 / 49:.2f})")
    ImageSequenceClip(overlays, fps=15).write_videofile(str(args.out / f"{args.game}.mp4"), logger=None)
    picture = np.concatenate(
        [overlays[i] for i in np.linspace(args.frames // 4, args.frames - 1, 4).astype(int)], axis=1
    )
    matplotlib.image.imsave(args.out / f"{args.game}.png", picture)
    print(f"pictures: {args.out / args.game}.png, {args.out / args.game}.mp4")


if __name__ == "__main__":
    main()
