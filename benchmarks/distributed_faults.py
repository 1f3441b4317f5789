"""
What happens to a run when actors are killed, when the learner is slow, and when a node goes away. Resumable; results
in ``benchmarks/results/distributed.jsonl``.

    python benchmarks/distributed_faults.py kills    # 20 times SIGKILL at random moments: the ledger, and the score
    python benchmarks/distributed_faults.py store    # 200 MB of object store, a slow learner: what it holds, and spills
    python benchmarks/distributed_faults.py nodes    # two nodes on this machine, one of which is removed
    python benchmarks/distributed_faults.py --table

``--short`` makes a try of a part.
"""

import random
import re
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import ray
import torch as th
from distributed import PONG, RESULTS
from ray._private.internal_api import memory_summary
from ray.cluster_utils import Cluster
from resumable import Line, options
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from tasks.for_actors import make_maze

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.distributed import learn_with_actors
from sb3_attnmem.distributed.on_ray import start_ray
from sb3_attnmem.envs import make_atari_vec_env

sys.path.append(str(Path(__file__).parents[1]))  # the ledger of the tests
from tests.distributed.told import make_told, places_of, read_told
from tests.dqn_recurrent.conformance.reference import check_rows, every_window, learned
from tests.ledger import LSTM, make_model

N_KILLS = 20


class Run(NamedTuple):
    """
    :param part: of this script
    :param setting: what is run
    :param seed: of the run
    :param short: whether it is a try
    """

    part: str
    setting: str
    seed: int
    short: bool


