"""How far back an agent remembers, as a page to read and figures to compute with."""

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_attnmem import __version__
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.acting import FullMemory, LastSteps, Played, play
from sb3_attnmem.inspection.agent import check_agent, undisturbed
from sb3_attnmem.inspection.episode_trace import EpisodeTrace, trace_episode
from sb3_attnmem.inspection.history import HistoryScore, score_against_history
from sb3_attnmem.inspection.memory_pictures import mean_by_age
from sb3_attnmem.inspection.memory_sections import sections_of
from sb3_attnmem.inspection.page import as_page
from sb3_attnmem.inspection.reach import GradientReach, gradient_map, gradient_reach, observations_held
from sb3_attnmem.inspection.state_gap import StateGaps, state_gaps
from sb3_attnmem.inspection.verdict import remarks, verdict

#: Steps that an episode may have; and how many times the longest with full memory, with less of it
MOST_STEPS, MOST_TIMES = 27_000, 10
#: Steps of all windows that gradients are taken over; of the episode that is looked at, and those whose gradients are
#: all shown; sequences for ΔQ
N_UNROLLED, N_TRACED, N_MAPPED, N_SEQUENCES = 50_000, 500, 200, 256


class MemoryReport(NamedTuple):
    """
    :param verdict: in plain words
    :param score: against history
    :param reach: of gradients
    :param gaps: ΔQ
    :param html: the page
    :param json: its figures
    """

    verdict: str
    score: HistoryScore
    reach: GradientReach
    gaps: StateGaps
    html: Path
    json: Path


def write_memory_report(
    model: RecurrentDQN,
    env: VecEnv | gym.Env,
    folder: str | Path,
    *,
    episodes: int = 50,
    seed: int = 0,
    tolerance: float = 0.05,
    max_history: int = 512,
    progress: bool = True,
) -> MemoryReport:
    """
    Find out how many steps of history an agent uses, and write what was found to ``folder/memory.html``, one page with
    its pictures in it, and ``folder/memory.json``::

        report = write_memory_report(model, make_vec_env("PassiveTMaze10-v0", n_envs=25), "report")
        print(report.verdict)

    The agent plays greedily, the same episodes with its full memory and with the last k observations; many environments
    side by side make that fast. Nothing of the agent is changed: weights, training state, replay buffer and random
    generators are afterwards what they were before.

    :param model: the agent
    :param env: like the one it was trained in, but not that one; with ``VecNormalize``, if it had one
    :param folder: is made if need be; older reports there are replaced
    :param episodes: that each score is the mean of
    :param seed: of the first episode; episode i begins from ``seed + i``
    :param tolerance: share of the return that may be lost with the history that an agent is said to use
    :param max_history: observations to go back over at most
    :param progress: whether to show progress bars
    :return: what was found
    :raises ValueError: when the model is no ``RecurrentDQN``, the environment does not fit or is the one that the
        model trains in, or an option is out of range
    """
    for name, value in (("episodes", episodes), ("max_history", max_history)):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer of at least 1.")
    if not 0.0 < tolerance < 1.0:
        raise ValueError(f"tolerance={tolerance} is a share of the return; it must lie between 0 and 1.")
    envs = check_agent(model, env)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    bar = _bars(progress)
    rng = np.random.default_rng(seed)
    with undisturbed(model, envs):
        with bar("full memory", episodes, "episodes") as tick:
            full = play(model, envs, FullMemory(model.q_net), episodes, seed, MOST_STEPS, tick, keep=True)
        score, n_cut = _score(model, envs, full, episodes, seed, tolerance, max_history, bar)
        with bar("gradients", None, "steps") as tick:
            reach = gradient_reach(model.q_net, full.tapes, score.searched, N_UNROLLED, rng, tick)
        trace = trace_episode(model, full.tapes[0], N_TRACED)
        n_mapped = min(trace.n_steps, N_MAPPED)
        with bar("gradients of an episode", n_mapped, "steps") as tick:
            influence = gradient_map(model.q_net, full.tapes[0], n_mapped, score.searched, tick)
        with th.no_grad():
            gaps = state_gaps(model, envs, full.tapes, N_SEQUENCES, rng)
    has_memory = bool(model.q_net.memory.initial_state(1))
    words, notes = verdict(score, episodes, has_memory), remarks(score, reach, episodes)
    if full.n_cut + n_cut:
        notes.append(f"{full.n_cut + n_cut} episodes did not end and were given up; their returns count as they were.")
    agent = _about(model, envs, episodes, seed)
    figures = {
        "verdict": words,
        "remarks": notes,
        "agent": agent,
        "history": {"longest_episode": int(full.lengths.max()), **_of_score(score, tolerance)},
        "gradient_reach": {
            "observations": reach.observations,
            "mean_norm_by_lag": reach.means.tolist(),
            "places_by_lag": reach.counts.tolist(),
        },
        "delta_q": {
            "source": gaps.source,
            "sequences": gaps.n_sequences,
            "states": [gap._asdict() for gap in gaps.gaps],
        },
        "episode": _of_trace(trace),
    }
    about = (
        f"{agent['environment']}, {agent['memory']}, {agent['parameters']:,} parameters, trained for "
        f"{agent['trained_steps']:,} steps. {episodes} greedy episodes from seed {seed}. sb3_attnmem {__version__}"
    )
    page = as_page(
        "How far it remembers", about, words, notes, sections_of(score, reach, trace, influence, gaps, full.returns)
    )
    # Not a number has no place in JSON
    text = json.dumps(_finite(figures), indent=1, ensure_ascii=False, allow_nan=False)
    return MemoryReport(
        words, score, reach, gaps, _write(folder / "memory.html", page), _write(folder / "memory.json", text)
    )


