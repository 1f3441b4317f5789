"""
How long until a task is solved, beside what users would use instead: seconds and environment steps until 50 greedy
episodes reach the task's threshold; evaluations are not counted. One thread each. The table has CPU seconds, which
other work on the machine disturbs least; nothing here waits, so they are wall-clock seconds on an idle machine. Lines
have both. Resumable; results in ``benchmarks/results/time_to_solve.jsonl``.

    python benchmarks/time_to_solve.py                # run what is missing, then print the table and draw it
    python benchmarks/time_to_solve.py --table
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import rl_zoo3
import torch as th
import yaml
from resumable import Line, ResultsFile, options
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, sync_envs_normalization
from tasks.memory_tasks import TASKS, Task

from sb3_attnmem import RecurrentDQN

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

RESULTS = ResultsFile("time_to_solve")
PLOT = Path(__file__).parents[1] / "docs" / "pictures" / "time_to_solve.png"
SEEDS = (0, 1, 2)
#: greedy return of 50 episodes to reach; the steps after which a run gives up
THRESHOLDS = {"CartPoleNoVel": 475.0, "RepeatPreviousEasy": 0.95, "T-Maze 10": 0.95, "MiniGrid-MemoryS7": 0.9}
BUDGETS = {
    "CartPoleNoVel": 200_000,
    "RepeatPreviousEasy": 300_000,
    "T-Maze 10": 150_000,
    "MiniGrid-MemoryS7": 400_000,
}
EVALUATIONS = 50
#: stacked observations, the usual advice
STACKED = 4


class Run(NamedTuple):
    """
    :param task: of ``THRESHOLDS``
    :param agent: of ``AGENTS``
    :param seed: of the agent and its environments
    """

    task: str
    agent: str
    seed: int


class UntilSolved(BaseCallback):
    """
    Stops once greedy episodes reach the threshold; the clock stands still while they are played.

    :param env: to evaluate in
    :param threshold: mean return
    :param every: environment steps between evaluations
    """

    def __init__(self, env: VecEnv, threshold: float, every: int) -> None:
        super().__init__()
        self.env, self.threshold, self.every = env, threshold, every
        self.next = every
        self.seconds = self.cpu_seconds = 0.0
        self.solved = False

    def _on_training_start(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.begin, self.cpu_begin = time.perf_counter(), time.process_time()

    def _on_step(self) -> bool:
        if self.num_timesteps < self.next:
            return True
        self.seconds += time.perf_counter() - self.begin
        self.cpu_seconds += time.process_time() - self.cpu_begin
        self.next += self.every
        normalized = self.model.get_vec_normalize_env()
        if normalized is not None:
            sync_envs_normalization(normalized, self.env)
        score, _ = evaluate_policy(self.model, self.env, n_eval_episodes=50)
        self.solved = bool(score >= self.threshold)
        self._begin()
        return not self.solved


def recurrent_dqn(task: Task, seed: int, **settings: Any) -> tuple[BaseAlgorithm, VecEnv]:
    kwargs = dict(policy_kwargs=task.policy_kwargs) if task.policy_kwargs else {}
    model = RecurrentDQN("MlpPolicy", task.make_env(), seed=seed, **kwargs, **settings)  # type: ignore[arg-type]
    return model, task.make_env(seed=10_000 + seed)


def recurrent_ppo(task: Task, seed: int) -> tuple[BaseAlgorithm, VecEnv]:
    """:return: with the Zoo's settings for the task where it has them"""
    path = Path(rl_zoo3.__file__).parent / "hyperparams" / "ppo_lstm.yml"
    settings: dict[str, Any] = dict(yaml.safe_load(path.read_text(encoding="utf-8")).get(task.env_id, {}))
    normalize, n_envs = settings.pop("normalize", False), settings.pop("n_envs", 8)
    for name in ("policy", "n_timesteps"):
        settings.pop(name, None)
    for name in ("learning_rate", "clip_range"):
        if isinstance(settings.get(name), str):
            settings[name] = LinearSchedule(float(settings[name].removeprefix("lin_")), 0.0, 1.0)
    given = settings.pop("policy_kwargs", None)
    policy_kwargs = {**(eval(given, {"nn": th.nn}) if given else {}), **task.policy_kwargs}
    env, evaluated = task.make_env(n_envs), task.make_env(seed=10_000 + seed)
    if normalize:
        env = VecNormalize(env, gamma=settings.get("gamma", 0.99))
        evaluated = VecNormalize(evaluated, training=False, norm_reward=False)
    return RecurrentPPO("MlpLstmPolicy", env, seed=seed, policy_kwargs=policy_kwargs, **settings), evaluated


