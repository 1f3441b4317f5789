"""
Connect four against a random opponent, with action masks and without: there, a full column loses the game. No memory:
the board shows all. Resumable; results in ``benchmarks/results/masks.jsonl``.

    pip install pettingzoo pygame
    python benchmarks/masks.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/masks.py --table
"""

import time
from tempfile import mkdtemp
from typing import Any, NamedTuple

import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from tasks.connect_four import ConnectFour

from sb3_attnmem import MaskedEvalCallback, RecurrentDQN

RESULTS = ResultsFile("masks")
STEPS, N_ENVS, POINTS, GAMES = 60_000, 8, 6, 200


class Run(NamedTuple):
    """
    :param masked: whether the agent is told which actions are valid
    :param seed: of the run
    :param steps: moves of the agent to learn for
    """

    masked: bool
    seed: int
    steps: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    kwargs = dict(env_kwargs=dict(masked=run.masked))
    env = make_vec_env(ConnectFour, N_ENVS, seed=run.seed, **kwargs)  # type: ignore[arg-type]
    evaluated = make_vec_env(ConnectFour, N_ENVS, seed=run.seed + 10_000, **kwargs)  # type: ignore[arg-type]
    settings: dict[str, Any] = dict(
        learning_rate=1e-3,
        buffer_size=100_000,
        learning_starts=2_000,
        batch_size=64,
        sequence_length=4,
        burn_in=0,
        n_steps=1,
        gamma=0.99,
        train_freq=2,
        target_update_unit="updates",
        target_update_interval=1,
        tau=0.01,
        exploration_fraction=0.3,
        exploration_final_eps=0.05,
        policy_kwargs=dict(memory_class="none", encoder_arch=[128], net_arch=[128]),
        seed=run.seed,
        device="cpu",
    )
    model = RecurrentDQN("MlpPolicy", env, **settings)
    begin = time.time()
    callback = MaskedEvalCallback(
        evaluated, n_eval_episodes=GAMES, eval_freq=run.steps // POINTS // N_ENVS, log_path=mkdtemp(), verbose=0
    )
    model.learn(run.steps, callback)
    scores = [round(sum(returns) / len(returns), 3) for returns in callback.evaluations_results]
    return dict(scores=scores, seconds=round(time.time() - begin))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    if not args.table:
        runs = [Run(masked, seed, args.steps) for seed in args.seeds for masked in (True, False)]
        RESULTS.run_missing(train, runs, args.jobs)
    points = [f"{args.steps * (i + 1) // POINTS:,}" for i in range(POINTS)]
    print("| agent | seed | greedy return after " + " | ".join(points) + " moves |\n|---|---|" + "---|" * POINTS)
    for masked in (True, False):
        for line in RESULTS.lines():
            if (line["masked"], line["steps"]) == (masked, args.steps):
                scores = " | ".join(f"{score:.2f}" for score in line["scores"])
                print(f"| {'masks' if masked else 'none'} | {line['seed']}{line['mark']} | {scores} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
