"""
Memory against no memory, in about a minute: RecurrentDQN and SB3's DQN learn the passive T-Maze with a corridor of 10.
The cue at the first step says which way to turn at the last; without memory nobody scores more than 0.5 on average.

    python examples/quickstart.py [--steps 50000]
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

import sb3_attnmem.envs
from sb3_attnmem import RecurrentDQN

OUT = Path("outputs/quickstart")


def make_env(seed: int) -> VecEnv:
    wrapper_kwargs = dict(reward=False)  # the previous action, but not the previous reward
    return make_vec_env(
        "PassiveTMaze10-v0",
        n_envs=8,
        seed=seed,
        wrapper_class=sb3_attnmem.envs.PreviousActionReward,  # type: ignore[arg-type]
        wrapper_kwargs=wrapper_kwargs,
    )


def train(model: BaseAlgorithm, name: str, steps: int) -> float:
    """Train with a progress bar and an evaluation every 4,000 steps; return the greedy score of the final model."""
    print(f"\n{name}: {steps:,} steps")
    callback = EvalCallback(make_env(1000), n_eval_episodes=40, eval_freq=500, log_path=str(OUT / name), verbose=0)
    model.learn(steps, callback=callback, progress_bar=True)
    model.save(OUT / name)
    score, _ = evaluate_policy(model, make_env(2000), n_eval_episodes=100)
    return float(score)  # type: ignore[arg-type]


def plot(names: list[str]) -> None:
    fig, ax = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for name in names:
        log = np.load(OUT / name / "evaluations.npz")
        ax.plot(log["timesteps"], log["results"].mean(axis=1), label=name)
    ax.axhline(0.5, color="grey", linestyle="--", linewidth=1, label="best without memory, on average")
    ax.set(xlabel="environment steps", ylabel="mean return of 40 greedy episodes", title="Passive T-Maze, corridor 10")
    ax.set_ylim(-1.1, 1.1)
    ax.legend(loc="lower right")
    fig.savefig(OUT / "learning_curve.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="environment steps of each agent")
    steps = parser.parse_args().steps
    th.set_num_threads(1)  # the fastest for networks of this size
    OUT.mkdir(parents=True, exist_ok=True)
    recurrent = RecurrentDQN("MlpPolicy", make_env(0), buffer_size=50_000, seed=0)
    # As many samples an update, as often: 16 sequences of 64 steps every 32 steps
    memoryless = DQN(
        "MlpPolicy",
        make_env(0),
        learning_rate=LinearSchedule(1e-3, 1e-4, 1.0),
        learning_starts=1000,
        batch_size=1024,
        train_freq=4,
        target_update_interval=32,
        tau=0.02,
        n_steps=5,
        buffer_size=50_000,
        seed=0,
    )
    models: dict[str, BaseAlgorithm] = {"RecurrentDQN": recurrent, "DQN": memoryless}
    scores = {name: train(model, name, steps) for name, model in models.items()}
    plot(list(scores))

    print("\nGreedy score of the final models, 100 episodes (1.0 is perfect, 0.5 the best without memory on average):")
    for name, score in scores.items():
        print(f"  {name:<13} {score:5.2f}")
    print(f"\nLearning curve: {OUT / 'learning_curve.png'}   model: {OUT / 'RecurrentDQN.zip'}")


if __name__ == "__main__":
    main()
