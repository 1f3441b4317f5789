"""What the memory does step by step in one episode."""

from typing import NamedTuple

import numpy as np
import torch as th

from sb3_attnmem.attention import AttentionLayer, KeyList, record_attention
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.memory.gates import gates_of
from sb3_attnmem.inspection.memory.played import PlayedEpisode
from sb3_attnmem.inspection.observed import Observed, shapes_read
from sb3_attnmem.memory import BaseMemory
from sb3_attnmem.memory.matrix import MatrixMemory


class EpisodeTrace(NamedTuple):
    """
    The first T steps of an episode.

    :param episode: all of it
    :param observed: the images in its observations
    :param n_steps: T
    :param state_norms: name of a state tensor -> (T,), its Euclidean norm after each step
    :param states: name of a state tensor -> (T, units), its numbers after each step
    :param gates: name -> (T, units), in [0, 1]
    :param alpha: (T, units) of the gated fusion, 1 where only the present counts; None without one
    :param past: name of a layer -> (heads, T, T), row t column s: weight of step s as seen from t; of a memory that
        writes to matrices the share of what is read at t that was written at s
    :param slots: name -> (heads, T, N): weights of a memory's slots
    :param places: name -> (heads, T, P): weights of the places of a feature map
    """

    episode: PlayedEpisode
    observed: Observed
    n_steps: int
    state_norms: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    gates: dict[str, np.ndarray]
    alpha: np.ndarray | None
    past: dict[str, np.ndarray]
    slots: dict[str, np.ndarray]
    places: dict[str, np.ndarray]


def trace_episode(model: RecurrentDQN, episode: PlayedEpisode, max_steps: int) -> EpisodeTrace:
    """
    Run the memory over an episode again, and keep what it does.

    :param model: the agent
    :param episode: an episode that it played
    :param max_steps: the longest to look at
    :return: what its memory did in it
    """
    q_net, memory = model.q_net, model.q_net.memory
    n_steps = min(len(episode.starts), max_steps)
    features = episode.features[:n_steps].unsqueeze(0)
    starts = th.as_tensor(episode.starts[:n_steps], device=features.device).unsqueeze(0)
    before, after = [], []
    with th.no_grad():
        state = memory.initial_state(1)
        for t in range(n_steps):
            before.append(memory.reset_where(starts[:, t], state))
            _, state = memory(features[:, t : t + 1], before[-1], starts[:, t : t + 1])
            after.append(state)
        gates = gates_of(memory, features, starts, before, after) if n_steps else {}
        alpha, past, slots, places = None, {}, {}, {}
        if isinstance(memory, MatrixMemory) and n_steps:
            for i, shares in enumerate(memory.shares(features, starts)):
                past[f"memory.layers.{i}"] = _no_future(shares[0].cpu().numpy())
        if any(isinstance(module, AttentionLayer) for module in q_net.modules()):
            with record_attention(q_net) as record:
                latents, _ = memory(features, memory.initial_state(1), starts)
                q_net.fuse(features, latents)
            for name, weights in record.items():
                layout = record.layouts[name]
                if name == "fusion.alpha":
                    alpha = weights.cpu().numpy()
                elif isinstance(layout, KeyList) and layout.kind == "steps":
                    past[name] = _by_step(weights[0].cpu().numpy())
                elif isinstance(layout, KeyList) and layout.kind == "slots":
                    slots[name] = weights[0].cpu().numpy()
                elif weights.dim() == 4:
                    places[name] = weights[0].cpu().numpy()
    tensors = list(zip(*after, strict=True)) if after else []
    states = {
        name: th.cat([tensor.flatten(1) for tensor in steps]).float().cpu().numpy()
        for name, steps in zip(_state_names(memory, len(tensors)), tensors, strict=True)
    }
    return EpisodeTrace(
        episode,
        Observed(model.observation_space, shapes_read(model.policy)),
        n_steps,
        {name: np.linalg.norm(values, axis=1) for name, values in states.items()},
        states,
        {name: values.cpu().numpy() for name, values in gates.items()},
        alpha,
        past,
        slots,
        places,
    )


def _no_future(shares: np.ndarray) -> np.ndarray:
    """:return: (heads, T, T), nan where a step cannot look"""
    return np.where(np.tril(np.ones(shares.shape[1:], bool)), shares, np.nan)


def _by_step(weights: np.ndarray) -> np.ndarray:
    """
    Lay weights by age out by step.

    :param weights: (heads, T, M + 1), from M steps ago to the present one
    :return: (heads, T, T), nan where a step cannot look
    """
    heads, n_steps, n_ages = weights.shape
    found = np.full((heads, n_steps, n_steps), np.nan, weights.dtype)
    for t in range(n_steps):
        n = min(t + 1, n_ages)
        found[:, t, t - n + 1 : t + 1] = weights[:, t, n_ages - n :]
    return found


def mean_by_age(weights: np.ndarray) -> np.ndarray:
    """
    Average attention weights by age.

    :param weights: (heads, T, T), row t column s, nan where a step cannot look
    :return: (heads, ages), as many as are seen
    """
    n_steps = weights.shape[1]
    seen = []
    for age in range(n_steps):
        diagonal = np.diagonal(weights, -age, axis1=1, axis2=2)
        if not np.isfinite(diagonal).any():
            break
        seen.append(np.nanmean(diagonal, axis=1))
    return np.stack(seen, axis=1)


def _state_names(memory: BaseMemory, n_tensors: int) -> list[str]:
    """:return: the memory's own names of its state's tensors, or numbers"""
    if len(memory.state_names) == n_tensors:
        return list(memory.state_names)
    return ["state"] if n_tensors == 1 else [f"state {i}" for i in range(n_tensors)]
