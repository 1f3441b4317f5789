"""
What does it save to keep freed memory? CPU time of a step of ``learn`` with glibc's defaults, which give every large
block back to the system, and with its variables set so that they are kept; each in processes of their own, by turns.

    python benchmarks/allocator.py --rounds 3
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

import gymnasium as gym
import torch as th
from stable_baselines3 import DQN

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import make_atari_vec_env
from sb3_attnmem.extractors import SpatialAttentionCNN

KEEP = dict(MALLOC_MMAP_MAX_="0", MALLOC_TRIM_THRESHOLD_="4000000000", MALLOC_TOP_PAD_="64000000")
PONG = "PongNoFrameskip-v4"


def recurrent_pong() -> RecurrentDQN:
    """:return: updates of 8 × 16 steps every 8 transitions, as in its Zoo entry"""
    envs = make_atari_vec_env(PONG, 8, 0, n_threads=1)
    sizes: dict[str, Any] = dict(batch_size=8, sequence_length=16, learning_starts=500, buffer_size=10_000)
    return RecurrentDQN("CnnLstmPolicy", envs, train_freq=1, n_steps=3, device="cpu", **sizes)


def stock_pong() -> DQN:
    """:return: stock DQN, spatial attention, four frames, updates of 64 transitions every 4"""
    envs = make_atari_vec_env(PONG, 8, 0, n_threads=1, n_stack=4)
    sizes: dict[str, Any] = dict(batch_size=64, learning_starts=500, buffer_size=10_000)
    policy = dict(features_extractor_class=SpatialAttentionCNN, optimizer_kwargs=dict(fused=True))
    return DQN("CnnPolicy", envs, train_freq=1, gradient_steps=2, policy_kwargs=policy, device="cpu", **sizes)


TASKS = {
    "Pong, `RecurrentDQN`": (recurrent_pong, 1_000),
    "Pong, stock `DQN`, spatial attention": (stock_pong, 1_000),
    "CartPole, `RecurrentDQN`": (lambda: RecurrentDQN("MlpPolicy", gym.make("CartPole-v1"), device="cpu"), 4_000),
}


def measure(task: str) -> None:
    """Print the CPU milliseconds of a step of learning, and the largest memory in MB."""
    th.set_num_threads(1)
    build, steps = TASKS[task]
    model = build()
    model.learn(1_000)
    begun = time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    seconds = time.process_time() - begun
    print("measured", 1e3 * seconds / steps, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=TASKS, help="measure one, in this process")
    args = parser.parse_args()
    if args.task:
        measure(args.task)
        return
    print("| task | ms a step | kept: ratio | MB | kept |\n|---|--:|--:|--:|--:|")
    for task in TASKS:
        found = defaultdict(list)
        for _ in range(args.rounds):
            for kept in (False, True):
                environment = {name: value for name, value in os.environ.items() if name not in KEEP}
                command = [sys.executable, __file__, "--task", task]
                out = subprocess.run(
                    command, env=environment | (KEEP if kept else {}), capture_output=True, text=True, check=True
                )
                found[kept].append([float(word) for word in out.stdout.splitlines()[-1].split()[1:]])
        (time_before, memory_before), (time_kept, memory_kept) = (
            map(statistics.median, zip(*found[kept], strict=True)) for kept in (False, True)
        )
        print(
            f"| {task} | {time_before:.2f} | {time_kept / time_before:.2f} | {memory_before:.0f} | {memory_kept:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
