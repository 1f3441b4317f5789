"""
What the replay buffer costs: resident memory of 100,000 Atari transitions (84×84, 4 stacked frames, states of an LSTM
of 512 every 8 steps) beside stock SB3's, and the time of ``sample`` when little and when much is stored.

    python benchmarks/replay.py [--transitions 100000] [--large 1000000]

Every measurement of memory has a process of its own. The large buffer takes 7.6 GB.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_attnmem import SequenceReplayBuffer
from sb3_attnmem.replay import FrameStack

N_ENVS, SIDE, STACK, HIDDEN = 8, 84, 4, 512
STACKED = spaces.Box(0, 255, (STACK, SIDE, SIDE), np.uint8)
ACTIONS = spaces.Discrete(6)


def make_ours(size: int) -> SequenceReplayBuffer:
    return SequenceReplayBuffer(
        size,
        STACKED,
        ACTIONS,
        "cpu",
        N_ENVS,
        sequence_length=80,
        burn_in=40,
        n_steps=5,
        frame_stack=FrameStack(STACK, 0),
    )


def fill(buffer: ReplayBuffer, n_transitions: int) -> None:
    """Episodes of 1,000 steps of noise, stacked as ``VecFrameStack`` stacks them."""
    rng = np.random.default_rng(0)
    noise = rng.integers(1, 256, (64, N_ENVS, SIDE, SIDE), dtype=np.uint8)
    stacks = np.zeros((N_ENVS, STACK, SIDE, SIDE), np.uint8)
    stacks[:, -1] = noise[0]
    state = (th.zeros(N_ENVS, 1, HIDDEN), th.zeros(N_ENVS, 1, HIDDEN))
    for step in range(n_transitions // N_ENVS):
        done = np.full(N_ENVS, (step + 1) % 1000 == 0)
        following = np.roll(stacks, -1, axis=1)
        following[:, -1] = noise[(step + 1) % 64]
        if isinstance(buffer, SequenceReplayBuffer):
            buffer.stage_state(state)
        buffer.add(stacks, following, np.zeros(N_ENVS, int), np.zeros(N_ENVS), done, [{}] * N_ENVS)
        stacks = following
        if done[0]:
            stacks = np.zeros_like(stacks)
            stacks[:, -1] = noise[(step + 1) % 64]


def resident(make: Callable[[int], ReplayBuffer], n_transitions: int) -> float:
    """:return: bytes of resident memory a transition"""
    process = psutil.Process()
    fill(make(8 * 200), 8 * 200)  # what every process needs is there before the first measurement
    before = process.memory_info().rss
    buffer = make(n_transitions)
    fill(buffer, n_transitions)
    return (process.memory_info().rss - before) / n_transitions


def make_stock(size: int) -> ReplayBuffer:
    return ReplayBuffer(size, STACKED, ACTIONS, "cpu", N_ENVS)


def milliseconds(buffer: SequenceReplayBuffer, n: int = 60) -> float:
    """:return: of ``sample(32)``, the median"""
    times = []
    for _ in range(n + 5):
        begin = time.perf_counter()
        buffer.sample(32)
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transitions", type=int, default=100_000, help="of the comparison of memory")
    parser.add_argument("--large", type=int, default=1_000_000, help="transitions stored, of the times of sample")
    args = parser.parse_args()
    th.set_num_threads(1)
    print(f"{SIDE}×{SIDE}, {STACK} stacked frames, LSTM {HIDDEN}; {args.transitions:,} transitions")
    print("| buffer | resident bytes a transition | over one frame (7,056) |\n|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for name, make in (("SequenceReplayBuffer", make_ours), ("stock ReplayBuffer", make_stock)):
        with context.Pool(1) as pool:
            nbytes = pool.apply(resident, (make, args.transitions))
        print(f"| {name} | {nbytes:,.0f} | {nbytes / SIDE**2:.2f} |", flush=True)
    print("\n| transitions stored | ms a sample of 32 sequences of 40 + 80 + 5 |\n|---|---|")
    small, large = make_ours(10_000), make_ours(args.large)
    for buffer, size in ((small, 10_000), (large, args.large)):
        fill(buffer, size)
    for buffer in (small, large, small, large):  # in turns
        print(f"| {buffer.size() * N_ENVS:,} | {milliseconds(buffer):.1f} |", flush=True)


if __name__ == "__main__":
    main()