def stacked(algorithm: type[BaseAlgorithm]) -> Callable[[Task, int], tuple[BaseAlgorithm, VecEnv]]:
    def make(task: Task, seed: int) -> tuple[BaseAlgorithm, VecEnv]:
        env, evaluated = (VecFrameStack(task.make_env(seed=s), STACKED) for s in (None, 10_000 + seed))
        return algorithm("MlpPolicy", env, seed=seed, policy_kwargs=dict(task.policy_kwargs)), evaluated  # type: ignore[call-arg]

    return make


AGENTS: dict[str, Callable[[Task, int], tuple[BaseAlgorithm, VecEnv]]] = {
    "RecurrentDQN": recurrent_dqn,
    "RecurrentDQN, an update every 8": partial(recurrent_dqn, train_freq=(8, "transition")),
    "RecurrentPPO": recurrent_ppo,
    f"PPO, {STACKED} stacked": stacked(PPO),
    f"DQN, {STACKED} stacked": stacked(DQN),
}


def train(run: Run) -> Line:
    th.set_num_threads(1)
    model, evaluated = AGENTS[run.agent](TASKS[run.task], run.seed)
    budget = BUDGETS[run.task]
    until = UntilSolved(evaluated, THRESHOLDS[run.task], budget // EVALUATIONS)
    model.learn(budget, callback=until)
    seconds, cpu_seconds = round(until.seconds, 1), round(until.cpu_seconds, 1)
    return dict(solved=until.solved, steps=model.num_timesteps, seconds=seconds, cpu_seconds=cpu_seconds)


def cell(runs: list[Line]) -> str:
    """:return: median CPU seconds and steps of what was solved, and how many were"""
    solved = [run for run in runs if run["solved"]]
    if not runs:
        return "–"
    if not solved:
        return f"never in {runs[0]['steps'] / 1000:.0f}k"
    seconds, steps = (statistics.median(run[name] for run in solved) for name in ("cpu_seconds", "steps"))
    some = "" if len(solved) == len(runs) else f", {len(solved)} of {len(runs)} seeds"
    return f"{seconds:.0f} s, {steps / 1000:.0f}k{some}{runs[0]['mark']}"


def report() -> None:
    print(f"| agent | {' | '.join(f'{task} ({threshold:g})' for task, threshold in THRESHOLDS.items())} |")
    print("|---|" + "---|" * len(THRESHOLDS))
    found: dict[tuple[str, str], list[Line]] = {}
    for line in RESULTS.lines():
        found.setdefault((line["task"], line["agent"]), []).append(line)
    for agent in AGENTS:
        print(f"| {agent} | {' | '.join(cell(found.get((task, agent), [])) for task in THRESHOLDS)} |")
    figure, axes = plt.subplots(1, len(THRESHOLDS), figsize=(14, 4), layout="constrained")
    for axis, task in zip(axes, THRESHOLDS, strict=True):
        axis.set(title=task, xlabel="environment steps until solved", ylabel="CPU seconds", xscale="log", yscale="log")
        for of_axis in (axis.xaxis, axis.yaxis):
            of_axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            of_axis.set_major_formatter(EngFormatter(sep=""))
            of_axis.set_minor_formatter(NullFormatter())
        for i, agent in enumerate(AGENTS):
            runs = [run for run in found.get((task, agent), []) if run["solved"]]
            steps, seconds = ([run[name] for run in runs] for name in ("steps", "cpu_seconds"))
            axis.plot(steps, seconds, "o", color=f"C{i}", label=agent)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(AGENTS))
    figure.savefig(PLOT, dpi=100)
    print(f"\n{PLOT}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(THRESHOLDS), default=list(THRESHOLDS), help="tasks")
    parser.add_argument("--agents", nargs="+", choices=list(AGENTS), default=list(AGENTS))
    args = parser.parse_args()
    if not args.table:
        # All agents of a task and seed one after the other: a machine that changes its pace meets them alike
        runs = [Run(task, agent, seed) for seed in SEEDS for task in args.only for agent in args.agents]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
