"""
Atari games without sticky actions, one frame a step to a memory or four stacked frames to stock algorithms with
attention: the greedy score of 30 games (whole games, true scores) of the model at the end, which is where 30 games
first reached what was asked, or after the last step. Greedy games without sticky actions are often the same game, so
lines count the different ones (``different``), and give 30 other games in which 1 of 100 actions is random
(``score_with_random_actions``). Settings are those of the ``atari`` entries of ``zoo_configs/``. A
run that is killed goes on from its last checkpoint; results, with learning curves, in
``benchmarks/results/atari_learning.jsonl``, models and checkpoints in ``outputs/atari_learning``. Steps of an agent
that begins with another's weights do not count those that the other learned from. Lines that do not
name their precision were computed in bfloat16 on a CPU, in float32 on a GPU.

    python benchmarks/atari_learning.py --games Pong --agents rdqn --seeds 0 [--jobs 2]
    python benchmarks/atari_learning.py --games Pong --agents dqn --device cuda --evaluate-every 50000
    python benchmarks/atari_learning.py --table
"""

import shutil
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
import yaml
from gymnasium import spaces
from resumable import Line, ResultsFile, options
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, ResumableCheckpoint, load_checkpoint, steps_left
from sb3_attnmem.envs import make_atari_vec_env
from sb3_attnmem.extractors import SpatialAttentionCNN
from sb3_attnmem.extractors.base import PRECISIONS
from sb3_attnmem.transfer import load_pretrained
from sb3_attnmem.zoo.literals import parse_literal

RESULTS = ResultsFile("atari_learning")
OUTPUTS = Path(__file__).parents[1] / "outputs" / "atari_learning"
CONFIGS = Path(__file__).parents[1] / "zoo_configs"
TRAINED_AGENTS = Path(__file__).parents[1] / "trained_agents"
N_ENVS = 8
N_GAMES = 30
#: share of random actions, which make games differ
RANDOM_ACTIONS = 0.01
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
PLAIN: dict[str, Any] = dict(features_extractor_class="plain_cnn")
ATTENTION: dict[str, Any] = dict(
    features_extractor_class=SpatialAttentionCNN, features_extractor_kwargs=dict(n_heads=8)
)
DIRECTED: dict[str, Any] = dict(
    memory_class="attentive_lstm",
    features_extractor_class="plain_cnn",
    features_extractor_kwargs=dict(output="map"),
)
#: of frames of 42 × 42, a quarter of the pixels: 5 × 5 places, as many updates in a third of the time
SMALL_TRUNK = ((16, 4, 2, 1), (32, 4, 2, 1), (64, 3, 2, 1))


class Agent(NamedTuple):
    """
    :param algorithm: that learns
    :param config: a file of ``zoo_configs``
    :param policy: what its policy is given beside the entry's
    :param n_stack: frames of an observation
    :param screen_size: pixels on a side of a frame
    :param pretrained: the agent of ``trained_agents`` whose weights it begins with
    :param steps_before: which that one has learned from; its own are so many fewer
    """

    algorithm: type[OffPolicyAlgorithm]
    config: str
    policy: dict[str, Any]
    n_stack: int = 1
    screen_size: int = 84
    pretrained: str = ""
    steps_before: int = 0

    def on_small_frames(self) -> "Agent":
        """:return: the same on frames of 42 × 42"""
        options = {**self.policy.get("features_extractor_kwargs", {}), "trunk": SMALL_TRUNK}
        return self._replace(policy={**self.policy, "features_extractor_kwargs": options}, screen_size=42)


AGENTS = {
    "rdqn": Agent(RecurrentDQN, "rdqn", PLAIN),
    "rdqn without memory": Agent(RecurrentDQN, "rdqn", dict(memory_class="none", **PLAIN)),
    "rdqn, memory directs attention": Agent(RecurrentDQN, "rdqn", DIRECTED),
    "rqrdqn": Agent(RecurrentQRDQN, "rqrdqn", PLAIN),
    "dqn": Agent(DQN, "dqn", ATTENTION, n_stack=4),
    "qrdqn": Agent(QRDQN, "qrdqn", ATTENTION, n_stack=4),
    "rdqn, pretrained in Pong": Agent(
        RecurrentDQN,
        "rdqn",
        PLAIN,
        pretrained="rdqn/PongNoFrameskip-v4_1/PongNoFrameskip-v4.zip",
        steps_before=250_000,
    ),
}
AGENTS |= {f"{name}, 42 pixels": agent.on_small_frames() for name, agent in AGENTS.items() if not agent.pretrained}


class Execution(NamedTuple):
    """
    How a run is carried out. A finished run is not repeated because these differ.

    :param device: of the networks
    :param precision: in which trunks compute; bfloat16 takes half the time where a CPU computes with it
    :param evaluate_every: steps
    :param keep_checkpoints: whether a run that is killed goes on; a file is as large as the replay buffer
    """

    device: str
    precision: str
    evaluate_every: int
    keep_checkpoints: bool


class Run(NamedTuple):
    """
    :param game: of :data:`GAMES`
    :param agent: of :data:`AGENTS`
    :param seed: of the run
    """

    game: str
    agent: str
    seed: int


def make_env(game: Game, agent: Agent, n_envs: int, seed: int, training: bool) -> VecEnv:
    """
    :param game: played
    :param agent: that plays
    :param n_envs: games at a time
    :param seed: of the games
    :param training: rewards are signs, else the game's. Lives are episodes in both, since games with lives are served
        after each (as rl_zoo3 evaluates); evaluations count whole games
    """
    if game.env_id in ("FlickeringPong-v0",):  # Pong has no lives, and its points are -1 and 1
        return make_vec_env(game.env_id, n_envs, seed=seed, env_kwargs=dict(screen_size=agent.screen_size))
    sizes = dict(n_stack=agent.n_stack, screen_size=agent.screen_size)
    return make_atari_vec_env(game.env_id, n_envs, seed, n_threads=1, clip_reward=training, **sizes)


