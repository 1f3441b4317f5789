"""What keeps agents from learning: each cause with the figures that give it away, and the one change to try first."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord


class Cause(NamedTuple):
    """
    :param name: short and fixed
    :param score: from 0 to 1; from 0.5 on it is an illness
    :param title: a sentence
    :param evidence: the figures
    :param advice: the change to try first
    """

    name: str
    score: float
    title: str
    evidence: str
    advice: str


Look = Callable[[RunRecord, "Progress | None"], Iterator[Cause]]


def _between(value: float, low: float, high: float) -> float:
    """:return: 0 at ``low``, 1 at ``high``, in between on a logarithmic scale"""
    if value <= 0 or low <= 0:
        return float(value >= high)
    return min(max(math.log(value / low) / math.log(high / low), 0.0), 1.0)


def per_update(record: RunRecord) -> float | None:
    """
    :param record: of a run of Q-learning
    :return: environment steps from one gradient step to the next
    """
    frequency = record.setting("train_freq")
    steps, unit = frequency if isinstance(frequency, (tuple, list)) and len(frequency) == 2 else (frequency, "step")
    gradient_steps = record.setting("gradient_steps") or 1
    if not isinstance(steps, (int, float)):
        return None
    if unit == "episode":
        steps = steps * (record.median_length or 1)
    elif unit == "step":
        steps = steps * int(record.state.get("n_envs", record.settings.get("n_envs", 1)) or 1)
    return 1.0 if gradient_steps < 0 else float(steps) / gradient_steps


def updates_made(record: RunRecord) -> float | None:
    """
    :param record: of a run of Q-learning
    :return: gradient steps so far
    """
    told = [*record.values("train/n_updates"), record.state.get("_n_updates", 0)]
    if max(told) > 0:
        return float(max(told))
    every = per_update(record)
    starts = float(record.setting("learning_starts") or 0)
    return None if every is None else max(record.total_steps - starts, 0.0) / every


def no_updates(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
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
    score = max(_between(4.5 / max(ratio, 1e-9), 1.0, 4.0), 0.9 * _between(100 / max(made, 1e-9), 1.0, 4.0))
    if score > 0:
        yield Cause(
            "few_updates",
            score,
            "Too few updates for the steps made.",
            f"{made:,.0f} updates so far, one every {every:,.0f} steps; each transition is learned from {ratio:.2g} times "
            "(replay ratio; 16 to 64 learns well, 4 did not).",
            f"train_freq=({max(int(learned // 32), 1)}, 'transition')."
            if record.is_recurrent
            else "train_freq=4, or gradient_steps=-1.",
        )


def target_network(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    tau, interval = record.setting("tau"), record.setting("target_update_interval")
    made, every = updates_made(record), per_update(record)
    if not record.is_q_learning or tau is None or not interval or not made or not every:
        return
    in_steps = record.setting("target_update_unit") != "updates"  # as SB3's DQN counts
    copies = record.total_steps / interval if in_steps else made / interval
    a_update = tau * (every / interval if in_steps else 1 / interval)  # of the way, an update
    # A soft update moves a share of the way: 1 / tau of them are about a copy
    if copies * tau < 15 and made > 50:
        yield Cause(
            "target_rarely_copied",
            max(0.5, _between(15 / max(copies * tau, 0.05), 1.0, 6.0)),
            "The target network is hardly ever updated: value travels one copy at a time.",
            f"{copies:,.1f} updates of the target with tau={tau:g}: the worth of {copies * tau:.1f} copies in {record.total_steps:,} "
            f"steps, {made:,.0f} updates.",
            "tau=0.02 with target_update_interval=1 (updates)."
            if record.is_recurrent
            else f"target_update_interval={max(record.total_steps // 200, 1):,}.",
        )
    elif a_update > 0.25:
        yield Cause(
            "target_follows",
            0.5 + 0.4 * _between(a_update, 0.25, 1.0),
            "The target network follows the online network at once: it is no target.",
            f"tau={tau:g}, target_update_interval={interval:g}: {min(a_update, 1):.0%} of the way at each update.",
            "tau=0.02 an update.",
        )


def learning_rate(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    start, now = record.setting("learning_rate", at=1.0), record.last("train/learning_rate", 1.0)
    if not isinstance(start, (int, float)):
        start = now
    if start is None:
        return
    if start < 1e-5:
        yield Cause(
            "rate_too_small",
            0.6 + 0.4 * _between(1e-5 / max(start, 1e-12), 1.0, 100.0),
            "The learning rate is so small that nothing moves.",
            f"learning_rate={start:.2g}.",
            "learning_rate=1e-3, falling.",
        )
    if start > 5e-3:
        yield Cause(
            "rate_too_large",
            0.55 + 0.45 * _between(start, 5e-3, 5e-2),
            "The learning rate is too large for Adam.",
            f"learning_rate={start:.2g}" + _told(record, "train/grad_norm", "train/q_mean", "train/loss") + ".",
            "learning_rate=1e-3 (DQN, RecurrentDQN), 3e-4 (PPO).",
        )


def _told(record: RunRecord, *names: str) -> str:
    pairs = [(name, record.last(name)) for name in names]
    return "".join(f", {name} {value:.3g}" for name, value in pairs if value is not None)


def value_scale(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    if "reward" in record.normalizes or (not record.is_q_learning and record.algo != "ppo"):
        return
    if record.is_recurrent and (record.setting("normalize_returns") or record.setting("value_rescaling")):
        return
    returns, length = np.abs(record.scores), record.median_length or 1.0
    if not len(returns):
        return
    gamma = float(record.setting("gamma") or 0.99)
    reach = min(length, 1 / max(1 - gamma, 1e-3))
    value = float(np.median(returns)) / length * reach if length else 0.0
    value = max(value, abs(record.last("train/q_mean") or 0.0))
    # Adam moves an output by about the learning rate times the width of the last layer at each update
    rate, made = record.setting("learning_rate", at=0.5), updates_made(record) if record.is_q_learning else 100.0
    slow = isinstance(rate, float) and made is not None and value > 64 * rate * made
    score = _between(value, 30.0, 300.0) if not slow else max(0.6, _between(value, 30.0, 300.0))
    if value > 30:
        yield Cause(
            "values_too_large",
            score,
            "Values are too large for a network that begins near 0.",
            f"Values of about {value:,.3g}"
            + _told(record, "train/q_mean", "train/td_error", "train/loss", "train/value_loss")
            + "; nothing scales rewards.",
            "normalize_returns=True." if record.is_recurrent else "VecNormalize(env, norm_obs=False).",
        )


def q_beyond_bound(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
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
            0.5 + 0.5 * _between(abs(q) / (bound + 1), 2.0, 20.0),
            "Q-values have left what is possible.",
            f"train/q_mean {q:,.3g}; no return exceeds {bound:,.3g}.",
            "A smaller learning rate, and tau=0.005 an update.",
        )


def exploration(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
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
        )
    moves = least * (length or 1.0)
    if least > 0.15 and (final is None or final ** (1 + ladder) > 0.15 or now >= 0.5):
        yield Cause(
            "explores_too_much",
            0.5 + 0.45 * _between(least, 0.15, 0.6),
            "It still acts at random for much of the time.",
            f"ε is {now:.2g}"
            + (f" (the least of the ladder {least:.2g})" if ladder else "")
            + f": {moves:.1f} random moves an episode of {length or 0:.0f} steps, after {record.total_steps:,} steps.",
            "exploration_final_eps=0.05, or about 1 / (steps that must all be right); exploration_fraction=0.1.",
        )


def discount(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
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
            0.5 + 0.4 * _between(min(length, 100) / horizon, 4.0, 20.0),
            "It looks ahead only a few steps.",
            f"gamma={gamma:g} reaches {horizon:.1f} steps ahead, episodes have {length:.0f}.",
            "gamma=0.99 (where actions change nothing, a small one loses nothing).",
        )


def buffer(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    size, length = record.setting("buffer_size"), record.median_length
    if not record.is_q_learning or not size or not record.total_steps or size >= record.total_steps:
        return
    share, episodes = size / record.total_steps, size / max(length or 1.0, 1.0)
    score = max(_between(0.1 / share, 1.0, 5.0) if size < 20_000 else 0.0, _between(10 / episodes, 1.0, 10.0))
    if score > 0:
        yield Cause(
            "buffer_too_small",
            score,
            "The replay buffer forgets too soon.",
            f"buffer_size={size:,}: {episodes:,.0f} episodes of {length or 0:.0f} steps, {share:.1%} of the steps made.",
            f"buffer_size={max(record.total_steps, 100_000):,}.",
        )


def clipping(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    norm, limit = record.last("train/grad_norm"), record.setting("max_grad_norm")
    if norm is None or not limit or not math.isfinite(limit):
        return
    if norm > 30 * limit:
        yield Cause(
            "gradient_clipped",
            0.5 + 0.4 * _between(norm / limit, 30.0, 1_000.0),
            "Every gradient is cut down.",
            f"train/grad_norm {norm:.3g}, max_grad_norm={limit:g}.",
            "max_grad_norm=10." if limit < 1 else "Scale rewards (normalize_returns=True), then look again.",
        )


def window(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    if not record.is_recurrent or (record.setting("policy_kwargs") or {}).get("memory_class") == "none":
        return
    length, steps, burn_in = record.median_length, record.setting("sequence_length"), record.setting("burn_in") or 0
    if length is None or steps is None:
        return
    wanted = min(length, 48.0)
    if steps + burn_in < wanted / 2:
        yield Cause(
            "window_too_short",
            0.5 + 0.4 * _between(wanted / (steps + burn_in), 2.0, 8.0),
            "What happened at the beginning of an episode never lies in one window with what it leads to.",
            f"sequence_length={steps}, burn_in={burn_in}, episodes of {length:.0f} steps, state_init="
            f"{record.setting('state_init')!r}.",
            f"sequence_length={max(8 * math.ceil((min(length, 256) + 1) / 8), 64)}.",
        )


def spaces_of(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    space = record.state.get("observation_space")
    options = record.setting("policy_kwargs") or {}
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    for part in parts:
        if not isinstance(part, spaces.Box) or not options.get("normalize_images", True):
            continue
        if is_image_space(part) and (min(part.shape[:2]) < 20 if part.shape[-1] < part.shape[0] + 20 else False):
            yield Cause(
                "codes_as_image",
                0.9,
                "Observations are divided by 255 as if they were pictures.",
                f"uint8 of shape {part.shape}: too small for a picture, so probably codes; divided, a change of one is 0.004.",
                "policy_kwargs=dict(normalize_images=False).",
            )
            return


def nothing_found(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
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
    ended = len(record.episodes[0]) + len(record.values("rollout/ep_rew_mean"))
    if record.total_steps > 2_000 and ended == 0:
        yield Cause(
            "endless",
            0.95,
            "No episode ever ended.",
            f"{record.total_steps:,} steps, no episode.",
            "Give the environment a time limit: gymnasium.wrappers.TimeLimit.",
        )


def evaluation(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    if record.evaluations is None or progress is None or len(record.scores) < 20:
        return
    evaluated = float(np.mean(record.evaluations[1][-3:]))
    training = record.scores[-max(len(record.scores) // 5, 5) :]
    moved = progress.last - progress.first
    fell = training.mean() - evaluated
    if moved > 0 and progress.gain > 1.0 and fell > 0.6 * moved and fell > 1.5 * training.std():
        yield Cause(
            "evaluation_differs",
            0.9,
            "Evaluation is far worse than training: it does not see the same environment.",
            f"The last evaluations scored {evaluated:.3g}, training {training.mean():.3g} (with exploration), it began at "
            f"{progress.first:.3g}.",
            "Wrap the evaluation environment as the training's: the same wrappers, VecNormalize(training=False, "
            "norm_reward=False) with its statistics.",
        )


def policy_gradient(record: RunRecord, progress: Progress | None) -> Iterator[Cause]:
    if record.algo != "ppo":
        return
    kl, clipped = record.last("train/approx_kl"), record.last("train/clip_fraction")
    entropy = record.values("train/entropy_loss")
    if kl is not None and clipped is not None and (kl > 0.06 or clipped > 0.5):
        yield Cause(
            "steps_too_large",
            0.5 + 0.4 * max(_between(kl, 0.06, 0.6), _between(clipped, 0.5, 0.9)),
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


LOOKS: tuple[Look, ...] = (
    no_updates,
    few_updates,
    target_network,
    learning_rate,
    value_scale,
    q_beyond_bound,
    exploration,
    discount,
    buffer,
    clipping,
    window,
    spaces_of,
    nothing_found,
    endless,
    evaluation,
    policy_gradient,
)
