"""Causes in the updates: how many, how large, and towards what."""

import math
from collections.abc import Iterator

from sb3_attnmem.doctor.cause import Cause, between, per_update, told, updates_made
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord


def no_updates(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Warm-up is not over."""
    starts = record.setting("learning_starts")
    if record.is_q_learning and starts is not None and record.total_steps and record.total_steps <= starts:
        yield Cause(
            "no_updates",
            1.0,
            "Nothing has been learned yet: warm-up is not over.",
            f"{record.total_steps:,} steps were made, learning_starts={starts:,}.",
            f"learning_starts={min(1_000, max(record.total_steps // 10, 1)):,}.",
        )


def few_updates(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """A low replay ratio, or few updates at all."""
    every, batch = per_update(record), record.setting("batch_size")
    if (
        not record.is_q_learning
        or every is None
        or not batch
        or record.total_steps <= (record.setting("learning_starts") or 0)
    ):
        return
    learned = batch * (record.setting("sequence_length") or 1)
    ratio = record.last("train/replay_ratio") or learned / every
    made = updates_made(record) or 0.0
    score = max(between(4.5 / max(ratio, 1e-9), 1.0, 4.0), 0.9 * between(100 / max(made, 1e-9), 1.0, 4.0))
    if score > 0:
        yield Cause(
            "few_updates",
            score,
            "Too few updates for the steps made.",
            f"{made:,.0f} updates so far, one every {every:,.0f} steps; each transition is learned from {ratio:.2g} "
            "times (replay ratio; 16 to 64 learns well, 4 did not).",
            f"train_freq=({max(int(learned // 32), 1)}, 'transition')."
            if record.is_recurrent
            else "train_freq=4, or gradient_steps=-1.",
        )


def target_network(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Targets that hardly move, or move at once."""
    tau, interval = record.setting("tau"), record.setting("target_update_interval")
    made, every = updates_made(record), per_update(record)
    if not record.is_q_learning or tau is None or not interval or not made or not every:
        return
    in_steps = record.setting("target_update_unit") != "updates"  # as SB3's DQN counts
    copies = record.total_steps / interval if in_steps else made / interval
    a_update = tau * (every / interval if in_steps else 1 / interval)  # of the way, an update
    # A soft update moves a share of the way: 1 / tau of them are about a copy
    if made > 50 and copies * tau < min(15, made / 200):
        yield Cause(
            "target_rarely_copied",
            max(0.5, between(15 / max(copies * tau, 0.05), 1.0, 6.0)),
            "The target network is hardly ever updated: value travels one copy at a time.",
            f"{copies:,.1f} updates of the target with tau={tau:g}: the worth of {copies * tau:.1f} copies in "
            f"{record.total_steps:,} steps, {made:,.0f} updates.",
            "tau=0.02 with target_update_interval=1 (updates)."
            if record.is_recurrent
            else f"target_update_interval={max(record.total_steps // 200, 1):,}.",
        )
    elif a_update > 0.25:
        yield Cause(
            "target_follows",
            0.5 + 0.4 * between(a_update, 0.25, 1.0),
            "The target network follows the online network at once: it is no target.",
            f"tau={tau:g}, target_update_interval={interval:g}: {min(a_update, 1):.0%} of the way at each update.",
            "tau=0.02 an update.",
        )


def learning_rate(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Rates that nobody uses."""
    start, now = record.setting("learning_rate", at=1.0), record.last("train/learning_rate", 1.0)
    if not isinstance(start, (int, float)):
        start = now
    if start is None:
        return
    if start < 1e-5:
        yield Cause(
            "rate_too_small",
            0.6 + 0.4 * between(1e-5 / max(start, 1e-12), 1.0, 100.0),
            "The learning rate is so small that nothing moves.",
            f"learning_rate={start:.2g}.",
            "learning_rate=1e-3, falling.",
            certain=start <= 1e-7,
        )
    if start > 5e-3:
        yield Cause(
            "rate_too_large",
            0.55 + 0.45 * between(start, 5e-3, 5e-2),
            "The learning rate is too large for Adam.",
            f"learning_rate={start:.2g}" + told(record, "train/grad_norm", "train/q_mean", "train/loss") + ".",
            "learning_rate=1e-3 (DQN, RecurrentDQN), 3e-4 (PPO).",
        )


def clipping(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Gradients far above what they are clipped at."""
    norm, limit = record.last("train/grad_norm"), record.setting("max_grad_norm")
    if norm is None or not limit or not math.isfinite(limit):
        return
    if norm > 30 * limit:
        # Large values have large gradients: then the values come first
        large = (record.last("train/td_error") or 0.0) > 30
        yield Cause(
            "gradient_clipped",
            0.5 if large else 0.5 + 0.4 * between(norm / limit, 30.0, 1_000.0),
            "Every gradient is cut down.",
            f"train/grad_norm {norm:.3g}, max_grad_norm={limit:g}.",
            "max_grad_norm=10." if limit < 1 else "Scale rewards (normalize_returns=True), then look again.",
        )


def policy_gradient(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Figures that PPO and its kin write."""
    if not record.is_actor_critic:
        return
    kl, clipped = record.last("train/approx_kl"), record.last("train/clip_fraction")
    entropy = record.values("train/entropy_loss")
    if kl is not None and clipped is not None and (kl > 0.06 or clipped > 0.5):
        yield Cause(
            "steps_too_large",
            0.5 + 0.4 * max(between(kl, 0.06, 0.6), between(clipped, 0.5, 0.9)),
            "Each update changes the policy too much.",
            f"train/approx_kl {kl:.3g}, train/clip_fraction {clipped:.2g}.",
            "A third of the learning rate, or fewer n_epochs.",
        )
    if kl is not None and kl < 2e-5 and progress is not None:
        yield Cause(
            "policy_stands_still",
            0.7,
            "Updates hardly change the policy.",
            f"train/approx_kl {kl:.2g}.",
            "A larger learning rate (3e-4); more n_epochs.",
        )
    if len(entropy) > 3 and abs(entropy[-1]) < 0.02 * max(abs(entropy[0]), 1e-9):
        yield Cause(
            "policy_collapsed",
            0.7,
            "The policy has become certain and no longer explores.",
            f"train/entropy_loss from {entropy[0]:.2g} to {entropy[-1]:.2g}.",
            "ent_coef=0.01.",
        )
