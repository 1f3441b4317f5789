"""How far back an agent remembers, as a page to read and figures to compute with."""

from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem import __version__
from sb3_attnmem.common.checks import check_choice, check_flag, check_integers, check_number
from sb3_attnmem.common.files import write_text
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.inspection.common import bars, check_env, check_model, check_path, check_seed, undisturbed
from sb3_attnmem.inspection.drawing import check_matplotlib, drawing
from sb3_attnmem.inspection.memory.contamination import Contaminated, contamination, words_of
from sb3_attnmem.inspection.memory.exchange import Exchanged, exchange, words_of_exchange
from sb3_attnmem.inspection.memory.figures import (
    as_json,
    contamination_figures,
    describe_agent,
    exchange_figures,
    gap_figures,
    history_figures,
    reach_figures,
    trace_figures,
)
from sb3_attnmem.inspection.memory.gaps_section import gaps_section
from sb3_attnmem.inspection.memory.history import HistoryScore
from sb3_attnmem.inspection.memory.page import as_page
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from sb3_attnmem.inspection.memory.reach import GradientReach, gradient_map, gradient_reach
from sb3_attnmem.inspection.memory.scoring import MOST_STEPS, score_with_less
from sb3_attnmem.inspection.memory.state_gap import StateGaps, state_gaps
from sb3_attnmem.inspection.memory.trace import trace_episode
from sb3_attnmem.inspection.memory.verdict import remarks, verdict
from sb3_attnmem.inspection.page.charts import charts_of
from sb3_attnmem.inspection.page.document import as_document
from sb3_attnmem.inspection.page.packing import check_pillow
from sb3_attnmem.inspection.page.writing import film_page

#: What is written
TITLE = "How far it remembers"
PAGE, PICTURES, FIGURES = "memory.html", "memory-pictures.html", "memory.json"
FORMATS = ("pictures", "player", "both")
#: Observations that the player goes back over at most
N_BACK = 128
#: Steps of all windows that gradients are taken over; of the episode that is looked at, and those whose gradients are
#: all shown; sequences for ΔQ
N_UNROLLED, N_TRACED, N_MAPPED, N_SEQUENCES = 50_000, 500, 200, 256


class MemoryReport(NamedTuple):
    """
    What was found.

    :param verdict: in plain words
    :param score: against history
    :param reach: of gradients
    :param gaps: ΔQ
    :param html: the page
    :param json: its figures
    :param contaminated: what foreign history in the memory does, by its length
    :param exchanged: which past observation later Q-values rest on; None: nothing was measured
    :param pictures: the page of pictures, where it stands beside the one that is played
    """

    verdict: str
    score: HistoryScore
    reach: GradientReach
    gaps: StateGaps
    html: Path
    json: Path
    contaminated: list[Contaminated]
    exchanged: Exchanged | None = None
    pictures: Path | None = None


