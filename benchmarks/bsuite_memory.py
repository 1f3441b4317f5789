"""
How far back: bsuite's ``memory_len`` (Osband et al., 2020, https://arxiv.org/abs/1908.03568), a bit that is shown in an
episode's first step and asked for in its last, 1 to 100 steps later; 23 lengths, 10,000 training episodes each (of
eight copies of the environment together), one setting for all. The score is that of bsuite's own analysis: the share of
the lengths whose regret over *all* training episodes, those that explored included, is below 0.75 of a random agent's.

    pip install --no-deps bsuite shimmy dm_env dm-tree immutabledict    # bsuite's own requirements clash with popgym's
    pip install plotnine scikit-image termcolor
    python benchmarks/bsuite_memory.py --jobs 2          # run what is missing, then print the table
    python benchmarks/bsuite_memory.py --lengths 10 100 --memories lstm
    python benchmarks/bsuite_memory.py --table

Resumable; results in ``benchmarks/results/bsuite_memory.jsonl``.
"""

import time
from typing import Any, NamedTuple

import gymnasium as gym
import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_attnmem import MEMORIES, EpisodeSequenceReplayBuffer, RecurrentDQN

RESULTS = ResultsFile("bsuite_memory")
LENGTHS = (*range(1, 11), 12, 14, 17, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100)
N_EPISODES = 10_000
N_ENVS = 8
#: of all lengths; windows of whole episodes hold the longest, and an update for 256 steps is enough
SETTINGS: dict[str, Any] = dict(
    replay_buffer_class=EpisodeSequenceReplayBuffer, sequence_length=104, batch_size=8, train_freq=32
)
#: an environment keeps its noise for an episode: the Zoo's entry for far T-Mazes, which ask for as much
NOISY = "episode"
#: of memories: one cue of long ago is learned in fewer updates without a convolution (docs/memories.md)
MEMORY_KWARGS = {"deltanet": dict(conv_size=1)}


class Run(NamedTuple):
    """
    :param length: steps between the bit and the question
    :param memory: a registered name
    :param seed: of the agent; bsuite has one of its own for each length
    """

    length: int
    memory: str
    seed: int


class Perfect(BaseCallback):
    """Counts the episodes that were answered rightly, a tenth of the training at a time, and ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.n_episodes = self.n_perfect = 0
        self.curve: list[tuple[int, int]] = []

    def _on_step(self) -> bool:
        for done, reward in zip(self.locals["dones"], self.locals["rewards"], strict=True):
            if done:
                self.n_episodes += 1
                self.n_perfect += int(reward > 0)
                if self.n_episodes % (N_EPISODES // 10) == 0:
                    self.curve.append((self.n_episodes, self.n_perfect))
        return self.n_episodes < N_EPISODES


def make_env(length: int, seed: int) -> gym.Env:
    """
    :param length: steps between the bit and the question
    :param seed: of the bits
    :return: bsuite's environment
    """
    from bsuite.experiments.memory_len import memory_len
    from shimmy.bsuite_compatibility import BSuiteCompatibilityV0

    return Monitor(gym.wrappers.FlattenObservation(BSuiteCompatibilityV0(memory_len.load(length, seed))))


def make_envs(length: int, first_seed: int) -> VecEnv:
    """:return: copies of bsuite's environment, which differ by their bits"""
    return DummyVecEnv([lambda seed=first_seed + i: make_env(length, seed) for i in range(N_ENVS)])  # type: ignore[misc]


def train(run: Run) -> Line:
    th.set_num_threads(1)
    memory_kwargs = MEMORY_KWARGS.get(run.memory, {})
    policy_kwargs = dict(memory_class=run.memory, memory_kwargs=memory_kwargs, noisy=NOISY)
    envs = make_envs(run.length, N_ENVS * run.seed)
    model = RecurrentDQN("MlpPolicy", envs, seed=run.seed, policy_kwargs=policy_kwargs, **SETTINGS)
    perfect, begin = Perfect(), time.process_time()
    model.learn(2 * N_EPISODES * (run.length + 1), callback=perfect)
    seconds = round(time.process_time() - begin)
    score, _ = evaluate_policy(model, make_envs(run.length, 1_000 + N_ENVS * run.seed), n_eval_episodes=100)
    steps = model.num_timesteps
    return dict(perfect=perfect.n_perfect, greedy=float(score), cpu_seconds=seconds, steps=steps, curve=perfect.curve)


def report(memories: list[str]) -> None:
    """Print greedy scores by length, and the score of bsuite's analysis."""
    import pandas as pd
    from bsuite.experiments.memory_len import analysis

    print(f"| memory | score of bsuite | {' | '.join(map(str, LENGTHS))} |\n|---|---|{'--:|' * len(LENGTHS)}")
    for memory in memories:
        runs = {line["length"]: line for line in RESULTS.lines() if line["memory"] == memory and line["seed"] == 0}
        cells = [f"{runs[length]['greedy']:.2f}{runs[length]['mark']}" if length in runs else "–" for length in LENGTHS]
        score = "–"
        if runs:
            rows = [dict(memory_length=n, episode=N_EPISODES, total_perfect=run["perfect"]) for n, run in runs.items()]
            score = f"{analysis.score(pd.DataFrame(rows)):.2f} of {len(runs)} lengths"
        print(f"| {memory} | {score} | {' | '.join(cells)} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--lengths", nargs="+", type=int, choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--memories", nargs="+", choices=list(MEMORIES), default=["deltanet"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    if not args.table:
        runs = [Run(length, memory, s) for s in args.seeds for memory in args.memories for length in args.lengths]
        RESULTS.run_missing(train, runs, args.jobs)
    report(args.memories)
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
