"""
What does attention buy, what does memory buy, what do both buy, and where? Agents with and without each, at equal
environment steps, the same trunk and width, default arguments; tasks of which theory says what they ask for.

    pip install --no-deps minatar; pip install rliable "pandas<3"    # rliable's own requirements want pandas 2
    python benchmarks/attention_memory.py --jobs 2          # run what is missing, print the table, draw it
    python benchmarks/attention_memory.py --only Breakout --seeds 0
    python benchmarks/attention_memory.py --table

Resumable; results, with a learning curve a run, in ``benchmarks/results/attention_memory.jsonl``. Scores are greedy,
100 episodes of the final model. Put together, they are interquartile means over tasks and seeds, and how probable it is
that an agent does better than the one without attention and memory, with stratified bootstrap intervals (Agarwal et
al., 2021, https://arxiv.org/abs/2108.13264).
"""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from aggregates import together
from curves import learn_with_curve
from resumable import Line, ResultsFile, options
from stable_baselines3.common.env_util import make_vec_env
from tasks.factors import AGENTS, TASKS, FactorTask, policy_kwargs

from sb3_attnmem import RecurrentDQN

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RESULTS = ResultsFile("attention_memory")
PLOT = Path(__file__).parents[1] / "docs" / "pictures" / "attention_memory.png"
SEEDS = (0, 1, 2)
N_ENVS = 8


class Run(NamedTuple):
    """
    :param task: of ``TASKS``
    :param agent: of ``AGENTS``
    :param seed: of the agent and its environments
    :param steps: environment steps
    """

    task: str
    agent: str
    seed: int
    steps: int


def train(run: Run) -> Line:
    task = TASKS[run.task]
    model = RecurrentDQN(
        "CnnPolicy" if task.image else "MlpPolicy",
        make_vec_env(task.make_env, N_ENVS),
        buffer_size=200_000,
        seed=run.seed,
        device="cpu",
        policy_kwargs=policy_kwargs(task, run.agent),
        **task.settings,
    )
    return learn_with_curve(model, make_vec_env(task.make_env, N_ENVS, seed=10_000 + run.seed), run.steps)


def runs_of(task: str, agent: str) -> list[Line]:
    """:return: those of full length, in the order of seeds"""
    wanted = (task, agent, TASKS[task].steps)
    lines = [line for line in RESULTS.lines() if (line["task"], line["agent"], line["steps"]) == wanted]
    return sorted(lines, key=lambda line: line["seed"])


def normalized(task: FactorTask, runs: list[Line]) -> list[float]:
    """:return: scores, 0 the worst, 1 the best that can be expected"""
    return [(run["score"] - task.worst) / (task.best - task.worst) for run in runs]


def report() -> None:
    """Print the table by task, what agents score over tasks of a kind, and draw the learning curves."""
    print(f"| task | asks for | steps | {' | '.join(AGENTS)} |\n|---|---|--:|{'---|' * len(AGENTS)}")
    for name, task in TASKS.items():
        cells = []
        for agent in AGENTS:
            runs = runs_of(name, agent)
            each = ", ".join(f"{run['score']:.3g}{run['mark']}" for run in runs)
            cells.append("no map" if policy_kwargs(task, agent) is None else each or "–")
        print(f"| {name} | {task.wants} | {task.steps:,} | {' | '.join(cells)} |")
    for title, control in (("interquartile mean", None), ("probable to beat neither", "neither")):
        print(f"\n| {title}, tasks that ask for | {' | '.join(AGENTS)} |\n|---|{'---|' * len(AGENTS)}")
        for kind in ("neither", "attention", "memory", "both", "any"):
            cells = []
            for agent in AGENTS:
                # Of an agent that reads maps, on the tasks that have one
                tasks = [name for name, task in TASKS.items() if kind in (task.wants, "any") and is_measured(name)]
                tasks = [name for name in tasks if policy_kwargs(TASKS[name], agent) is not None]
                cells.append(together(scores(tasks, agent), control and scores(tasks, control)))
            print(f"| {kind} | {' | '.join(cells)} |")
    draw()


def is_measured(task: str) -> bool:
    """Whether a task has all runs of all agents that can read it: put together, agents shall have the same tasks."""
    agents = [agent for agent in AGENTS if policy_kwargs(TASKS[task], agent) is not None]
    return all(len(runs_of(task, agent)) >= len(SEEDS) for agent in agents)


def scores(tasks: list[str], agent: str) -> list[list[float]]:
    """:return: what each run on each of these tasks scored, normalized"""
    return [normalized(TASKS[name], runs_of(name, agent)) for name in tasks]


def draw() -> None:
    """Draw the learning curves of the tasks that have runs: medians of seeds, and from the worst to the best."""
    names = [name for name in TASKS if any(runs_of(name, agent) for agent in AGENTS)]
    if not names:
        return
    columns = min(len(names), 4)
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4 * columns, 3.4 * rows + 0.4), squeeze=False, constrained_layout=True
    )
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    drawn = {}
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set(title=f"{name} (asks for {TASKS[name].wants})", xlabel="environment steps")
        axis.xaxis.set_major_formatter(lambda step, _: f"{step / 1_000:g}k")
        for i, agent in enumerate(AGENTS):
            runs = runs_of(name, agent)
            if not runs:
                continue
            curves: Any = np.array([[score for _, score in run["curve"]] for run in runs])
            steps = [step for step, _ in runs[0]["curve"]]
            (drawn[agent],) = axis.plot(steps, np.median(curves, axis=0), color=f"C{i}", label=agent)
            axis.fill_between(steps, curves.min(axis=0), curves.max(axis=0), color=f"C{i}", alpha=0.15)
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=len(drawn))
    figure.savefig(PLOT, dpi=100)
    print(f"\n{PLOT}")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS), help="tasks")
    parser.add_argument("--agents", nargs="+", choices=list(AGENTS), default=list(AGENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, help="others than the tasks'; such lines stay out of the table")
    args = parser.parse_args()
    if not args.table:
        runs = [
            Run(task, agent, seed, args.steps or TASKS[task].steps)
            for seed in args.seeds
            for task in args.only
            for agent in args.agents
            if policy_kwargs(TASKS[task], agent) is not None
        ]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
