"""
Time of one stock DQN update with each extractor, over that with Stable-Baselines3's NatureCNN.

All run in one process on one thread, interleaved: every round times one update of each, in a new order, so that a busy
machine slows all alike. Printed are the medians over the rounds, and the median over the rounds of the
ratio to NatureCNN.

    python benchmarks/extractors.py            # 84×84×4, batches of 32, about 2 minutes
"""

import argparse
import random
import statistics
import time
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.logger import configure
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN

from sb3_attnmem.extractors import (
    ChannelAttentionCNN,
    FrameAttention,
    ImpalaCNN,
    PatchTransformer,
    PlainCNN,
    RelationalCNN,
    SpatialAttentionCNN,
)

PLAIN = "NatureCNN"
BFLOAT16 = dict(precision="bfloat16")
CONTENDERS: dict[str, tuple[type[BaseFeaturesExtractor], dict[str, Any]]] = {
    PLAIN: (NatureCNN, {}),
    "PlainCNN": (PlainCNN, {}),
    "PlainCNN in bfloat16": (PlainCNN, BFLOAT16),
    "SpatialAttentionCNN": (SpatialAttentionCNN, {}),
    "SpatialAttentionCNN in bfloat16": (SpatialAttentionCNN, BFLOAT16),
    "ChannelAttentionCNN (SE)": (ChannelAttentionCNN, dict(kind="se")),
    "ChannelAttentionCNN (CBAM)": (ChannelAttentionCNN, dict(kind="cbam")),
    "RelationalCNN": (RelationalCNN, {}),
    "PatchTransformer": (PatchTransformer, {}),
    "FrameAttention": (FrameAttention, {}),
    "FrameAttention in bfloat16": (FrameAttention, BFLOAT16),
    "ImpalaCNN": (ImpalaCNN, {}),
    "ImpalaCNN in bfloat16": (ImpalaCNN, BFLOAT16),
}


class Noise(gym.Env):
    """Frames of noise: an update costs the same whatever they show."""

    def __init__(self, channels: int, size: int) -> None:
        self.observation_space = spaces.Box(0, 255, (channels, size, size), np.uint8)
        self.action_space = spaces.Discrete(6)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, False, {}


def make_model(extractor_class: type[BaseFeaturesExtractor], kwargs: dict[str, Any], channels: int, size: int) -> DQN:
    """A stock DQN with a filled buffer; the Q-head is NatureCNN's, one linear layer."""
    model = DQN(
        "CnnPolicy",
        Noise(channels, size),
        buffer_size=128,
        learning_starts=10**6,
        policy_kwargs=dict(features_extractor_class=extractor_class, features_extractor_kwargs=kwargs, net_arch=[]),
        seed=0,
    )
    model.set_logger(configure(None, []))
    return model.learn(128)


def seconds(function: Any, *args: Any) -> float:
    """Of one call."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--size", type=int, default=84, help="pixels on a side")
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    th.set_num_threads(args.threads)

    models = {name: make_model(*spec, args.channels, args.size) for name, spec in CONTENDERS.items()}
    observation = models[PLAIN].observation_space.sample()
    updates: dict[str, list[float]] = {name: [] for name in models}
    actions: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    for round_number in range(-3, args.rounds):
        random.shuffle(order)
        for name in order:
            update = seconds(models[name].train, 1, args.batch_size)
            action = seconds(partial(models[name].predict, observation, deterministic=True))
            if round_number >= 0:  # the first ones warm up
                updates[name].append(update)
                actions[name].append(action)

    print(f"\n{args.size}×{args.size}×{args.channels}, batch {args.batch_size}, {args.threads} thread(s), ", end="")
    print(f"median of {args.rounds} interleaved rounds, torch {th.__version__}\n")
    print("| extractor | parameters | ms an update | over NatureCNN | ms an action |")
    print("|---|--:|--:|--:|--:|")
    for name, model in models.items():
        n_parameters = sum(parameter.numel() for parameter in model.q_net.features_extractor.parameters())
        ratio = statistics.median(mine / plain for mine, plain in zip(updates[name], updates[PLAIN], strict=True))
        update, action = statistics.median(updates[name]), statistics.median(actions[name])
        print(f"| {name} | {n_parameters:,} | {update * 1e3:.1f} | {ratio:.2f} | {action * 1e3:.2f} |")


if __name__ == "__main__":
    main()
