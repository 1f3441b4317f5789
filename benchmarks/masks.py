"""
Learning with action masks and without, where an invalid action loses the game: tic-tac-toe (5.6 of 9 actions are valid)
and UNO (1.7 of 61) against an opponent that plays at random. ``RecurrentDQN`` with its default arguments and no memory.
Resumable; results, with a learning curve a run, in ``benchmarks/results/masks.jsonl``.

    pip install pettingzoo pygame rlcard
    python benchmarks/masks.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/masks.py --games "connect four"        # 6.7 of 7 are valid
    python benchmarks/masks.py --table
"""

import time
from tempfile import mkdtemp
from typing import NamedTuple

import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from tasks.games import GAMES

from sb3_attnmem import MaskedEvalCallback, RecurrentDQN

RESULTS = ResultsFile("masks")
STEPS, N_ENVS = 60_000, 8
#: evaluations of a run, and games of each
POINTS, N_GAMES = 10, 200
MASKED = (True, False)


class Run(NamedTuple):
    """
    :param game: of ``GAMES``
    :param masked: whether the agent is told which actions are valid
    :param seed: of the run
    :param steps: moves of the agent to learn for
    """

    game: str
    masked: bool
    seed: int
    steps: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    kwargs = dict(masked=run.masked)
    env = make_vec_env(GAMES[run.game], N_ENVS, env_kwargs=kwargs)
    evaluated = make_vec_env(GAMES[run.game], N_ENVS, seed=run.seed + 10_000, env_kwargs=kwargs)
    model = RecurrentDQN("MlpPolicy", env, policy_kwargs=dict(memory_class="none"), seed=run.seed, device="cpu")
    begin = time.process_time()
    callback = MaskedEvalCallback(
        evaluated, n_eval_episodes=N_GAMES, eval_freq=run.steps // POINTS // N_ENVS, log_path=mkdtemp(), verbose=0
    )
    model.learn(run.steps, callback)
    steps = callback.evaluations_timesteps
    curve = [(step, round(sum(r) / len(r), 3)) for step, r in zip(steps, callback.evaluations_results, strict=True)]
    return dict(curve=curve, cpu_seconds=round(time.process_time() - begin))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=["tic-tac-toe", "UNO"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    if not args.table:
        runs = [Run(game, told, seed, args.steps) for seed in args.seeds for game in args.games for told in MASKED]
        RESULTS.run_missing(train, runs, args.jobs)
    points = [f"{args.steps * (i + 1) // POINTS:,}" for i in range(POINTS)]
    print("| game | agent | seed | greedy return after " + " | ".join(points) + " moves |")
    print("|---|---|---|" + "---|" * POINTS)
    lines = sorted(RESULTS.lines(), key=lambda line: line["seed"])
    for game in args.games:
        for masked in MASKED:
            for line in lines:
                if (line["game"], line["masked"], line["steps"]) == (game, masked, args.steps):
                    scores = " | ".join(f"{score:.2f}" for _, score in line["curve"])
                    print(f"| {game} | {'masks' if masked else 'none'} | {line['seed']}{line['mark']} | {scores} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