def write_memory_report(
    model: RecurrentDQN,
    env: VecEnv | gym.Env,
    folder: str | Path,
    *,
    episodes: int = 50,
    seed: int = 0,
    tolerance: float = 0.05,
    max_history: int = 512,
    format: str = "pictures",
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
    :param format: of ``memory.html``: "pictures" to read, "player": the first episode is played on it, see
        :func:`~sb3_attnmem.inspection.write_episode_page`; "both": the player, and the pictures in
        ``memory-pictures.html``
    :param progress: whether to show progress bars
    :return: what was found
    :raises ValueError: when the model is no ``RecurrentDQN``, the environment does not fit or is the one that the
        model trains in, or an option is out of range
    """
    episodes, max_history = check_integers(episodes=episodes, max_history=max_history)
    tolerance = check_number("tolerance", tolerance, above=0, below=1, hint="It is a share of the return.")
    seed, progress = check_seed(seed), check_flag("progress", progress)
    check_choice("format", format, FORMATS)
    folder = check_path("folder", folder, is_folder=True)
    for name in (PAGE, PICTURES, FIGURES):
        check_path("folder", folder / name, is_folder=False)
    envs = _check_agent(model, env)
    if format != "pictures":
        check_pillow("a page")
    if format != "player":
        check_matplotlib("A memory report")
    bar = bars(progress)
    rng = np.random.default_rng(seed)
    with undisturbed(model, envs):
        with bar("full memory", episodes, "episodes") as tick:
            full = play_episodes(model, envs, FullMemory(model.q_net), episodes, seed, MOST_STEPS, tick, keep=True)
        score, n_cut = score_with_less(model, envs, full, episodes, seed, tolerance, max_history, bar)
        with bar("gradients", None, "steps") as tick:
            reach = gradient_reach(model.q_net, full.episodes, score.searched, N_UNROLLED, rng, tick)
        trace = trace_episode(model, full.episodes[0], N_TRACED)
        n_mapped = 0 if format == "player" else min(trace.n_steps, N_MAPPED)
        with bar("gradients of an episode", n_mapped, "steps") as tick:
            influence = gradient_map(model.q_net, full.episodes[0], n_mapped, score.searched, tick)
        with th.no_grad():
            gaps = state_gaps(model, envs, full.episodes, N_SEQUENCES, rng)
        contaminated = contamination(model.q_net, full.episodes, rng)
        exchanged = exchange(model.q_net, full.episodes, rng)
        played: dict[str, Any] = {}
        if format != "pictures":
            most = min(max_history, N_BACK)
            options = (None, None, 1, N_TRACED, most, seed, True, bar)
            played = film_page(model, envs, *options)[1]
    has_memory = bool(model.q_net.memory.initial_state(1))
    words, notes = verdict(score, episodes, has_memory), remarks(score, reach, episodes)
    notes += filter(None, (words_of_exchange(exchanged), words_of(contaminated)))
    if full.n_cut + n_cut:
        notes.append(f"{full.n_cut + n_cut} episodes did not end and were given up; their returns count as they were.")
    agent = describe_agent(model, envs, episodes, seed)
    figures = {
        "verdict": words,
        "remarks": notes,
        "agent": agent,
        "history": history_figures(score, tolerance, int(full.lengths.max())),
        "gradient_reach": reach_figures(reach),
        "exchange": exchange_figures(exchanged),
        "delta_q": gap_figures(gaps),
        "contamination": contamination_figures(contaminated),
        "episode": trace_figures(trace),
    }
    about = (
        f"{agent['environment']}, {agent['memory']}, {agent['parameters']:,} parameters, trained for "
        f"{agent['trained_steps']:,} steps. {episodes} greedy episodes from seed {seed}. sb3_attnmem {__version__}"
    )
    html, pictures, json = folder / PAGE, folder / PICTURES, folder / FIGURES
    if format != "player":
        page = _page(about, words, notes, score, reach, trace, influence, gaps, full.returns, contaminated, exchanged)
        write_text(html if format == "pictures" else pictures, page)
    if format != "pictures":
        played["charts"] = charts_of(score, reach, contaminated, exchanged)
        write_text(html, as_document(TITLE, about, played, words, notes, [gaps_section(gaps)]))
    write_text(json, as_json(figures))
    beside = pictures if format == "both" else None
    return MemoryReport(words, score, reach, gaps, html, json, contaminated, exchanged, beside)


def _page(about: str, words: str, notes: list[str], *found: Any) -> str:
    """:return: HTML of what was found"""
    from sb3_attnmem.inspection.memory.sections import sections_of  # needs matplotlib

    with drawing():
        return as_page(TITLE, about, words, notes, sections_of(*found))


def _check_agent(model: Any, env: Any) -> VecEnv:
    """
    Check that a report can be made of an agent.

    :param model: that should be a ``RecurrentDQN``
    :param env: that should fit it, one environment or several
    :return: the environments, images transposed as SB3 does
    :raises ValueError: when either is something else, or they do not fit, or the model trains in this environment
    """
    check_model(model)
    if not isinstance(model, RecurrentDQN):
        raise ValueError(
            f"A memory report needs a RecurrentDQN, got {type(model).__name__}. For what another model's attention "
            "looks at, use record_attention_video (sb3-attnmem inspect attention)."
        )
    return check_env(model, env)
