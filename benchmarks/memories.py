"""
What each memory costs beside the LSTM: one update (forward and backward over 32 sequences of T steps) and one acting
step (8 environments), at width 128, without encoder, head and optimiser. All are measured in turns on one thread, in
CPU time, which other processes disturb least; each figure is the median over the rounds of the ratio to the LSTM of
the same round.

    python benchmarks/memories.py [--rounds 7] [--only lstm min_gru lru] [--starts 0.02]
    python benchmarks/memories.py --scan     # which chunk length the scan should have
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch as th

from sb3_attnmem.memory import MEMORIES, BaseMemory, get_memory_class, scan

WIDTH = 128
BATCH = 32
LENGTHS = (32, 128, 512)
N_ENVS = 8
PLACES, CHANNELS = 49, 64  # of the feature map that attentive_lstm reads: a 7×7 map of 64 channels


def make(name: str) -> BaseMemory:
    if name == "none":
        return MEMORIES[name](WIDTH)
    memory_class = get_memory_class(name)
    return memory_class((PLACES, CHANNELS) if memory_class.reads == "map" else WIDTH, hidden_size=WIDTH)  # type: ignore


def features(memory: BaseMemory, batch: int, n_steps: int) -> th.Tensor:
    return th.randn(batch, n_steps, *((PLACES, CHANNELS) if memory.reads == "map" else (WIDTH,)))


def seconds(run: Callable[[], object], repeats: int = 1) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - begin) / repeats


def update(memory: BaseMemory, n_steps: int, starts: float) -> Callable[[], object]:
    """:return: a function that runs one update"""
    inputs = features(memory, BATCH, n_steps).requires_grad_()
    episode_starts = th.rand(BATCH, n_steps) < starts
    state = memory.initial_state(BATCH)
    # Not ones: what a normalisation lets through of them is zero but for rounding, and denormal numbers are slow
    grad = th.randn(BATCH, n_steps, memory.latent_dim)

    def run() -> None:
        memory.zero_grad()
        inputs.grad = None
        memory.unroll(inputs, state, episode_starts).backward(grad)

    return run


def act(memory: BaseMemory) -> Callable[[], object]:
    """:return: a function that takes one step in each environment"""
    inputs = features(memory, N_ENVS, 1)
    starts = th.zeros(N_ENVS, 1, dtype=th.bool)
    state = memory.initial_state(N_ENVS)

    def run() -> None:
        nonlocal state
        with th.no_grad():
            _, state = memory(inputs, state, starts)

    return run


def state_bytes(memory: BaseMemory) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in memory.initial_state(1))


def in_turns(runs: dict[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict[str, list[float]]:
    """:return: name -> seconds of each round, after one round that does not count"""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            elapsed = seconds(run, repeats)
            if round_:
                times[name].append(elapsed)
    return times


def over(times: list[float], base: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def compare(names: list[str], rounds: int, starts: float) -> None:
    memories = {name: make(name) for name in names}
    updates = {
        length: in_turns({name: update(memory, length, starts) for name, memory in memories.items()}, rounds)
        for length in LENGTHS
    }
    steps = in_turns({name: act(memory) for name, memory in memories.items()}, rounds, repeats=200)
    print(f"Width {WIDTH}, {BATCH} sequences, starts {starts}, {rounds} rounds, torch {th.__version__}, 1 thread.")
    print("An LSTM's update takes", end=" ")
    print(", ".join(f"{1e3 * statistics.median(updates[n]['lstm']):.1f} ms at T = {n}" for n in LENGTHS), end="; ")
    print(f"its acting step {1e6 * statistics.median(steps['lstm']):.0f} µs with {N_ENVS} environments.\n")
    columns = [f"T = {n}" for n in LENGTHS]
    print(f"| memory | {' | '.join(columns)} | T = 512 over 128 | acting step | state bytes |")
    print("|---|" + "---|" * (len(LENGTHS) + 3))
    for name, memory in memories.items():
        ratios = [f"{over(updates[n][name], updates[n]['lstm']):.2f}" for n in LENGTHS]
        growth = over(updates[512][name], updates[128][name])
        acting = over(steps[name], steps["lstm"])
        print(f"| `{name}` | {' | '.join(ratios)} | {growth:.1f} | {acting:.2f} | {state_bytes(memory):,} |")


def choose_chunk(rounds: int) -> None:
    """Print the time of a scan, forward and backward, for several chunk lengths, over the shortest."""
    chunks = (4, 8, 16, 32)
    print(f"| scan | {' | '.join(f'chunk {chunk}' for chunk in chunks)} |\n|---|" + "---|" * len(chunks))
    for length in LENGTHS:
        for dtype, width in ((th.float32, WIDTH), (th.complex64, WIDTH // 2)):
            decay = th.rand(BATCH, length, width).to(dtype).requires_grad_()
            inputs = th.randn(BATCH, length, width, dtype=dtype, requires_grad=True)
            initial, ones = th.zeros(BATCH, width, dtype=dtype), th.ones(BATCH, length, width, dtype=dtype)

            def run(chunk: int, decay: th.Tensor = decay, inputs: th.Tensor = inputs, zero=initial, ones=ones) -> None:  # type: ignore
                scan.CHUNK = chunk
                th.autograd.grad(scan.linear_scan(decay, inputs, zero), (decay, inputs), ones)

            times = in_turns({str(n): lambda n=n, run=run: run(n) for n in chunks}, rounds, repeats=3)  # type: ignore
            figures = [f"{1e3 * min(times[str(chunk)]):.2f} ms" for chunk in chunks]
            print(f"| T = {length}, {str(dtype).split('.')[1]} | {' | '.join(figures)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each; the medians count")
    parser.add_argument("--only", nargs="+", choices=list(MEMORIES), default=list(MEMORIES), help="the LSTM always")
    parser.add_argument("--starts", type=float, default=0.0, help="probability that an episode starts at a step")
    parser.add_argument("--scan", action="store_true", help="compare chunk lengths of the scan")
    args = parser.parse_args()
    th.set_num_threads(1)
    th.manual_seed(0)
    if args.scan:
        choose_chunk(args.rounds)
    else:
        compare(list(dict.fromkeys(["lstm", *args.only])), args.rounds, args.starts)


if __name__ == "__main__":
    main()
