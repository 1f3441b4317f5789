"""The figures of a memory report, in the form of JSON."""

import json
import math
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import __version__
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.common import environment_of
from sb3_attnmem.inspection.memory.contamination import Contaminated
from sb3_attnmem.inspection.memory.exchange import Exchanged
from sb3_attnmem.inspection.memory.history import HistoryScore
from sb3_attnmem.inspection.memory.reach import GradientReach
from sb3_attnmem.inspection.memory.state_gap import StateGaps
from sb3_attnmem.inspection.memory.trace import EpisodeTrace, mean_by_age


def describe_agent(model: RecurrentDQN, env: VecEnv, episodes: int, seed: int) -> dict[str, Any]:
    """
    Describe what was looked at.

    :param model: the agent
    :param env: that it played in
    :param episodes: that it played
    :param seed: of the first one
    :return: what was looked at
    """
    options = ", ".join(f"{name}={value}" for name, value in model.q_net.architecture.memory_kwargs.items())
    return {
        "environment": environment_of(env),
        "memory": f"{model.q_net.architecture.memory_class.__name__}({options})",
        "fusion": model.q_net.architecture.memory_fusion,
        "parameters": sum(weight.numel() for weight in model.q_net.parameters()),
        "trained_steps": model.num_timesteps,
        "episodes": episodes,
        "seed": seed,
        "version": __version__,
    }


def history_figures(score: HistoryScore, tolerance: float, longest_episode: int) -> dict[str, Any]:
    """
    Give the figures of the score against history.

    :param score: against history
    :param tolerance: share of the return that may be lost
    :param longest_episode: its steps
    :return: the section "history"
    """
    return {
        "longest_episode": longest_episode,
        "needed": score.needed,
        "searched": score.searched,
        "full_memory_from_k": score.whole,
        "tolerance": tolerance,
        "loss_tolerated": score.allowed,
        "full_memory": {"mean": score.mean, "standard_error": score.error},
        "by_k": [
            {
                "k": point.k,
                "mean": point.mean,
                "standard_error": point.error,
                "loss": point.loss,
                "loss_standard_error": point.loss_error,
            }
            for point in score.points
        ],
    }


def reach_figures(reach: GradientReach) -> dict[str, Any]:
    """
    Give the figures of the gradients.

    :param reach: of gradients
    :return: the section "gradient_reach"
    """
    return {
        "observations": reach.observations,
        "mean_norm_by_lag": reach.means.tolist(),
        "places_by_lag": reach.counts.tolist(),
    }


def gap_figures(gaps: StateGaps) -> dict[str, Any]:
    """
    Give the figures of the states that replay begins from.

    :param gaps: ΔQ
    :return: the section "delta_q"
    """
    return {
        "source": gaps.source,
        "sequences": gaps.n_sequences,
        "states": [gap._asdict() for gap in gaps.gaps],
    }


def contamination_figures(contaminated: Sequence[Contaminated]) -> list[dict[str, Any]]:
    """
    Give the figures of foreign history.

    :param contaminated: what it does, by its length
    :return: the section "contamination"; a recovery that never comes is null
    """
    return [
        {
            "foreign_steps": one.k,
            "steps_until_clean": one.recovery,
            "never_clean": one.never,
            "episodes": one.n_pairs,
            "mean_delta_q_by_step": one.gaps.tolist(),
        }
        for one in contaminated
    ]


def exchange_figures(found: Exchanged | None) -> dict[str, Any] | None:
    """
    Give the figures of exchanged observations.

    :param found: what Q-values rest on; None: nothing was measured
    :return: the section "exchange"
    """
    if found is None:
        return None
    return {
        "step": found.step,
        "rests_on": found.cause,
        "delta_q": found.gap,
        "other_actions": found.other_actions,
        "largest_delta_q_of_others": found.others,
        "exchanges": found.n_exchanges,
        "blocks_begin": found.begins.tolist(),
        "mean_delta_q_by_block": found.gaps[found.step].tolist(),
    }


def trace_figures(trace: EpisodeTrace) -> dict[str, Any]:
    """
    Give the figures of one episode.

    :param trace: of an episode
    :return: the section "episode"
    """
    n = trace.n_steps
    return {
        "steps": len(trace.episode.starts),
        "steps_looked_at": n,
        "actions": trace.episode.actions[:n].tolist(),
        "rewards": trace.episode.rewards[:n].tolist(),
        "q_values": trace.episode.q_values[:n].tolist(),
        "state_norms": {name: values.tolist() for name, values in trace.state_norms.items()},
        "mean_gates": {name: values.mean(axis=1).tolist() for name, values in trace.gates.items()},
        "mean_alpha": None if trace.alpha is None else trace.alpha.mean(axis=1).tolist(),
        "attention_by_age": {name: mean_by_age(weights).tolist() for name, weights in trace.past.items()},
    }


def as_json(figures: dict[str, Any]) -> str:
    """
    Write figures as JSON.

    :param figures: dicts, lists, numbers and text
    :return: JSON, in which what is not finite is null
    """
    text = json.dumps(_finite(figures), indent=1, ensure_ascii=False, allow_nan=False)
    # Half a character, which no file holds, becomes JSON's escape of it
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