def _score(
    model: RecurrentDQN,
    env: VecEnv,
    full: Played,
    episodes: int,
    seed: int,
    tolerance: float,
    max_history: int,
    bar: "Bar",
) -> tuple[HistoryScore, int]:
    """:return: the score against history, and how many episodes were given up"""
    longest = int(full.lengths.max())
    whole = min(longest, observations_held(model.q_net.memory) or longest)
    most = min(max(MOST_TIMES * longest, 1_000), MOST_STEPS)
    n_cut = 0

    def returns_with(k: int) -> np.ndarray:
        nonlocal n_cut
        with bar(f"the last {k}" if k > 1 else "the present alone", episodes, "episodes") as tick:
            played = play(model, env, LastSteps(model.q_net, k), episodes, seed, most, tick)
        n_cut += played.n_cut
        return played.returns

    return score_against_history(full.returns, returns_with, whole, max_history, tolerance), n_cut


Bar = Callable[[str, int | None, str], Any]


def _bars(progress: bool) -> Bar:
    """:return: what opens a progress bar and gives the function that advances it"""

    @contextmanager
    def bar(name: str, total: int | None, unit: str) -> Iterator[Callable[[int], Any]]:
        with tqdm(total=total, desc=name, unit=f" {unit}", disable=not progress, leave=False) as shown:
            yield shown.update

    return bar


def _about(model: RecurrentDQN, env: VecEnv, episodes: int, seed: int) -> dict[str, Any]:
    specs = env.get_attr("spec") if hasattr(env, "get_attr") else [None]
    options = ", ".join(f"{name}={value}" for name, value in model.q_net.architecture.memory_kwargs.items())
    return {
        "environment": getattr(specs[0], "id", None) or "an environment without a name",
        "memory": f"{model.q_net.architecture.memory_class.__name__}({options})",
        "fusion": model.q_net.architecture.memory_fusion,
        "parameters": sum(weight.numel() for weight in model.q_net.parameters()),
        "trained_steps": model.num_timesteps,
        "episodes": episodes,
        "seed": seed,
        "version": __version__,
    }


def _of_score(score: HistoryScore, tolerance: float) -> dict[str, Any]:
    return {
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


def _of_trace(trace: EpisodeTrace) -> dict[str, Any]:
    n = trace.n_steps
    return {
        "steps": len(trace.tape.starts),
        "steps_looked_at": n,
        "actions": trace.tape.actions[:n].tolist(),
        "rewards": trace.tape.rewards[:n].tolist(),
        "q_values": trace.tape.q_values[:n].tolist(),
        "state_norms": {name: values.tolist() for name, values in trace.state_norms.items()},
        "mean_gates": {name: values.mean(axis=1).tolist() for name, values in trace.gates.items()},
        "mean_alpha": None if trace.alpha is None else trace.alpha.mean(axis=1).tolist(),
        "attention_by_age": {name: mean_by_age(weights).tolist() for name, weights in trace.past.items()},
    }


def _finite(value: Any) -> Any:
    """:return: the same with None for what is not finite"""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_name(f"unfinished-{path.name}")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)
    return path
