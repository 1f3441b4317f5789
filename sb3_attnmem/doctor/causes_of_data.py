"""Causes in what is learned from: exploration, the replay buffer, windows, episodes."""

import math
from collections.abc import Iterator

import numpy as np

from sb3_attnmem.doctor.cause import Cause, between
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord


def exploration(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Too little, or too much at random."""
    if not record.is_q_learning or (record.setting("policy_kwargs") or {}).get("noisy"):
        return
    rates, length = record.values("rollout/exploration_rate"), record.median_length
    final, initial = record.setting("exploration_final_eps"), record.setting("exploration_initial_eps")
    ladder = float(record.setting("exploration_ladder") or 0.0)
    now = float(rates[-1]) if len(rates) else final
    if now is None:
        return
    least = now ** (1 + ladder)
    scores = record.scores
    flat = len(scores) > 5 and np.ptp(scores) < 1e-9
    if (initial is not None and initial < 0.05) or (len(rates) and rates.max() < 0.05):
        yield Cause(
            "explores_too_little",
            0.75 + 0.2 * (float(initial or 0.0) == 0.0),
            "It hardly explores.",
            f"ε began at {initial if initial is not None else rates.max():g}, is {now:g}"
            + (f", all {len(scores)} episodes returned the same" if flat else "")
            + ".",
            "exploration_initial_eps=1.0, exploration_fraction=0.1.",
            limits=max(float(initial or 0.0), float(rates.max(initial=0.0))) == 0.0,
        )
    moves = least * (length or 1.0)
    if least > 0.15 and (final is None or final ** (1 + ladder) > 0.15 or now >= 0.5):
        yield Cause(
            "explores_too_much",
            0.5 + 0.45 * between(least, 0.15, 0.6),
            "It still acts at random for much of the time.",
            f"ε is {now:.2g}"
            + (f" (the least of the ladder {least:.2g})" if ladder else "")
            + f": {moves:.1f} random moves an episode of {length or 0:.0f} steps, after {record.total_steps:,} steps.",
            "exploration_final_eps=0.05, or about 1 / (steps that must all be right); exploration_fraction=0.1.",
            # While nearly all is random, only evaluations can rise
            certain=least > 0.5 and record.total_steps > 0.9 * float(record.state.get("_total_timesteps") or math.inf),
        )


def buffer(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """A replay buffer that forgets too soon."""
    size, length = record.setting("buffer_size"), record.median_length
    if not record.is_q_learning or not size or not record.total_steps or size >= record.total_steps:
        return
    share, episodes = size / record.total_steps, size / max(length or 1.0, 1.0)
    score = max(between(0.1 / share, 1.0, 5.0) if size < 20_000 else 0.0, between(10 / episodes, 1.0, 10.0))
    if score > 0:
        yield Cause(
            "buffer_too_small",
            score,
            "The replay buffer forgets too soon.",
            f"buffer_size={size:,}: {episodes:,.0f} episodes of {length or 0:.0f} steps, {share:.1%} of all steps.",
            f"buffer_size={max(record.total_steps, 100_000):,}.",
        )


def window(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Windows that are short beside episodes."""
    if not record.is_recurrent or record.memory == "none":
        return
    length, steps, burn_in = record.median_length, record.setting("sequence_length"), record.setting("burn_in") or 0
    if length is None or steps is None:
        return
    wanted = min(length, 48.0)
    if steps + burn_in < wanted / 2:
        yield Cause(
            "window_too_short",
            0.5 + 0.4 * between(wanted / (steps + burn_in), 2.0, 8.0),
            "What happened at the beginning of an episode never lies in one window with what it leads to.",
            f"sequence_length={steps}, burn_in={burn_in}, episodes of {length:.0f} steps, state_init="
            f"{record.setting('state_init')!r}.",
            f"sequence_length={max(8 * math.ceil((min(length, 256) + 1) / 8), 64)}.",
        )


def nothing_found(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Returns that are all alike."""
    scores = record.episodes[0]
    if len(scores) >= 8 and np.ptp(scores) <= 1e-6 * max(1.0, float(np.abs(scores).max())):
        threshold = progress is not None and progress.solved
        if not threshold:
            yield Cause(
                "nothing_found",
                0.85,
                "No episode was ever better than another: no reward was found.",
                f"All {len(scores)} training episodes returned {scores[0]:g}.",
                "exploration_duration=64 (held actions), a shaped reward, or data (docs/transfer.md).",
            )


def endless(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Episodes without an end, at least for the agent."""
    monitored = len(record.episodes[0])
    counted = record.state.get("_episode_num") if record.is_q_learning else None
    # Without a log, and without Monitor, nothing tells of episodes but what the agent counted
    none_ended = bool(record.figures) if counted is None else counted == 0
    if record.total_steps > 2_000 and none_ended and monitored + len(record.values("rollout/ep_rew_mean")) == 0:
        yield Cause(
            "endless",
            0.95,
            "No episode ever ended.",
            f"{record.total_steps:,} steps, no episode.",
            "Give the environment a time limit: gymnasium.wrappers.TimeLimit.",
        )
    # What the agent counted: Monitor sits inside other wrappers, and may see ends that these keep to themselves
    elif counted == 0 and monitored >= 5:
        yield Cause(
            "endless",
            0.95,
            "No episode ever ended for the agent: a wrapper around Monitor hides the ends.",
            f"Monitor wrote down {monitored:,} episodes in {record.total_steps:,} steps, the agent counted none.",
            "Let the outermost wrapper give terminated and truncated as the environment does.",
            certain=True,
        )
