"""What there is to know of an environment besides memory: its manners, rewards and episodes."""

import contextlib
import io
import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from sb3_attnmem.doctor.findings import NOTE, PROBLEM, WARNING, Finding
from sb3_attnmem.doctor.playing import HELD, SEARCHED, UNIFORM, Play, SeededResets

#: what Gymnasium's checker says of every wrapper, of rendering, and of spaces that are as they should be
IGNORED = re.compile(r"unwrapped|render|infinity|not within the|spec of the environment|symmetric and normalized", re.I)
#: rewards, or returns, beyond which Q-values are large for a network that starts near 0
LARGE_RETURN = 100.0


def manners(env: gym.Env, seed: int, n_steps: int = 60) -> list[Finding]:
    """
    :param env: an environment, which is reset
    :param seed: of resets
    :param n_steps: to compare two runs over
    :return: what Gymnasium's checker says, and whether the same seed gives the same episode
    """
    found = []
    env = SeededResets(env)
    with warnings.catch_warnings(record=True) as told, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        try:
            check_env(env, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # an environment may raise anything
            words = " ".join(str(error).split()) or type(error).__name__
            found.append(
                Finding(
                    "check_env",
                    PROBLEM,
                    "The environment breaks Gymnasium's rules.",
                    f"check_env: {words[:300]}",
                    "Mend that first: nothing below can be trusted until then.",
                    1.0,
                )
            )
    said = sorted({re.sub(r"\x1b\[\d+m|WARN: ", "", str(one.message)) for one in told})
    for words in [words for words in said if not IGNORED.search(words)][:3]:
        found.append(Finding("check_env", NOTE, "Gymnasium's checker warns.", words[:300]))
    same = _same_twice(env, seed, n_steps)
    if same is False:
        found.append(
            Finding(
                "not_reproducible",
                WARNING,
                "The same seed and actions do not give the same episode.",
                f"Two runs of {n_steps} steps from reset(seed={seed}) differ.",
                "Draw from self.np_random only, if runs shall be repeated.",
                0.3,
            )
        )
    return found


def _same_twice(env: gym.Env, seed: int, n_steps: int) -> bool | None:
    runs = []
    for _ in range(2):
        env.action_space.seed(seed)
        observation, info = env.reset(seed=seed)
        if "action_mask" in info or env.has_wrapper_attr("action_masks"):
            return None  # actions drawn blindly may be invalid
        run: list[Any] = [observation]
        for _ in range(n_steps):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            run += [observation, reward, terminated]
            if terminated or truncated:
                break
        runs.append(run)
    return len(runs[0]) == len(runs[1]) and all(_equal(*pair) for pair in zip(*runs, strict=True))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return np.array_equal(one, other, equal_nan=np.asarray(one).dtype.kind == "f")


def rewards_and_episodes(play: Play, gamma: float = 0.99) -> tuple[list[Finding], dict[str, Any]]:
    """
    :param play: episodes
    :param gamma: discount of the values that are spoken of
    :return: what is worth saying, and all figures
    """
    rewards, ended = play.rewards, play.complete()
    lengths, returns = play.lengths()[ended], play.returns()[ended]
    uniform, behaviours = play.behaviours[ended] == UNIFORM, play.behaviours[ended]
    if not uniform.any():
        uniform = np.ones(len(lengths), dtype=bool)
    known = play.successes[~np.isnan(play.successes)]
    figures: dict[str, Any] = dict(
        reward_min=rewards.min(),
        reward_max=rewards.max(),
        reward_mean=rewards.mean(),
        rewarded_share=float((rewards != 0).mean()),
        return_mean=_of(np.mean, returns[uniform]),
        return_deviation=_of(np.std, returns[uniform]),
        return_min=_of(np.min, returns),
        return_max=_of(np.max, returns),
        length_min=_of(np.min, lengths),
        length_median=_of(np.median, lengths),
        length_max=_of(np.max, lengths),
        terminated_share=float(play.terminated.sum() / max(ended.sum(), 1)),
        success_share=float(known.mean()) if len(known) else None,
        episodes=int(ended.sum()),
        steps=play.n_steps,
    )
    found = []
    if not len(lengths):
        found.append(
            Finding(
                "endless",
                PROBLEM,
                "No episode ended.",
                f"{play.n_steps:,} steps were played.",
                "Give it a time limit: gymnasium.wrappers.TimeLimit.",
                0.9,
            )
        )
        return found, figures
    varied = returns.max() - returns.min() > 1e-9 * max(1.0, float(np.abs(returns).max()))
    told = f"returns of random play {figures['return_mean']:.3g} ± {figures['return_deviation']:.2g}"
    if not varied:
        found.append(
            Finding(
                "nothing_found",
                PROBLEM,
                "Nothing that was tried changes the return: there is nothing to learn from.",
                f"All {len(returns)} episodes returned {returns[0]:g}: random, held actions, a search for rare things.",
                "Hold random actions (exploration_duration=64), shape the reward, or begin from data "
                "(docs/transfer.md).",
                0.95,
            )
        )
    elif returns[uniform].max() - returns[uniform].min() <= 1e-9 * max(1.0, float(np.abs(returns).max())):
        better = {HELD: "held actions", SEARCHED: "a search for rare observations"}
        which = [word for kind, word in better.items() if np.ptp(returns[behaviours == kind]) > 0]
        found.append(
            Finding(
                "hard_to_find",
                WARNING,
                "Random play never finds a reward; " + " and ".join(which or ["others"]) + " did.",
                f"{uniform.sum()} random episodes all returned {returns[uniform][0]:g}; "
                f"the best of the {len(returns)} played returned {returns.max():g}.",
                "exploration_duration=64 holds random actions for up to 64 steps.",
                0.7,
            )
        )
    elif figures["rewarded_share"] < 0.01:
        found.append(
            Finding(
                "sparse",
                NOTE,
                "Rewards are rare.",
                f"{(rewards != 0).sum()} of {len(rewards):,} steps are rewarded; {told}.",
                "Explore for longer (exploration_fraction), and let n_steps carry rewards back.",
                0.3,
            )
        )
    reach = min(float(np.median(lengths)), 1 / (1 - gamma))
    largest = max(float(np.abs(returns).max()), float(np.abs(rewards).max()) * reach)
    if largest > LARGE_RETURN:
        found.append(
            Finding(
                "large_returns",
                NOTE,
                "Returns are large for a network.",
                f"Rewards from {rewards.min():.3g} to {rewards.max():.3g}; {told}; to {np.abs(returns).max():.3g}.",
                "RecurrentDQN divides by their deviation by itself; with DQN or PPO use VecNormalize.",
                0.2,
            )
        )
    if len(lengths) >= 10 and np.ptp(lengths) == 0 and figures["terminated_share"] > 0.99 and lengths[0] > 1:
        found.append(
            Finding(
                "fixed_length",
                NOTE,
                "Every episode ends at the same step, as terminated.",
                f"{len(lengths)} episodes of {lengths[0]} steps.",
                "If that is a time limit and not the task's own end, report truncated.",
                0.1,
            )
        )
    return found, figures


def _of(function: Any, values: np.ndarray) -> float | None:
    return float(function(values)) if len(values) else None
