"""
Does attention help a stock DQN on image tasks that a CPU can learn? The plain trunk against each attention extractor,
at equal environment steps, same trunk, same width, same Q-head, same hyperparameters.

    pip install --no-deps minatar                            # the games; minigrid comes with [memory-tasks]
    python benchmarks/attention_learning.py                  # all that is not in the results file yet
    python benchmarks/attention_learning.py --table          # what is in it

Resumable; results in ``benchmarks/results/attention_learning.jsonl``.
"""

import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from resumable import Line, ResultsFile, options
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from tasks.minatar_games import MinAtar

from sb3_attnmem.extractors import EXTRACTORS

RESULTS = ResultsFile("attention_learning")
CONTENDERS: dict[str, dict[str, Any]] = {
    "plain_cnn": {},
    "spatial_attention_cnn": {},
    "channel_attention_cnn": {},
    "relational_cnn": dict(n_layers=1),
    "patch_transformer": {},
}
N_ENVS = 8


class GridImage(gym.ObservationWrapper):
    """MiniGrid's 7×7×3 view as floats in [0, 1]: what (11 kinds), which colour (6), which state (3)."""

    largest = np.array([10, 5, 2], np.float32)

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0.0, 1.0, (7, 7, 3), np.float32)

    def observation(self, observation: dict[str, Any]) -> np.ndarray:
        return observation["image"] / self.largest


def minigrid(name: str) -> gym.Env:
    """:return: a MiniGrid task with images"""
    import minigrid  # noqa: F401

    return GridImage(gym.make(name))


# task -> (environment, environment steps)
TASKS: dict[str, tuple[Callable[[], gym.Env], int]] = {
    "MinAtar Breakout": (lambda: MinAtar("breakout"), 120_000),
    "MinAtar Space Invaders": (lambda: MinAtar("space_invaders"), 80_000),
    "MinAtar Asterix": (lambda: MinAtar("asterix"), 300_000),
    "MinAtar Freeway": (lambda: MinAtar("freeway"), 300_000),
    "MinAtar Seaquest": (lambda: MinAtar("seaquest"), 300_000),
    "MiniGrid DoorKey 5×5": (lambda: minigrid("MiniGrid-DoorKey-5x5-v0"), 100_000),
}


class UpdateTimes(BaseCallback):
    """Time from one rollout's end to the next one's start: the update, and next to nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def _on_rollout_end(self) -> None:
        self.ended = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if hasattr(self, "ended") and self.model.num_timesteps > self.model.learning_starts:
            self.seconds.append(time.perf_counter() - self.ended)

    def _on_step(self) -> bool:
        return True


def make_model(task: str, extractor: str, seed: int, fused: bool = True) -> DQN:
    """:return: a stock DQN, untrained; ``fused``: Adam in one call"""
    make_env, _ = TASKS[task]
    # Seaquest's 10 × 10 × 10 do not tell by themselves which axis is which
    channels = "last" if task.startswith("MinAtar") else "auto"
    return DQN(
        "CnnPolicy",
        make_vec_env(make_env, n_envs=N_ENVS, seed=seed),
        learning_rate=5e-4,
        buffer_size=100_000,
        learning_starts=5_000,
        batch_size=32,
        gamma=0.99,
        n_steps=3,
        train_freq=1,  # an update every N_ENVS environment steps
        target_update_interval=4_000,
        exploration_fraction=0.3,
        exploration_final_eps=0.05,
        policy_kwargs=dict(
            features_extractor_class=EXTRACTORS[extractor],
            features_extractor_kwargs=dict(CONTENDERS[extractor], features_dim=128, channels=channels),
            net_arch=[],
            optimizer_kwargs=dict(fused=fused),
        ),
        seed=seed,
        stats_window_size=100,
        device="cpu",
    )


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param extractor: of ``CONTENDERS``
    :param seed: of the run
    :param steps: environment steps
    """

    task: str
    extractor: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    th.set_flush_denormal(True)  # what they cost: benchmarks/optimizer.py
    make_env, _ = TASKS[run.task]
    model = make_model(run.task, run.extractor, run.seed)
    times = UpdateTimes()
    start = time.perf_counter()
    model.learn(run.steps, callback=times)
    seconds = time.perf_counter() - start
    episodes = [episode["r"] for episode in model.ep_info_buffer or []]
    returns, _ = evaluate_policy(
        model, make_vec_env(make_env, n_envs=N_ENVS, seed=run.seed + 10_000), 50, return_episode_rewards=True
    )
    return {
        "greedy_return": round(statistics.mean(map(float, returns)), 4),
        "last_100_training_returns": round(float(np.mean(episodes)), 4) if episodes else None,
        "parameters": sum(parameter.numel() for parameter in model.q_net.parameters()),
        "ms_an_update": round(1e3 * statistics.median(times.seconds), 2) if times.seconds else None,
        "seconds": round(seconds),
    }


def print_table(results: list[dict[str, Any]]) -> None:
    """Means over seeds, each seed in brackets."""
    rows = defaultdict(list)
    for result in results:
        rows[result["task"], result["steps"], result["extractor"]].append(result)
    print("\n| task | steps | extractor | greedy return (seeds) | last 100 training | parameters | ms an update |")
    print("|---|--:|---|---|--:|--:|--:|")
    order = list(itertools.product(TASKS, CONTENDERS))
    for (task, steps, extractor), runs in sorted(rows.items(), key=lambda row: (order.index(row[0][::2]), row[0][1])):
        runs.sort(key=lambda result: result["seed"])
        returns = [result["greedy_return"] for result in runs]
        training = [result["last_100_training_returns"] for result in runs if result["last_100_training_returns"]]
        times = [result["ms_an_update"] for result in runs if result["ms_an_update"]]
        each = ", ".join(f"{result['greedy_return']:.2f}{result['mark']}" for result in runs)
        print(
            f"| {task} | {steps:,} | {extractor} | **{statistics.mean(returns):.2f}** ({each}) "
            f"| {statistics.mean(training) if training else float('nan'):.2f} | {runs[0]['parameters']:,} "
            f"| {statistics.median(times) if times else float('nan'):.1f} |"
        )


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--extractors", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="environment steps instead of the task's own")
    args = parser.parse_args()
    if not args.table:
        # All contenders of a seed before the next seed: an interrupted table still compares like with like
        runs = [
            Run(task, extractor, seed, args.steps or TASKS[task][1])
            for task, seed, extractor in itertools.product(args.tasks, args.seeds, args.extractors)
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    print_table(RESULTS.lines())
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
