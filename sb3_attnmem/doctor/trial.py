"""The agent of a run, played: its score, what it sees, its score with less memory, and ΔQ of its replay buffer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.common import check_env, undisturbed
from sb3_attnmem.inspection.memory.history import HistoryScore
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from sb3_attnmem.inspection.memory.scoring import MOST_STEPS, score_with_less
from sb3_attnmem.replay import SequenceReplayBuffer

#: observations that are kept to be compared; batches of sequences for ΔQ
N_OBSERVATIONS, N_BATCHES = 2_000, 4
#: of the score that may be lost with less memory, and observations that are looked back over at most
TOLERANCE, MAX_HISTORY = 0.05, 64


class Trial(NamedTuple):
    """
    Greedy episodes in an environment like the one that the agent was trained in.

    :param returns: (E,)
    :param lengths: (E,) steps
    :param observations: (n, D) what the environment gave, flat, before ``VecNormalize``; None: no plain arrays
    :param normalizes: whether ``VecNormalize`` stands between the two
    :param history: score against history; None where the agent has no memory
    """

    returns: np.ndarray
    lengths: np.ndarray
    observations: np.ndarray | None
    normalizes: bool
    history: HistoryScore | None


def play_trial(
    model: BaseAlgorithm, env: VecEnv | gym.Env, episodes: int, seed: int, tick: Callable[[str], Any]
) -> Trial:
    """
    :param model: of any algorithm of SB3
    :param env: like the one it was trained in, wrappers and ``VecNormalize`` included
    :param episodes: E
    :param seed: of the first
    :param tick: is told what is being done
    :return: what was measured
    :raises ValueError: where the environment does not fit the agent
    """
    envs = check_env(model, env)
    normalize = unwrap_vec_normalize(envs)
    kept: list[np.ndarray] = []

    def keep(told: dict[str, Any], _: dict[str, Any]) -> None:
        seen = told["observations"] if normalize is None else normalize.get_original_obs()
        if isinstance(seen, np.ndarray) and len(kept) < N_OBSERVATIONS:
            kept.append(np.array(seen[told["i"]], dtype=np.float32).ravel())

    with undisturbed(model, envs):
        tick(f"{episodes} episodes")
        envs.seed(seed)
        returns, lengths = evaluate_policy(
            model, envs, episodes, deterministic=True, return_episode_rewards=True, callback=keep, warn=False
        )
        history = None
        if isinstance(model, RecurrentDQN) and model.q_net.memory.initial_state(1):
            tick("episodes with less memory")
            silent = lambda n: None  # noqa: E731
            full = play_episodes(model, envs, FullMemory(model.q_net), episodes, seed, MOST_STEPS, silent)
            history, _ = score_with_less(model, envs, full, episodes, seed, TOLERANCE, MAX_HISTORY)
    seen = np.stack(kept) if kept else None
    return Trial(np.array(returns), np.array(lengths, dtype=float), seen, normalize is not None, history)


def measure_staleness(model: RecurrentDQN, buffer: SequenceReplayBuffer) -> tuple[float, float]:
    """
    :param model: the agent; its replay buffer is replaced
    :param buffer: that it learned from
    :return: mean ΔQ (Kapturowski et al., 2019, section 3) at the first and at the last learning step of sequences
    """
    model.replay_buffer = buffer
    buffer.device = model.device
    for part in buffer.parts:
        part.seed(0)
    with th.no_grad():
        gaps = [model.measure_delta_q(buffer.sample(32)) for _ in range(N_BATCHES)]
    return tuple(float(np.mean([gap[name] for gap in gaps])) for name in ("delta_q_first", "delta_q_last"))  # type: ignore[return-value]