class RandomActions(VecEnvWrapper):
    """
    Replaces some of the actions by random ones.

    :param venv: whose actions they are
    :param share: of random actions
    :param seed: of these
    """

    def __init__(self, venv: VecEnv, share: float, seed: int) -> None:
        super().__init__(venv)
        self.share = share
        self.rng = np.random.default_rng(seed)

    def reset(self) -> VecEnvObs:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        assert isinstance(self.action_space, spaces.Discrete)
        others = self.rng.integers(self.action_space.n, size=self.num_envs)
        self.venv.step_async(np.where(self.rng.random(self.num_envs) < self.share, others, actions))

    def step_wait(self) -> VecEnvStepReturn:
        return self.venv.step_wait()


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


def train(run: Run, execution: Execution) -> Line:
    th.set_num_threads(1)
    th.set_flush_denormal(True)  # what they cost: benchmarks/optimizer.py
    game = GAMES[run.game]
    agent = AGENTS[run.agent]
    kwargs = settings(agent.config, game.env_id)
    kwargs["policy_kwargs"] = {**kwargs.get("policy_kwargs", {}), **agent.policy}
    kwargs["policy_kwargs"]["features_extractor_kwargs"] = {
        **agent.policy.get("features_extractor_kwargs", {}),
        "precision": execution.precision,
    }
    envs = make_env(game, agent, N_ENVS, 1_000 * run.seed, training=True)
    folder = OUTPUTS / f"{run.game}-{run.agent}-{run.seed}".replace(" ", "_")
    evaluations = EvalCallback(
        make_env(game, agent, N_ENVS, 1_000 * run.seed + 500, training=False),
        callback_on_new_best=StopTrainingOnRewardThreshold(game.to_reach),
        n_eval_episodes=N_GAMES,
        eval_freq=execution.evaluate_every // N_ENVS,
        log_path=str(folder),
    )
    callbacks: list[BaseCallback] = [evaluations]
    if execution.keep_checkpoints:
        callbacks.append(ResumableCheckpoint(folder / "checkpoints", CHECKPOINT_EVERY))
    begun = time.process_time()
    try:
        model: Any = load_checkpoint(agent.algorithm, folder / "checkpoints", envs, device=execution.device)
        print(f"{run}: goes on at {model.num_timesteps:,} steps", flush=True)
        model.learn(steps_left(model), callbacks, log_interval=None, reset_num_timesteps=False)
        seconds = None  # of the parts before nobody knows
    except FileNotFoundError:
        model = agent.algorithm(env=envs, seed=run.seed, device=execution.device, **kwargs)
        if agent.pretrained:
            load_pretrained(model, TRAINED_AGENTS / agent.pretrained)
        model.learn(game.steps - agent.steps_before, callbacks, log_interval=None)
        seconds = round(time.process_time() - begun)
    model.save(folder / "model")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    others = make_env(game, agent, N_ENVS, 1_000 * run.seed + 600, training=False)
    with_random, _ = evaluate_policy(model, RandomActions(others, RANDOM_ACTIONS, run.seed), N_GAMES)
    means = np.mean(evaluations.evaluations_results, axis=1, dtype=float).round(2).tolist()
    curve = list(zip(evaluations.evaluations_timesteps, means, strict=True))
    device = th.cuda.get_device_name() if execution.device == "cuda" else "CPU"
    return dict(
        score=means[-1],
        different=len(set(zip(evaluations.evaluations_results[-1], evaluations.evaluations_length[-1], strict=True))),
        score_with_random_actions=round(float(with_random), 2),  # type: ignore[arg-type]
        steps=model.num_timesteps,
        seconds=seconds,
        device=device,
        precision=execution.precision,
        curve=curve,
    )


def report() -> None:
    lines = RESULTS.lines()
    print(
        "| game | agent | to reach | 30 games, each seed (different ones) | with random actions | "
        "steps (k), each seed | CPU minutes |\n|---|---|--:|---|---|---|--:|"
    )
    for name, game in GAMES.items():
        for agent in AGENTS:
            found = sorted((x for x in lines if (x["game"], x["agent"]) == (name, agent)), key=lambda x: x["seed"])
            if found:
                scores = ", ".join(f"{line['score']:g} ({line.get('different', '–')}){line['mark']}" for line in found)
                random = ", ".join(f"{line.get('score_with_random_actions', '–')}" for line in found)
                steps = ", ".join(f"{line['steps'] / 1000:.0f}" for line in found)
                times = [line["seconds"] for line in found if line["seconds"] is not None]
                minutes = f"{statistics.median(times) / 60:.0f}" if times else "–"
                print(f"| {name} | {agent} | {game.to_reach} | {scores} | {random} | {steps} | {minutes} |")


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--evaluate-every", type=int, default=25_000, help="steps")
    parser.add_argument("--no-checkpoints", action="store_true", help="a run that is killed begins again")
    args = parser.parse_args()
    if not args.table:
        runs = [Run(game, agent, seed) for game in args.games for agent in args.agents for seed in args.seeds]
        execution = Execution(args.device, args.precision, args.evaluate_every, not args.no_checkpoints)
        RESULTS.run_missing(partial(train, execution=execution), runs, args.jobs)
    report()
    print(RESULTS.foot())


if __name__ == "__main__":
    main()
