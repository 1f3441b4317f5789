"""
All of R2D2 against plain settings where half of the frames are blank: MinAtar Breakout under ``FlickerWrapper(0.5)``.
Resumable; results in ``benchmarks/results/flicker.jsonl``.

    pip install --no-deps minatar
    python benchmarks/flicker.py [--jobs 2]        # run what is missing, then print the table
    python benchmarks/flicker.py --table
"""

import time
from typing import Any, NamedTuple

import gymnasium as gym
import torch as th
from base_settings import DEFAULTS_OF_0_2
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from tasks.minatar_games import MinAtar

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN
from sb3_attnmem.envs import FlickerWrapper

RESULTS = ResultsFile("flicker")
STEPS, N_ENVS = 100_000, 8
#: MinAtar's own network: 16 filters of 3×3, then 128 units (Young & Tian, 2019)
NETWORK = dict(
    features_extractor_class="plain_cnn", features_extractor_kwargs=dict(trunk=[(16, 3)], features_dim=128), net_arch=[]
)
PLAIN: dict[str, Any] = dict(double_q=False, n_steps=1, burn_in=0, state_init="zero")
R2D2: dict[str, Any] = dict(
    n_steps=3,
    burn_in=8,
    value_rescaling=True,
    refresh_states=True,
    replay_buffer_class=PrioritizedSequenceReplayBuffer,
)
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no memory": (PLAIN, dict(memory_class="none", dueling=False)),
    "LSTM, plain (DRQN)": (PLAIN, dict(memory_kwargs=dict(hidden_size=128), dueling=False)),
    "LSTM, all of R2D2": (R2D2, dict(memory_kwargs=dict(hidden_size=128))),
}


def make_env() -> gym.Env:
    return FlickerWrapper(MinAtar("breakout"), 0.5)


COMMON = dict(
    DEFAULTS_OF_0_2,
    buffer_size=100_000,
    learning_starts=5_000,
    sequence_length=16,
    train_freq=4,
    target_update_interval=32,
    exploration_fraction=0.2,
)


class Run(NamedTuple):
    """
    :param variant: which agent
    :param seed: of the run
    :param steps: environment steps
    """

    variant: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    th.set_num_threads(1)
    settings, policy_kwargs = VARIANTS[run.variant]
    begin = time.time()
    model = RecurrentDQN(
        "CnnPolicy",
        make_vec_env(make_env, N_ENVS, seed=run.seed),
        seed=run.seed,
        device="cpu",
        policy_kwargs={**NETWORK, **policy_kwargs},
        **{**COMMON, **settings},
    )
    model.learn(run.steps)
    score, _ = evaluate_policy(model, make_vec_env(make_env, N_ENVS, seed=run.seed + 10_000), 100)
    return dict(score=float(score), seconds=round(time.time() - begin))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    if not args.table:
        runs = [Run(variant, seed, args.steps) for seed in args.seeds for variant in args.variants]
        RESULTS.run_missing(train, runs, args.jobs)
    print("| agent | greedy return, by seed |\n|---|---|")
    for variant in VARIANTS:
        scores = [
            f"{x['score']:.1f}{x['mark']}"
            for x in RESULTS.lines()
            if (x["variant"], x["steps"]) == (variant, args.steps)
        ]
        print(f"| {variant} | {', '.join(scores) or '–'} |")
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
