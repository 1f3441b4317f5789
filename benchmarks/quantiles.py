"""
Quantiles against means at equal steps: ``RecurrentQRDQN`` and ``RecurrentDQN`` with the same network and settings, on
MinAtar Breakout with half of its frames blank, and on CartPole without velocities. Resumable; results in
``benchmarks/results/quantiles.jsonl``.

    pip install --no-deps minatar
    python benchmarks/quantiles.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/quantiles.py --table
    python benchmarks/quantiles.py --cost            # what an update costs, in turns in this process
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import gymnasium as gym
import rl_zoo3.import_envs  # noqa: F401  registers CartPoleNoVel-v1
import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from tasks.minatar_games import MinAtar

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.envs import FlickerWrapper

RESULTS = ResultsFile("quantiles")
N_ENVS = 8
VARIANTS: dict[str, tuple[type[RecurrentDQN], dict[str, Any]]] = {
    "means": (RecurrentDQN, {}),
    "50 quantiles": (RecurrentQRDQN, dict(n_quantiles=50)),
    "means, noisy": (RecurrentDQN, dict(noisy=True)),
    "50 quantiles, noisy": (RecurrentQRDQN, dict(n_quantiles=50, noisy=True)),
}


class Task(NamedTuple):
    """
    :param make_env: one environment
    :param steps: environment steps of a run
    :param policy: its name
    :param normalize: whether observations and rewards are normalised
    :param settings: arguments of the agent
    :param policy_kwargs: of its policy
    """

    make_env: Callable[[], gym.Env]
    steps: int
    policy: str
    normalize: bool
    settings: dict[str, Any]
    policy_kwargs: dict[str, Any]


def flickering_breakout() -> gym.Env:
    return FlickerWrapper(MinAtar("breakout"), 0.5)


def cartpole() -> gym.Env:
    return gym.make("CartPoleNoVel-v1")


TASKS = {
    # As in benchmarks/flicker.py, "all of R2D2" but for priorities
    "MinAtar Breakout, half of the frames blank": Task(
        flickering_breakout,
        200_000,
        "CnnPolicy",
        False,
        dict(
            learning_rate=5e-4,
            learning_starts=5_000,
            batch_size=32,
            sequence_length=16,
            burn_in=8,
            n_steps=3,
            train_freq=4,
            tau=0.01,
            target_update_interval=32,
            exploration_fraction=0.2,
            exploration_final_eps=0.05,
            refresh_states=True,
        ),
        dict(
            features_extractor_class="plain_cnn",
            features_extractor_kwargs=dict(trunk=[(16, 3)], features_dim=128),
            net_arch=[],
            memory_kwargs=dict(hidden_size=128),
        ),
    ),
    # As in zoo_configs/rdqn.yml
    "CartPoleNoVel-v1": Task(
        cartpole,
        100_000,
        "MlpPolicy",
        True,
        dict(
            learning_rate=LinearSchedule(1e-3, 0.0, 1.0),
            learning_starts=1_000,
            batch_size=32,
            sequence_length=24,
            burn_in=8,
            n_steps=3,
            train_freq=1,
            tau=0.05,
            target_update_interval=8,
            exploration_fraction=0.1,
            exploration_final_eps=0.05,
        ),
        dict(memory_kwargs=dict(hidden_size=64)),
    ),
}


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param variant: of ``VARIANTS``
    :param seed: of the run
    :param steps: environment steps
    """

    task: str
    variant: str
    seed: int
    steps: int


def make_model(task: Task, variant: str, env: VecEnv, seed: int, **kwargs: Any) -> RecurrentDQN:
    model_class, policy_kwargs = VARIANTS[variant]
    return model_class(
        task.policy,
        env,
        buffer_size=100_000,
        gamma=0.99,
        policy_kwargs={**task.policy_kwargs, **policy_kwargs},
        seed=seed,
        device="cpu",
        **{**task.settings, **kwargs},
    )


def train(run: Run) -> Line:
    th.set_num_threads(1)
    task = TASKS[run.task]
    begin = time.time()
    env: VecEnv = make_vec_env(task.make_env, N_ENVS, seed=run.seed)
    if task.normalize:
        env = VecNormalize(env)
    model = make_model(task, run.variant, env, run.seed).learn(run.steps)
    test: VecEnv = make_vec_env(task.make_env, N_ENVS, seed=run.seed + 10_000)
    if isinstance(env, VecNormalize):
        test = VecNormalize(test, training=False, norm_reward=False)
        test.obs_rms = env.obs_rms
    score, _ = evaluate_policy(model, test, 100)
    return dict(score=float(score), seconds=round(time.time() - begin))


def measure_cost(rounds: int = 30) -> None:
    """Print the time of an update of 16 sequences of 64 steps with an LSTM of 128, over that of ``RecurrentDQN``."""
    th.set_num_threads(1)
    task = TASKS["CartPoleNoVel-v1"]._replace(policy_kwargs=dict(memory_kwargs=dict(hidden_size=128)))
    models = {
        variant: make_model(
            task,
            variant,
            make_vec_env(task.make_env, N_ENVS, seed=0),
            0,
            **dict(batch_size=16, sequence_length=64, learning_starts=10**9),
        ).learn(4_000)
        for variant in VARIANTS
    }
    seconds: dict[str, list[float]] = {variant: [] for variant in models}
    for _ in range(rounds):
        for variant, model in models.items():
            begin = time.process_time()  # not the time that other processes take
            model.update(1, 16)
            seconds[variant].append(time.process_time() - begin)
    print("| head | update, ms of CPU time | over means |\n|---|---|---|")
    for variant, times in seconds.items():
        ratio = median(mine / base for mine, base in zip(times, seconds["means"], strict=True))
        print(f"| {variant} | {1e3 * median(times):.1f} | {ratio:.2f} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="in place of each task's own")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=["means", "50 quantiles"])
    parser.add_argument("--cost", action="store_true", help="only measure what an update costs")
    args = parser.parse_args()
    if args.cost:
        measure_cost()
        return
    steps = {name: args.steps or task.steps for name, task in TASKS.items()}
    if not args.table:
        runs = [
            Run(task, variant, seed, steps[task])
            for seed in args.seeds
            for task in args.tasks
            for variant in args.variants
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    print("| task | head | greedy return, by seed |\n|---|---|---|")
    for task in TASKS:
        for variant in VARIANTS:
            scores = [
                f"{line['score']:.1f}{line['mark']}"
                for line in sorted(RESULTS.lines(), key=lambda line: line["seed"])
                if (line["task"], line["variant"], line["steps"]) == (task, variant, steps[task])
            ]
            if scores:
                print(f"| {task}, {steps[task]:,} steps | {variant} | {', '.join(scores)} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
