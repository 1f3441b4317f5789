"""
Many actors and one learner, measured. Resumable; results in ``benchmarks/results/distributed.jsonl``.

    python benchmarks/distributed.py scaling    # environments that sleep 20 ms a step, 1 to 32 actors
    python benchmarks/distributed.py pong       # CNN and LSTM 512 on Pong: one process, and one actor and a learner
    python benchmarks/distributed.py ingest     # what the learner can take in at most, in chunks and MB a second
    python benchmarks/distributed.py learning   # T-Maze 30 and CartPoleNoVel by default arguments, 4 actors, 3 seeds
    python benchmarks/distributed.py --table

``--short`` makes a try of a part: its lines say so, and no table shows them. Faults: ``distributed_faults.py``.
"""

import statistics
import time
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import ray
import torch as th
from resumable import Line, ResultsFile, options
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from tasks.for_actors import make_sleeper

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.distributed import learn_with_actors
from sb3_attnmem.distributed.executors import Outcome, SerialExecutor
from sb3_attnmem.distributed.messages import Request, Weights
from sb3_attnmem.distributed.on_ray import start_ray
from sb3_attnmem.envs import make_atari_vec_env

RESULTS = ResultsFile("distributed")
ACTORS = (1, 2, 4, 8, 16, 32)
#: settings of the Pong part: those of benchmarks/throughput.py --pong
PONG: dict[str, Any] = dict(
    buffer_size=20_000,
    learning_starts=400,
    batch_size=16,
    sequence_length=40,
    burn_in=0,
    n_steps=1,
    exploration_initial_eps=1.0,
    exploration_final_eps=1.0,
    policy_kwargs=dict(memory_kwargs=dict(hidden_size=512)),
)


class Run(NamedTuple):
    """
    :param part: of this script
    :param setting: number of actors, or what is trained
    :param seed: of the run
    :param short: whether it is a try
    """

    part: str
    setting: str
    seed: int
    short: bool


class Rate(BaseCallback):
    """
    Environment steps a second, from when all actors have been heard of, for so long.

    :param n_actors: to be heard of; 0: begin with the second update, -1: at once
    :param seconds: to measure
    """

    def __init__(self, n_actors: int, seconds: float) -> None:
        super().__init__()
        self.n_actors, self.seconds = n_actors, seconds
        self.processes: set[int] = set()
        self.begun = self.steps = self.updates = 0.0
        self.result: Line = {}

    def _on_step(self) -> bool:
        now = time.perf_counter()
        if not self.begun:
            if self.n_actors > 0:
                self.processes.add(int(self.locals["new_obs"][0][-1]))
            if len(self.processes) >= self.n_actors and (self.n_actors or self.model._n_updates > 1):
                self.begun, self.steps, self.updates = now, self.num_timesteps, self.model._n_updates
        elif now - self.begun > self.seconds:
            elapsed, updates = now - self.begun, self.model._n_updates - self.updates
            logged = self.model.logger.name_to_value
            self.result = dict(
                steps_per_second=round((self.num_timesteps - self.steps) / elapsed, 1),
                updates_per_second=round(updates / elapsed, 2),
                learner_waits=round(float(logged.get("actors/learner_waits", 0)), 3),
                lag_updates=round(float(logged.get("actors/lag_updates", 0)), 1),
                seconds=round(elapsed, 1),
            )
            return False
        return True


def scaling(run: Run) -> Line:
    n_actors = int(run.setting)
    model = RecurrentDQN("MlpPolicy", make_sleeper(), seed=run.seed, buffer_size=200_000, learning_starts=200)
    rate = Rate(n_actors, 10 if run.short else 60)
    # A sleeping environment takes no CPU
    options = dict(chunk_steps=16, num_cpus=0.01, callback=rate, log_interval=None)
    learn_with_actors(model, make_sleeper, n_actors, 10**7, **options)
    return rate.result


def pong(run: Run) -> Line:
    make_env = partial(make_atari_vec_env, "PongNoFrameskip-v4", 8, n_threads=1)
    how, samples_an_insert = run.setting.split(", samples an insert: ")
    train_freq = 16 * 40 // int(samples_an_insert), "transition"
    settings = {**PONG, "train_freq": train_freq}
    model = RecurrentDQN("CnnLstmPolicy", make_env(seed=run.seed), seed=run.seed, **settings)
    rate = Rate(0, 15 if run.short else 40)
    if how == "one process":
        model.learn(10**7, callback=rate, log_interval=None)
    else:
        learn_with_actors(model, make_env, 1, 10**7, callback=rate, log_interval=None)
    return rate.result


