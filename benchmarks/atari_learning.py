"""
Atari games without sticky actions, one frame a step to a memory or four stacked frames to stock algorithms with
attention: the greedy score of 30 games (whole games, true scores), of the model at the end, which is where a run of 10
games first reached what was asked and 30 others did too, or after the last step. Settings are those of the ``atari``
entries of ``zoo_configs/``. A run that is killed goes on from its last checkpoint; results, with learning curves, in
``benchmarks/results/atari_learning.jsonl``, models and checkpoints in ``outputs/atari_learning``.

    python benchmarks/atari_learning.py --games Pong --agents rdqn --seeds 0 [--jobs 2]
    python benchmarks/atari_learning.py --table
"""

import shutil
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch as th
import yaml
from resumable import Line, ResultsFile, options
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, ResumableCheckpoint, load_checkpoint, steps_left
from sb3_attnmem.envs import make_atari_vec_env
from sb3_attnmem.zoo.literals import parse_literal

RESULTS = ResultsFile("atari_learning")
OUTPUTS = Path(__file__).parents[1] / "outputs" / "atari_learning"
CONFIGS = Path(__file__).parents[1] / "zoo_configs"
N_ENVS = 8
EVALUATE_EVERY, TRIED, JUDGED = 25_000, 10, 30
CHECKPOINT_EVERY = 50_000


class Game(NamedTuple):
    """
    :param env_id: of ALE, or one that blanks frames
    :param to_reach: greedy score
    :param steps: actions, of four frames, after which a run gives up
    """

    env_id: str
    to_reach: float
    steps: int = 500_000


GAMES = {
    "Pong": Game("PongNoFrameskip-v4", 18),
    "flickering Pong": Game("FlickeringPong-v0", 12),
    "Freeway": Game("FreewayNoFrameskip-v4", 28),
    "Breakout": Game("BreakoutNoFrameskip-v4", 30),
}
#: name -> algorithm, settings file, frames stacked, what its policy is given beside the entry's
AGENTS: dict[str, tuple[type[OffPolicyAlgorithm], str, int, dict[str, Any]]] = {
    "rdqn": (RecurrentDQN, "rdqn", 1, {}),
    "rdqn without memory": (RecurrentDQN, "rdqn", 1, dict(memory_class="none", memory_kwargs={})),
    "rqrdqn": (RecurrentQRDQN, "rqrdqn", 1, {}),
    "dqn": (DQN, "dqn", 4, {}),
    "qrdqn": (QRDQN, "qrdqn", 4, {}),
}


class Run(NamedTuple):
    """
    :param game: of :data:`GAMES`
    :param agent: of :data:`AGENTS`
    :param seed: of the run
    """

    game: str
    agent: str
    seed: int


def make_env(game: Game, n_stack: int, n_envs: int, seed: int, training: bool) -> VecEnv:
    """
    :param game: played
    :param n_stack: frames of an observation
    :param n_envs: games at a time
    :param seed: of the games
    :param training: lives are episodes and rewards are signs; else whole games with their scores
    """
    if game.env_id in ("FlickeringPong-v0",):  # Pong has no lives, and its points are -1 and 1
        return make_vec_env(game.env_id, n_envs, seed=seed)
    signs = dict(terminal_on_life_loss=training, clip_reward=training)
    return make_atari_vec_env(game.env_id, n_envs, seed, n_stack=n_stack, n_threads=1, **signs)


def settings(name: str, env_id: str) -> dict[str, Any]:
    """
    :param name: of a file of ``zoo_configs``
    :param env_id: a game; its own entry if it has one, else ``atari``
    :return: what the algorithm is built with; ``policy_kwargs`` is a dict
    """
    entries = yaml.safe_load((CONFIGS / f"{name}.yml").read_text(encoding="utf-8"))
    entry: dict[str, Any] = {**entries.get(env_id, entries["atari"])}
    for of_the_zoo in ("env_wrapper", "frame_stack", "n_timesteps", "n_envs"):
        entry.pop(of_the_zoo, None)
    if isinstance(entry.get("policy_kwargs"), str):
        entry["policy_kwargs"] = parse_literal(entry["policy_kwargs"])
    return entry


