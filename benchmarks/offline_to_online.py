"""
Does a buffer of a mediocre agent help? Offline training on it, with and without the conservative term, then online with
a share of old data in each batch, against online alone at equal environment steps. The passive T-Maze of 10 steps; the
data are the replay buffer of an agent that was stopped early. Resumable; results in
``benchmarks/results/offline_to_online.jsonl``, the buffers in ``logs/offline``.

    python benchmarks/offline_to_online.py --jobs 2    # run what is missing, then print the table and draw it
    python benchmarks/offline_to_online.py --table
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import matplotlib
import numpy as np
import torch as th
from base_settings import settings_of
from resumable import Line, ResultsFile, options
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PreviousActionReward
from sb3_attnmem.transfer import fill_from_buffer, keep_old_data

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[1]
RESULTS = ResultsFile("offline_to_online")
PLOT = ROOT / "docs" / "pictures" / "offline_to_online.png"
DATA = ROOT / "logs" / "offline"
TASK = "PassiveTMaze10-v0"
SETTINGS = settings_of(TASK)
SEEDS = (0, 1, 2)
#: a mediocre agent stops learning at this score (it learns for so many environment steps at most); 0.5 wants no memory
MEDIOCRE, MEDIOCRE_STEPS = 0.3, 20_000
#: updates offline; environment steps online
UPDATES, ONLINE_STEPS, EVERY = 625, 40_000, 4_000


class Variant(NamedTuple):
    """
    :param conservative_weight: of offline training
    :param old_share: of old data online; 0: the data are dropped
    """

    conservative_weight: float
    old_share: float


VARIANTS = {
    "online only": None,
    "offline, then 50% old data": Variant(0.0, 0.5),
    "offline conservative, then 50% old data": Variant(0.5, 0.5),
    "offline conservative, then no old data": Variant(0.5, 0.0),
}


class Run(NamedTuple):
    """
    :param variant: an entry of VARIANTS
    :param seed: of the run
    """

    variant: str
    seed: int


def make_maze() -> gym.Env:
    return PreviousActionReward(gym.make(TASK), reward=False)


def make_model(seed: int, **changes: Any) -> RecurrentDQN:
    settings = {name: x for name, x in SETTINGS.items() if name not in ("env_wrapper", "n_envs", "n_timesteps")}
    settings |= dict(learning_rate=1e-3, sequence_length=32, **changes)
    env = make_vec_env(make_maze, n_envs=SETTINGS["n_envs"], seed=seed)
    return RecurrentDQN(env=env, seed=seed, **settings)


def score(model: RecurrentDQN, scoring: VecEnv) -> float:
    return round(float(evaluate_policy(model, scoring, n_eval_episodes=48)[0]), 3)  # type: ignore[arg-type]


def buffer_of(seed: int) -> tuple[Path, float]:
    """:return: the buffer of a mediocre agent, and the agent's score; made the first time"""
    path = DATA / f"mediocre-{seed}.pkl"
    told = path.with_suffix(".txt")
    if not told.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        model = make_model(100 + seed)
        scoring = make_vec_env(make_maze, n_envs=8, seed=2_000 + seed)
        stop = StopTrainingOnRewardThreshold(MEDIOCRE, verbose=0)
        model.learn(MEDIOCRE_STEPS, EvalCallback(scoring, stop, n_eval_episodes=48, eval_freq=64, verbose=0))
        model.save_replay_buffer(path)
        told.write_text(str(score(model, scoring)), encoding="utf-8")
    return path, float(told.read_text(encoding="utf-8"))


class Scores(BaseCallback):
    """
    Score greedy episodes on the way.

    :param scoring: to score in
    """

    def __init__(self, scoring: VecEnv) -> None:
        super().__init__()
        self.scoring = scoring
        self.curve: list[tuple[int, float]] = []

    def _on_training_start(self) -> None:
        self.curve.append((0, score(self.model, self.scoring)))  # type: ignore[arg-type]

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.curve[-1][0] + EVERY:
            self.curve.append((self.num_timesteps, score(self.model, self.scoring)))  # type: ignore[arg-type]
        return True


def train(run: Run) -> Line:
    th.set_num_threads(1)
    begin, variant = time.time(), VARIANTS[run.variant]
    scoring = make_vec_env(make_maze, n_envs=8, seed=1_000 + run.seed)
    source = None
    if variant is None:
        model = make_model(run.seed)
    else:
        path, source = buffer_of(run.seed)
        # An agent that knows something need not begin with random actions
        model = make_model(run.seed, learning_starts=256, exploration_initial_eps=SETTINGS["exploration_final_eps"])
        fill_from_buffer(model, path)
        model.learn_offline(UPDATES, conservative_weight=variant.conservative_weight)
        keep_old_data(model, variant.old_share)
    callback = Scores(scoring)
    model.learn(ONLINE_STEPS, callback)
    return dict(
        source=source,
        score=callback.curve[-1][1],
        mean=round(float(np.mean([height for _, height in callback.curve])), 3),
        curve=callback.curve,
        seconds=round(time.time() - begin),
    )


def report() -> None:
    """Print the table, draw the curves."""
    found: dict[str, list[Line]] = {}
    for line in sorted(RESULTS.lines(), key=lambda line: line["seed"]):
        found.setdefault(line["variant"], []).append(line)
    sources = sorted({(run["seed"], run["source"]) for runs in found.values() for run in runs if run["source"]})
    means = [height for _, height in sources]
    print(f"The agents that the data are of, by seed: {', '.join(f'{height:.2f}' for height in means)}\n")
    middle = ONLINE_STEPS // 2
    print(f"| | before the first step online | after {middle:,} steps | after {ONLINE_STEPS:,} | mean of the curve |")
    print("|---|---|---|---|---|")
    for variant in VARIANTS:
        runs = found.get(variant, [])
        halfway = [next(height for step, height in run["curve"] if step >= middle) for run in runs]
        cells = [
            [run["curve"][0][1] for run in runs],
            halfway,
            [run["score"] for run in runs],
            [run["mean"] for run in runs],
        ]
        print(f"| {variant} | " + " | ".join(", ".join(f"{x:.2f}" for x in cell) or "–" for cell in cells) + " |")
    figure, axis = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for i, variant in enumerate(VARIANTS):
        curves = [np.array(run["curve"]) for run in found.get(variant, [])]
        if not curves:
            continue
        steps = curves[0][:, 0]
        heights = np.stack([np.interp(steps, *curve.T) for curve in curves])
        axis.plot(steps, heights.mean(axis=0), "o-", color=f"C{i}", label=variant, markersize=4)
        axis.fill_between(steps, heights.min(axis=0), heights.max(axis=0), color=f"C{i}", alpha=0.12)
    if means:
        axis.axhline(float(np.mean(means)), color="grey", linestyle=":", label="agents that the data are of")
    axis.set(xlabel="environment steps online", ylabel="greedy return (mean and range of the seeds)", title=TASK)
    axis.legend(fontsize=8)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def main() -> None:
    parser = options(__doc__)
    args = parser.parse_args()
    if not args.table:
        th.set_num_threads(1)
        for seed in SEEDS:  # before runs that share them
            buffer_of(seed)
        RESULTS.run_missing(train, [Run(variant, seed) for seed in SEEDS for variant in VARIANTS], args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