class Killer(threading.Thread):
    """
    Kills the process of an actor of this machine that is at work, at random moments.

    :param n_kills: times
    :param seconds: from one to the next, on average
    """

    def __init__(self, n_kills: int, seconds: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.n_kills, self.seconds, self.rng = n_kills, seconds, random.Random(seed)
        self.killed = 0
        self.over = threading.Event()

    def run(self) -> None:
        while self.killed < self.n_kills and not self.over.wait(self.rng.uniform(0.3, 1.7) * self.seconds):
            actors = [one for one in psutil.Process().children(recursive=True) if _is_at_work(one)]
            if actors:
                self.rng.choice(actors).send_signal(signal.SIGKILL)
                self.killed += 1


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return "RayActor.collect" in " ".join(process.cmdline())
    except psutil.Error:
        return False


class Kills(BaseCallback):
    """
    Begins to kill at the first step.

    :param killer: kills
    :param steps: to make after the last kill, at which training ends; None: it ends by itself
    """

    def __init__(self, killer: Killer, steps: int | None) -> None:
        super().__init__()
        self.killer, self.steps, self.last = killer, steps, 0

    def _on_step(self) -> bool:
        if self.n_calls == 1:
            self.killer.start()
        if self.killer.killed < self.killer.n_kills:
            self.last = self.num_timesteps
            time.sleep(0.005)  # a run of some seconds would be over before it
        return self.steps is None or self.num_timesteps < self.last + self.steps


def kills(run: Run) -> Line:
    killer = Killer(2 if run.short else N_KILLS, 2.0, run.seed)
    options: dict[str, Any] = dict(num_cpus=0.5, max_failures=N_KILLS, log_interval=None)
    start_ray(num_cpus=4, log_to_driver=False)
    with warnings.catch_warnings(record=True) as warned, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("always")
        if run.setting == "ledger":
            model = make_model(make_told(folder, {}), policy_kwargs=LSTM, buffer_size=2_000_000)  # type: ignore[arg-type]
            callback = Kills(killer, 2_000)
            learn_with_actors(model, partial(make_told, folder, {}), 2, 10**6, callback=callback, **options)
            found = check_ledger(model, Path(folder))
        else:
            model = RecurrentDQN("MlpPolicy", make_maze(), seed=run.seed)
            total = 6_000 if run.short else 200_000
            learn_with_actors(model, make_maze, 4, total, callback=Kills(killer, None), **options)
            score, _ = evaluate_policy(model, make_maze(1), n_eval_episodes=100)
            found = dict(score=round(float(score), 3))  # type: ignore[arg-type]
    killer.over.set()
    ray.shutdown()
    restarts = sum("begins anew" in str(one.message) for one in warned)
    return dict(killed=killer.killed, restarts=restarts, steps=model.num_timesteps, **found)


def check_ledger(model: RecurrentDQN, folder: Path) -> Line:
    """
    :return: how many transitions were made, stored, and lost with actors that were killed
    :raises AssertionError: where the buffer holds anything that did not happen, twice, or joined over a cut
    """
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    episodes, batch = read_told(folder), every_window(model)
    made, stored = places_of(episodes), set(learned(batch))
    assert stored <= made and len(stored) == model.replay_buffer.tapes.n_transitions() == model.num_timesteps
    steps: defaultdict[Any, list[int]] = defaultdict(list)
    for place in stored:
        steps[place[:2]].append(place.step)
    for key, episode in episodes.items():
        kept = sorted(steps[key])
        assert kept == list(range(len(kept))), f"a hole in {key}"
        if len(kept) < len(episode.actions):
            del episode.actions[len(kept) :], episode.rewards[len(kept) :]
            episode.end = "cut"
    check_rows(batch, episodes, model.sequence_length)
    return dict(made=len(made), stored=len(stored), lost=len(made) - len(stored))


def used(summary: str) -> tuple[float, float]:
    """:return: MiB in the object store, and MiB spilled, of what Ray's memory summary says"""
    held = re.search(r"Plasma memory usage (\d+) MiB", summary)
    spilled = re.search(r"Spilled (\d+) MiB", summary)
    return float(held.group(1)) if held else 0.0, float(spilled.group(1)) if spilled else 0.0


class Slow(BaseCallback):
    """Makes the learner slow, and looks into the object store."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []

    def _on_rollout_end(self) -> None:
        time.sleep(0.5)
        self.seen.append(used(memory_summary(stats_only=True)))

    def _on_step(self) -> bool:
        return True


def store(run: Run) -> Line:
    start_ray(num_cpus=4, object_store_memory=200 * 2**20, log_to_driver=False)
    make_env = partial(make_atari_vec_env, "PongNoFrameskip-v4", 8, n_threads=1)
    model = RecurrentDQN("CnnLstmPolicy", make_env(seed=0), seed=0, **{**PONG, "learning_starts": 10**9})
    slow, steps = Slow(), 8 * 32 * (12 if run.short else 200)
    learn_with_actors(model, make_env, 2, steps, callback=slow, num_cpus=0.5, log_interval=None)
    ray.shutdown()
    half = len(slow.seen) // 2
    return dict(
        chunks=len(slow.seen),
        most_mib_first_half=max(held for held, _ in slow.seen[:half]),
        most_mib_second_half=max(held for held, _ in slow.seen[half:]),
        spilled_mib=slow.seen[-1][1],
    )


class Removes(BaseCallback):
    """Removes a node after so many steps."""

    def __init__(self, cluster: Cluster, node: Any, at: int) -> None:
        super().__init__()
        self.cluster, self.node, self.at = cluster, node, at
        self.alive: list[int] = []

    def _on_step(self) -> bool:
        if self.node is not None and self.num_timesteps >= self.at:
            self.cluster.remove_node(self.node)
            self.node = None
        return True


def nodes(run: Run) -> Line:
    """The head has room for two actors, a second node for two more, which move to a third when it goes away."""
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=2))
    second = cluster.add_node(num_cpus=2)
    cluster.add_node(num_cpus=2)
    model = RecurrentDQN("MlpPolicy", make_maze(), seed=run.seed)
    total = 8_000 if run.short else 100_000
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        callback = Removes(cluster, second, total // 2)
        options: dict[str, Any] = dict(num_cpus=1, max_failures=5, log_interval=None)
        learn_with_actors(model, make_maze, 4, total, callback=callback, ray_address=cluster.address, **options)
    cluster.shutdown()
    score, _ = evaluate_policy(model, make_maze(1), n_eval_episodes=100)
    restarts = sum("begins anew" in str(one.message) for one in warned)
    return dict(score=round(float(score), 3), steps=model.num_timesteps, restarts=restarts)  # type: ignore[arg-type]


PARTS = {"kills": kills, "store": store, "nodes": nodes}
SETTINGS = {"kills": ["ledger", "T-Maze 10"], "store": ["200 MB"], "nodes": ["one of three removed"]}


def train(run: Run) -> Line:
    th.set_num_threads(1)
    return PARTS[run.part](run)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all unless given")
    parser.add_argument("--short", action="store_true", help="a try, a minute or so a run")
    args = parser.parse_args()
    if not args.table:
        runs = [Run(part, setting, 0, args.short) for part in args.parts or PARTS for setting in SETTINGS[part]]
        RESULTS.run_missing(train, runs, args.jobs)
    for line in RESULTS.lines():
        if line["part"] in PARTS and not line["short"]:
            print({name: value for name, value in line.items() if name not in ("versions", "machine")})
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
