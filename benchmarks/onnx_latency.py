"""
What one acting step costs: ``model.predict`` of torch beside ``OnnxPolicy.predict`` of the exported file, for each
memory on vectors of 4 numbers, and for LSTMs of 512 behind images of 4×84×84. They are measured in turns on one thread,
in CPU time, which other processes disturb least; each figure is the median over the rounds, each ratio the median of
the rounds' ratios.

    python benchmarks/onnx_latency.py [--rounds 9] [--only lstm gru] [--n-envs 1 8]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch as th
from gymnasium import Env, spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import OnnxPolicy, export_onnx
from sb3_attnmem.memory import MEMORIES

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
IMAGE = spaces.Box(0, 255, (4, 84, 84), np.uint8)


class Still(Env):
    """Never stepped: it tells of its spaces."""

    def __init__(self, space: spaces.Space) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return self.observation_space.sample(), {}


def models(names: list[str]) -> Iterator[tuple[str, RecurrentDQN]]:
    """:return: what is measured, by name"""
    for name in names:
        if MEMORIES[name].reads == "vector":
            kwargs: dict[str, Any] = dict(memory_class=name)
            yield f"`{name}`, 4 numbers", make("MlpPolicy", VECTOR, kwargs)
    images: dict[str, dict[str, Any]] = {
        "lstm": dict(memory_class="lstm", memory_kwargs=dict(hidden_size=512)),
        "attentive_lstm": dict(
            memory_class="attentive_lstm",
            memory_kwargs=dict(hidden_size=512),
            features_extractor_class="plain_cnn",
            features_extractor_kwargs=dict(output="map"),
        ),
    }
    for name, kwargs in images.items():
        if name in names:
            yield f"`{name}` of 512, 4×84×84", make("CnnPolicy", IMAGE, kwargs)


def make(policy: str, space: spaces.Space, policy_kwargs: dict[str, Any]) -> RecurrentDQN:
    env = DummyVecEnv([lambda: Still(space)])
    return RecurrentDQN(policy, env, buffer_size=1, policy_kwargs=policy_kwargs, seed=0, device="cpu")


def player(predict: Callable[..., Any], obs: np.ndarray, n_steps: int) -> Callable[[], float]:
    """:return: a function that plays some steps and tells what CPU time one took, in ms"""
    nothing_begins, state = np.zeros(len(obs), bool), None

    def run() -> float:
        nonlocal state
        begin = time.process_time()
        for _ in range(n_steps):
            _, state = predict(obs, state, nothing_begins, deterministic=True)
        return 1e3 * (time.process_time() - begin) / n_steps

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each; the medians count")
    parser.add_argument("--steps", type=int, default=200, help="acting steps a measurement")
    parser.add_argument("--only", nargs="+", choices=list(MEMORIES), default=list(MEMORIES), help="memories")
    parser.add_argument("--n-envs", nargs="+", type=int, default=[1, 8], help="observations a step")
    args = parser.parse_args()
    th.set_num_threads(1)
    versions = f"torch {th.__version__}, onnxruntime {onnxruntime.__version__}"
    print(f"CPU time of a step, 1 thread, {args.rounds} rounds of {args.steps} steps, {versions}.\n")
    print(
        "| memory, observation | batch | `model.predict` | `OnnxPolicy.predict` | times faster |\n|---|---|---|---|---|"
    )
    for name, model in models(args.only):
        with tempfile.TemporaryDirectory() as folder:
            policy = OnnxPolicy(export_onnx(model, Path(folder) / "model.onnx").path)
        for n_envs in args.n_envs:
            obs = np.stack([model.observation_space.sample() for _ in range(n_envs)])
            torch_run, onnx_run = (player(one.predict, obs, args.steps) for one in (model, policy))
            times = [(torch_run(), onnx_run()) for _ in range(args.rounds + 1)][1:]
            by_torch, by_onnx = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(a / b for a, b in times)
            print(f"| {name} | {n_envs} | {by_torch:.3f} ms | {by_onnx:.3f} ms | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
