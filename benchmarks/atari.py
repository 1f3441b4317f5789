"""
Environment steps a second of ``make_atari_vec_env`` over those of Stable-Baselines3's ``make_atari_env`` with
``DummyVecEnv``: the same game, random actions, in turns in one run.

    python benchmarks/atari.py [--n-envs 8] [--steps 8000] [--threads 0]
"""

import argparse
import statistics
import time

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.envs import make_atari_vec_env


def steps_a_second(env: VecEnv, n_steps: int) -> float:
    """:return: environment steps, all environments together"""
    assert isinstance(env.action_space, spaces.Discrete)
    rng = np.random.default_rng(0)
    env.reset()
    begin = time.perf_counter()
    for _ in range(n_steps // env.num_envs):
        env.step(rng.integers(env.action_space.n, size=env.num_envs))
    return n_steps / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="PongNoFrameskip-v4")
    parser.add_argument("--n-envs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8_000, help="environment steps a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of ALE; 0 takes as many as there are cores")
    args = parser.parse_args()
    theirs = make_atari_env(args.game, args.n_envs, seed=0)
    ours = make_atari_vec_env(args.game, args.n_envs, seed=0, n_threads=args.threads)
    speeds = [(steps_a_second(theirs, args.steps), steps_a_second(ours, args.steps)) for _ in range(args.rounds)]
    print(f"{args.game}, {args.n_envs} environments, medians of {args.rounds} rounds")
    print("| environment | steps a second |\n|---|---|")
    print(f"| `make_atari_env`, `DummyVecEnv` | {statistics.median(x for x, _ in speeds):,.0f} |")
    print(f"| `make_atari_vec_env` | {statistics.median(y for _, y in speeds):,.0f} |")
    print(f"| ratio | {statistics.median(y / x for x, y in speeds):.2f} |")


if __name__ == "__main__":
    main()