class Judged(BaseCallback):
    """
    Plays now and then, and ends training when the score is reached.

    :param envs: to play in
    :param to_reach: score
    """

    #: what checkpoints hold of it
    checkpointed = ("curve", "seconds")

    def __init__(self, envs: VecEnv, to_reach: float) -> None:
        super().__init__()
        self.envs, self.to_reach = envs, to_reach
        self.curve: list[tuple[int, float]] = []
        self.seconds = 0.0
        self.score: float | None = None

    def _on_training_start(self) -> None:
        self.last, self.begun = self.model.num_timesteps, time.process_time() - self.seconds

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self.last >= EVALUATE_EVERY:
            self.last = self.model.num_timesteps
            self.score = None
            tried = mean_score(self.model, self.envs, TRIED)
            self.seconds = time.process_time() - self.begun
            self.curve.append((self.model.num_timesteps, tried))
            print(f"{self.model.num_timesteps:>9,} steps {tried:8.2f}  {self.seconds:7.0f} s", flush=True)
            if tried >= self.to_reach:
                self.score = mean_score(self.model, self.envs, JUDGED)

    def _on_step(self) -> bool:
        return self.score is None or self.score < self.to_reach


def mean_score(model: Any, envs: VecEnv, n_games: int) -> float:
    score, _ = evaluate_policy(model, envs, n_eval_episodes=n_games)
    return round(float(score), 2)  # type: ignore[arg-type]


def train(run: Run) -> Line:
    th.set_num_threads(1)
    game = GAMES[run.game]
    algorithm, config, n_stack, policy_kwargs = AGENTS[run.agent]
    kwargs = settings(config, game.env_id)
    kwargs["policy_kwargs"] = {**kwargs.get("policy_kwargs", {}), **policy_kwargs}
    envs = make_env(game, n_stack, N_ENVS, 1_000 * run.seed, training=True)
    judged = Judged(make_env(game, n_stack, N_ENVS, 1_000 * run.seed + 500, training=False), game.to_reach)
    folder = OUTPUTS / f"{run.game}-{run.agent}-{run.seed}".replace(" ", "_")
    checkpoint = ResumableCheckpoint(folder / "checkpoints", CHECKPOINT_EVERY)
    try:
        model: Any = load_checkpoint(algorithm, folder / "checkpoints", envs, device="cpu")
        steps, goes_on = steps_left(model), True
        print(f"{run}: goes on at {model.num_timesteps:,} steps", flush=True)
    except FileNotFoundError:
        model, steps, goes_on = algorithm(env=envs, seed=run.seed, device="cpu", **kwargs), game.steps, False
    model.learn(steps, callback=[judged, checkpoint], log_interval=None, reset_num_timesteps=not goes_on)
    score = judged.score if judged.score is not None else mean_score(model, judged.envs, JUDGED)
    model.save(folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return dict(score=score, steps=model.num_timesteps, seconds=round(judged.seconds), curve=judged.curve)


def report() -> None:
    lines = RESULTS.lines()
    print(
        "| game | agent | to reach | 30 games, each seed | steps (k), each seed | CPU minutes |\n"
        "|---|---|--:|---|---|--:|"
    )
    for name, game in GAMES.items():
        for agent in AGENTS:
            found = sorted((x for x in lines if (x["game"], x["agent"]) == (name, agent)), key=lambda x: x["seed"])
            if found:
                scores = ", ".join(f"{line['score']:g}{line['mark']}" for line in found)
                steps = ", ".join(f"{line['steps'] / 1000:.0f}" for line in found)
                minutes = statistics.median(line["seconds"] for line in found) / 60
                print(f"| {name} | {agent} | {game.to_reach} | {scores} | {steps} | {minutes:.0f} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    if not args.table:
        runs = [Run(game, agent, seed) for game in args.games for agent in args.agents for seed in args.seeds]
        RESULTS.run_missing(train, runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