class Repeats(SerialExecutor):
    """Answers each request by the chunk that the first actor made at first, through Ray's object store."""

    stored: Any = None

    def _run(self, request: Request, weights: Weights) -> Outcome:
        if self.stored is None:
            outcome = super()._run(request, weights)
            assert outcome.chunk is not None, outcome.failure
            assert not outcome.chunk.steps.truncated.any(), "the places of states would move"
            Repeats.stored = ray.put(outcome.chunk)
            return outcome
        chunk = ray.get(self.stored)
        steps = chunk.steps._replace(first=None)
        return Outcome(request.actor, chunk._replace(number=request.number, steps=steps))


def ingest(run: Run) -> Line:
    """A chunk of 84 x 84 frames and states of an LSTM 512, taken from Ray's object store again and again."""
    n_envs, chunk_steps = 8, 32
    make_env = partial(make_atari_vec_env, "PongNoFrameskip-v4", n_envs, n_threads=1)
    model = RecurrentDQN("CnnLstmPolicy", make_env(seed=0), seed=0, **{**PONG, "gradient_steps": 0})
    start_ray(num_cpus=2, object_store_memory=500 * 2**20)
    rate = Rate(-1, 5 if run.short else 30)
    options = dict(executor="serial", chunk_steps=chunk_steps, weights_interval=1_000)
    with mock.patch("sb3_attnmem.distributed.learning.SerialExecutor", Repeats):
        learn_with_actors(model, make_env, 1, 10**8, callback=rate, log_interval=None, **options)
    n_bytes = ray.get(Repeats.stored).steps._replace(first=None).nbytes
    ray.shutdown()
    per_second = rate.result["steps_per_second"] / (n_envs * chunk_steps)
    return dict(
        steps_per_second=rate.result["steps_per_second"],
        chunks_per_second=round(per_second, 1),
        chunk_kilobytes=round(n_bytes / 1e3, 1),
        bytes_per_transition=round(n_bytes / (n_envs * chunk_steps)),
        megabytes_per_second=round(per_second * n_bytes / 1e6, 1),
    )


def learning(run: Run) -> Line:
    from tasks.memory_tasks import TASKS

    task = TASKS[run.setting]
    steps = 4_000 if run.short else task.steps
    make_env = partial(task.make_env, 2)
    model = RecurrentDQN("MlpPolicy", make_env(), seed=run.seed)
    begun = time.perf_counter()
    learn_with_actors(model, make_env, 4, steps, num_cpus=0.5, log_interval=None)
    seconds = time.perf_counter() - begun
    score, _ = evaluate_policy(model, task.make_env(seed=10_000 + run.seed), n_eval_episodes=100)
    lag = model.logger.name_to_value.get("actors/lag_updates", float("nan"))
    return dict(score=round(float(score), 3), steps=model.num_timesteps, seconds=round(seconds), lag_updates=lag)  # type: ignore[arg-type]


PARTS = {"scaling": scaling, "pong": pong, "ingest": ingest, "learning": learning}
SETTINGS = {
    "scaling": [str(n) for n in ACTORS],
    "pong": [f"{how}, samples an insert: {n}" for n in (2, 1) for how in ("one process", "one actor and a learner")],
    "ingest": ["Pong, 8 environments, 32 steps"],
    "learning": ["CartPoleNoVel", "T-Maze 30"],
}
SEEDS = {"scaling": (0,), "pong": (0, 1, 2), "ingest": (0,), "learning": (0, 1, 2)}


def train(run: Run) -> Line:
    th.set_num_threads(1)
    return PARTS[run.part](run)


def report() -> None:
    lines = [line for line in RESULTS.lines() if line["part"] in PARTS and not line["short"]]
    for part in PARTS:
        print(f"\n{part}")
        for setting in SETTINGS[part]:
            found = [line for line in lines if (line["part"], line["setting"]) == (part, setting)]
            figures = {name for line in found for name, value in line.items() if isinstance(value, (int, float))}
            for name in sorted(figures - {"seed", "short"}):
                values = [line[name] for line in found]
                each = ", ".join(f"{line[name]:g}{line['mark']}" for line in found)
                print(f"  {setting:<32} {name:<22} median {statistics.median(values):<10g} each {each}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all unless given")
    parser.add_argument("--short", action="store_true", help="a try, a minute or so a run")
    parser.add_argument("--settings", nargs="+", help="only these of a part")
    parser.add_argument("--seeds", nargs="+", type=int)
    args = parser.parse_args()
    if not args.table:
        runs = [
            Run(part, setting, seed, args.short)
            for part in args.parts or PARTS
            for seed in args.seeds or SEEDS[part]
            for setting in SETTINGS[part]
            if args.settings is None or setting in args.settings
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
