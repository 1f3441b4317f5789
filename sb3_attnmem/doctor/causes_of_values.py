"""Causes in what is learned: sizes of rewards, values and observations, and the discount."""

from collections.abc import Iterator

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.doctor.cause import Cause, between, told, updates_made
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord


def value_scale(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Values that are far from where a network begins."""
    if "reward" in record.normalizes or not (record.is_q_learning or record.is_actor_critic):
        return
    if record.is_recurrent and (record.setting("normalize_returns") or record.setting("value_rescaling")):
        return
    returns, length = np.abs(record.scores), record.median_length or 1.0
    if not len(returns):
        return
    gamma = float(record.setting("gamma") or 0.99)
    reach = min(length, 1 / max(1 - gamma, 1e-3))
    value = float(np.median(returns)) / length * reach if length else 0.0
    if record.stored is not None:  # what the agent was given, whatever Monitor wrote down below other wrappers
        value = float(np.abs(record.stored.rewards).mean()) * reach
    value = max(value, abs(record.last("train/q_mean") or 0.0), record.last("train/td_error") or 0.0)
    if record.algo == "dqn":  # whose Huber loss is the absolute error, once that is large
        value = max(value, record.last("train/loss") or 0.0)
    if record.is_actor_critic:  # whose value loss is the squared error
        value = max(value, (record.last("train/value_loss") or 0.0) ** 0.5)
    # Adam moves an output by about the learning rate times the width of the last layer at each update
    rate, made = record.setting("learning_rate", at=0.5), updates_made(record) if record.is_q_learning else 100.0
    slow = isinstance(rate, float) and made is not None and value > 64 * rate * made
    score = between(value, 30.0, 300.0) if not slow else max(0.6, between(value, 30.0, 300.0))
    if value > 30:
        yield Cause(
            "values_too_large",
            score,
            "Values are too large for a network that begins near 0.",
            f"Values of about {value:,.3g}"
            + told(record, "train/q_mean", "train/td_error", "train/loss", "train/value_loss")
            + "; nothing scales rewards.",
            "normalize_returns=True." if record.is_recurrent else "VecNormalize(env, norm_obs=False).",
        )


def q_beyond_bound(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Values that no return can have."""
    q = record.last("train/q_mean")
    gamma = record.setting("gamma")
    returns, lengths = record.episodes
    if q is None or gamma is None or not len(returns) or record.normalizes:
        return
    per_step = np.abs(returns / np.maximum(lengths, 1))
    bound = max(float(np.abs(returns).max()), float(per_step.max()) / max(1 - gamma, 1e-6) if gamma < 1 else 0.0)
    if abs(q) > 2 * bound + 1:
        yield Cause(
            "values_diverge",
            0.5 + 0.5 * between(abs(q) / (bound + 1), 2.0, 20.0),
            "Q-values have left what is possible.",
            f"train/q_mean {q:,.3g}; no return exceeds {bound:,.3g}.",
            "A smaller learning rate, and tau=0.005 an update.",
        )


def discount(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Too short a view, or an endless one."""
    gamma, length, returns = record.setting("gamma"), record.median_length, record.scores
    if gamma is None or length is None or length < 5:
        return
    horizon = 1 / max(1 - gamma, 1e-9)
    if gamma >= 1 and length > 100:
        yield Cause(
            "gamma_one",
            0.55,
            "Nothing discounts: values of endless play have no bound.",
            f"gamma={gamma:g}, episodes of {length:.0f} steps.",
            "gamma=0.99.",
        )
    if (horizon < min(length, 100) / 4 and gamma > 0) or (gamma == 0 and len(np.unique(np.round(returns, 6))) <= 12):
        yield Cause(
            "gamma_too_small",
            0.5 + 0.4 * between(min(length, 100) / horizon, 4.0, 20.0),
            "It looks ahead only a few steps.",
            f"gamma={gamma:g} reaches {horizon:.1f} steps ahead, episodes have {length:.0f}.",
            "gamma=0.99 (where actions change nothing, a small one loses nothing).",
        )


def spaces_of(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    """Codes that SB3 takes for pictures."""
    space = record.state.get("observation_space")
    options = record.setting("policy_kwargs") or {}
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if not isinstance(part, spaces.Box) or not options.get("normalize_images", True):
            continue
        if is_image_space(part) and sorted(part.shape)[-2] < 20:  # channels come first, or last
            yield Cause(
                "codes_as_image",
                0.9,
                "Observations are divided by 255 as if they were pictures.",
                f"uint8 of shape {part.shape}: too small for a picture. Codes? Divided, a change of one is 0.004.",
                "policy_kwargs=dict(normalize_images=False).",
            )
            return
