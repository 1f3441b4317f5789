"""Causes in what a saved replay buffer holds, and in the states that its sequences begin from."""

from collections.abc import Iterator

import gymnasium as gym
import numpy as np

from sb3_attnmem.doctor.cause import Cause, between
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord

#: share of transitions that must tell something; transitions from which on that can be judged
TELLING, ENOUGH = 1e-3, 1_000
#: ΔQ at the last learning step from which on states are too stale: a stored state without burn-in, on a task that was
#: solved all the same, had 0.018 (docs/replay.md)
STALE = 0.25


def rewards_rare(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Transitions of which hardly one tells good from bad."""
    stored = record.stored
    if stored is None or len(stored.rewards) < ENOUGH:
        return
    values, counts = np.unique(np.round(stored.rewards, 6), return_counts=True)
    rewarded = len(stored.rewards) - int(counts.max())
    telling = rewarded + int(stored.terminated.sum())
    share = telling / len(stored.rewards)
    if share >= TELLING:
        return
    yield Cause(
        "rewards_rare",
        0.5 + 0.4 * between(TELLING / max(share, 1e-9), 1.0, 10.0),
        "Almost nothing in the replay buffer tells good from bad.",
        f"Of {len(stored.rewards):,} stored transitions {rewarded:,} have another reward than "
        f"{values[counts.argmax()]:g}, and {int(stored.terminated.sum()):,} end an episode.",
        "replay_buffer_class=PrioritizedSequenceReplayBuffer, exploration_duration=64 (held actions)."
        if record.is_recurrent
        else "Longer exploration (exploration_fraction=0.5), a shaped reward, or data.",
    )


def limit_as_end(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Time limits that are stored as terminations: then the last steps are worth nothing, and nothing tells why."""
    stored, spec = record.stored, gym.registry.get(record.env_id)
    limit = None if spec is None else spec.max_episode_steps
    if stored is None or limit is None or not stored.whole.any():
        return
    lengths, terminated = stored.lengths[stored.whole], stored.terminated[stored.whole]
    if len(np.unique(lengths)) == 1:
        return  # it may be the task that ends there
    at_limit = lengths == limit
    ends = int((at_limit & terminated).sum())
    if ends >= 3 and ends > int((at_limit & ~terminated).sum()):
        yield Cause(
            "limit_as_end",
            0.7,
            "Time limits are stored as if the episode had ended by itself: nothing bootstraps there.",
            f"{ends} of {int(at_limit.sum())} whole episodes in the replay buffer that last as long as the limit of "
            f"{limit} steps are stored as terminated.",
            "Return truncated=True, not terminated, at a time limit; handle_timeout_termination=True.",
            certain=True,
        )


def windows_empty(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Windows that reach beyond what is stored."""
    stored = record.stored
    padding = None if stored is None else stored.padding
    if padding is None:
        padding = record.last("train/padded_share")
    if padding is None or padding < 0.3 or not record.is_recurrent:
        return
    room = "" if stored is None else f", room for {stored.room:,} steps of each environment"
    yield Cause(
        "windows_empty",
        0.5 + 0.4 * between(padding, 0.3, 0.6),
        "Windows reach beyond what the replay buffer holds.",
        f"{padding:.0%} of their steps are padding: sequence_length={record.setting('sequence_length')}, "
        f"buffer_size={record.setting('buffer_size'):,}{room}.",
        "A buffer_size of 100 windows and more for each environment, or a shorter sequence_length.",
    )


def stale_states(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """States that sequences begin from and that put the Q-values out up to their last step."""
    told = record.staleness
    if told is None:
        first, last = record.last("train/delta_q_first"), record.last("train/delta_q_last")
        told = None if first is None or last is None else (first, last)
    if told is None or told[1] < STALE:
        return
    yield Cause(
        "states_stale",
        0.5 + 0.4 * between(told[1], STALE, 4 * STALE),
        "The states that replayed sequences begin from put their Q-values out to the last step.",
        f"ΔQ {told[0]:.2f} at the first, {told[1]:.2f} at the last learning step, state_init="
        f"{record.setting('state_init')!r}, burn_in={record.setting('burn_in')}.",
        "refresh_states=True with state_init='stored'; a burn_in of a quarter of sequence_length.",
    )
