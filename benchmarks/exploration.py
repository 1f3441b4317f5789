"""
Plain ε-greedy exploration against random actions that are held, and noisy heads, on T-Maze 30 and MinAtar Breakout.
Resumable; results in ``benchmarks/results/exploration.jsonl``.

    pip install --no-deps minatar
    python benchmarks/exploration.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/exploration.py --table
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize
from tasks.minatar_games import MinAtar

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.envs import PassiveTMaze, PreviousActionReward

RESULTS = ResultsFile("exploration")
N_ENVS = 8


class Task(NamedTuple):
    """
    :param make_env: makes an environment
    :param steps: environment steps to learn for
    :param settings: of the agent, but for its exploration
    :param policy_kwargs: of the agent, but for its noise
    """

    make_env: Callable[[], gym.Env]
    steps: int
    settings: dict[str, Any]
    policy_kwargs: dict[str, Any]


def t_maze() -> gym.Env:
    return PreviousActionReward(PassiveTMaze(corridor_length=30), reward=False)


def breakout() -> gym.Env:
    return MinAtar("breakout")


TASKS = {
    "T-Maze 30": Task(
        t_maze,
        300_000,
        dict(sequence_length=64, exploration_final_eps=0.03),
        dict(memory_kwargs=dict(hidden_size=64)),
    ),
    #: MinAtar's own network: 16 filters of 3×3, then 128 units (Young & Tian, 2019)
    "MinAtar Breakout": Task(
        breakout,
        100_000,
        dict(sequence_length=16, exploration_final_eps=0.05),
        dict(
            features_extractor_class="plain_cnn",
            features_extractor_kwargs=dict(trunk=[(16, 3)], features_dim=128),
            net_arch=[],
            memory_kwargs=dict(hidden_size=128),
        ),
    ),
}
#: of each: arguments of the model, and of its policy
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ε-greedy": (dict(exploration_duration=1), {}),
    "held, up to 8 steps": (dict(exploration_duration=8), {}),
    "held, up to 64 steps": (dict(exploration_duration=64), {}),
    "noisy head": (dict(exploration_duration=1), dict(noisy=True)),
}


class Run(NamedTuple):
    """
    :param task: which task
    :param variant: how it explores
    :param seed: of the run
    :param steps: environment steps
    """

    task: str
    variant: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    task, (exploration, noise) = TASKS[run.task], VARIANTS[run.variant]
    settings: dict[str, Any] = dict(
        learning_rate=1e-3,
        buffer_size=100_000,
        learning_starts=5_000,
        batch_size=16,
        burn_in=0,
        n_steps=3,
        gamma=0.99,
        train_freq=4,
        target_update_unit="updates",
        target_update_interval=1,
        tau=0.02,
        exploration_fraction=0.2,
        seed=run.seed,
        device="cpu",
    )
    begin = time.time()
    env = VecNormalize(make_vec_env(task.make_env, N_ENVS, seed=run.seed), norm_obs=False, gamma=0.99)
    policy = "CnnPolicy" if run.task == "MinAtar Breakout" else "MlpPolicy"
    policy_kwargs = {**task.policy_kwargs, **noise}
    model = RecurrentDQN(policy, env, policy_kwargs=policy_kwargs, **{**settings, **task.settings, **exploration})
    model.learn(run.steps)
    score, _ = evaluate_policy(model, make_vec_env(task.make_env, N_ENVS, seed=run.seed + 10_000), 100)
    return dict(score=float(score), seconds=round(time.time() - begin))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, help="in place of each task's own")
    args = parser.parse_args()
    steps = {name: args.steps or task.steps for name, task in TASKS.items()}
    if not args.table:
        runs = [Run(t, variant, seed, steps[t]) for seed in args.seeds for t in args.tasks for variant in args.variants]
        RESULTS.run_missing(train, runs, args.jobs)
    print("| exploration | " + " | ".join(args.tasks) + " |\n|---|" + "---|" * len(args.tasks))
    for variant in VARIANTS:
        cells = []
        for name in args.tasks:
            lines = [
                x for x in RESULTS.lines() if (x["task"], x["variant"], x["steps"]) == (name, variant, steps[name])
            ]
            cells.append(
                ", ".join(f"{x['score']:.2f}{x['mark']}" for x in sorted(lines, key=lambda x: x["seed"])) or "–"
            )
        print(f"| {variant} | " + " | ".join(cells) + " |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
