"""
Candidates for the defaults, on the tasks of ``benchmarks/tasks/memory_tasks.py``: one change at a time, few seeds.
Rewards are divided by the running standard deviation of the return (``VecNormalize(norm_obs=False)``). Resumable;
results, with a learning curve a run, in ``benchmarks/results/screening.jsonl``.

    python benchmarks/screening.py --candidates base "lr 1e-3, horizon 64" --only CartPole --seeds 0 1 2
    python benchmarks/screening.py --table
"""

import statistics
import time
from typing import Any, NamedTuple

import torch as th
from defaults import Curve
from resumable import Line, ResultsFile, options
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from tasks.memory_tasks import TASKS

from sb3_attnmem import RecurrentDQN

RESULTS = ResultsFile("screening")
N_POINTS = 10


def lstm(width: int = 128, **memory_kwargs: Any) -> dict[str, Any]:
    return dict(memory_class="lstm", memory_kwargs=dict(hidden_size=width, **memory_kwargs))


#: an update of 16 x 64 learning steps every 32 environment steps (replay ratio 32), the target at every update
BASE: dict[str, Any] = dict(
    target_update_unit="updates",
    target_update_interval=1,
    tau=0.02,
    sequence_length=64,
    burn_in=0,
    batch_size=16,
    train_freq=4,
    exploration_ladder=7.0,
    exploration_final_eps=0.05,
    policy_kwargs=lstm(),
)
FLAT = dict(BASE, exploration_ladder=0.0)
FALLING = LinearSchedule(1e-3, 0.0, 1.0)
CANDIDATES: dict[str, dict[str, Any]] = {
    "base": BASE,
    "horizon 64": dict(BASE, policy_kwargs=lstm(horizon=64)),
    "lr 1e-3, horizon 64": dict(BASE, learning_rate=1e-3, policy_kwargs=lstm(horizon=64)),
    "LSTM 64, horizon 64, lr 1e-3, tau 0.05, ratio 64": dict(
        BASE, learning_rate=1e-3, tau=0.05, train_freq=2, policy_kwargs=lstm(64, horizon=64)
    ),
    "no memory": dict(BASE, policy_kwargs=dict(memory_class="none")),
    "no ladder": FLAT,
    "no ladder, no memory": dict(FLAT, policy_kwargs=dict(memory_class="none")),
    "no ladder, eps 0.02": dict(FLAT, exploration_final_eps=0.02),
    "no ladder, eps 0.1": dict(FLAT, exploration_final_eps=0.1),
    "no ladder, n 5": dict(FLAT, n_steps=5),
    "no ladder, lr 1e-3 falling": dict(FLAT, learning_rate=FALLING),
    "no ladder, lr 1e-3, horizon 64": dict(FLAT, learning_rate=1e-3, policy_kwargs=lstm(horizon=64)),
    "no ladder, tau 0.005": dict(FLAT, tau=0.005),
    "no ladder, ratio 64": dict(FLAT, train_freq=2),
    "ladder from 0.4": dict(BASE, exploration_final_eps=0.4),
    "ladder 1, lr 1e-3 falling": dict(BASE, exploration_ladder=1.0, learning_rate=FALLING),
    "ladder 1, lr 1e-3, horizon 64": dict(
        BASE, exploration_ladder=1.0, learning_rate=1e-3, policy_kwargs=lstm(horizon=64)
    ),
}


class Run(NamedTuple):
    """
    :param candidate: of ``CANDIDATES``
    :param task: of ``TASKS``
    :param seed: of the agent and its environments
    """

    candidate: str
    task: str
    seed: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    task, settings = TASKS[run.task], dict(CANDIDATES[run.candidate])
    settings["policy_kwargs"] = {**settings["policy_kwargs"], **task.policy_kwargs}
    evaluated = task.make_env(seed=10_000 + run.seed)
    curve = Curve(evaluated, task.steps // N_POINTS)
    env = VecNormalize(task.make_env(), norm_obs=False, clip_reward=1e9)
    model = RecurrentDQN("MlpPolicy", env, seed=run.seed, **settings)
    begin = time.process_time()
    model.learn(task.steps, callback=curve)
    seconds = time.process_time() - begin - curve.seconds
    score, _ = evaluate_policy(model, evaluated, n_eval_episodes=100)
    return dict(score=round(float(score), 3), cpu_seconds=round(seconds), curve=curve.points)  # type: ignore[arg-type]


def report() -> None:
    names = list(TASKS)
    print(f"| candidate | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    lines = RESULTS.lines()
    for candidate in CANDIDATES:
        cells = []
        for name in names:
            runs = [line for line in lines if (line["candidate"], line["task"]) == (candidate, name)]
            each = ", ".join(f"{run['score']:.3g}{run['mark']}" for run in sorted(runs, key=lambda run: run["seed"]))
            mean = f"{statistics.mean(run['score'] for run in runs):.3g}: " if len(runs) > 1 else ""
            cells.append(mean + each or "–")
        print(f"| {candidate} | {' | '.join(cells)} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="tasks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    if not args.table:
        runs = [Run(one, task, seed) for seed in args.seeds for one in args.candidates for task in args.only]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
