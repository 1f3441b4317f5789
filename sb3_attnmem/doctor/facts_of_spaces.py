"""What there is to know of an environment's observations and actions."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space

from sb3_attnmem.doctor.findings import NOTE, PROBLEM, Finding
from sb3_attnmem.doctor.playing import Play


def observations_and_actions(env: gym.Env, play: Play) -> tuple[list[Finding], dict[str, Any]]:
    """
    :param env: the environment
    :param play: episodes
    :return: what is worth saying, and all figures
    """
    found: list[Finding] = []
    figures: dict[str, Any] = {}
    space = env.observation_space
    parts: dict[str, spaces.Space] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    for key, part in parts.items():
        if not isinstance(part, spaces.Box):
            continue
        rows = np.stack([np.asarray(one[key] if key else one) for one in play.raw])
        more, numbers = _box(part, rows, f" of '{key}'" if key else "")
        found += more
        figures[key or "observation"] = numbers
    actions: Any = env.action_space
    if isinstance(actions, spaces.Discrete):
        figures["actions"] = int(actions.n)
    elif isinstance(actions, spaces.MultiDiscrete):
        figures["actions"] = int(np.prod(actions.nvec, dtype=float))
    if figures.get("actions", 0) > 64:
        found.append(
            Finding(
                "many_actions",
                NOTE,
                "There are many actions.",
                f"{figures['actions']:,} of them.",
                "Each must be tried: expect more steps; branching=True for MultiDiscrete, masks where most are "
                "invalid.",
                0.2,
            )
        )
    if play.masks is not None:
        valid = play.masks.sum(axis=1)
        figures["valid_actions"] = float(valid.mean())
        found.append(
            Finding(
                "masks",
                NOTE,
                "The environment tells which actions are valid.",
                f"{valid.mean():.1f} of {play.masks.shape[1]} on average, at least {valid.min()}.",
                "RecurrentDQN and MaskablePPO use that; DQN and PPO do not.",
            )
        )
    return found, figures


def _box(space: spaces.Box, rows: np.ndarray, of: str) -> tuple[list[Finding], dict[str, Any]]:
    found = []
    flat = rows.reshape(len(rows), -1)
    low, high = flat.min(axis=0).astype(float), flat.max(axis=0).astype(float)
    figures: dict[str, Any] = dict(
        shape=list(space.shape),
        dtype=str(space.dtype),
        low=low.min(),
        high=high.max(),
        constant=int((low == high).sum()),
    )
    if not np.isfinite(flat.astype(float)).all():
        found.append(
            Finding(
                "not_finite",
                PROBLEM,
                f"Observations{of} are not finite.",
                f"{(~np.isfinite(flat.astype(float))).sum()} numbers are NaN or infinite.",
                "Mend the environment.",
                1.0,
            )
        )
        return found, figures
    if is_image_space(space) and high.max() <= 20:
        found.append(
            Finding(
                "codes_as_image",
                PROBLEM,
                f"Observations{of} look like an image to SB3, which divides them by 255, but hold codes.",
                f"uint8 of shape {space.shape}, from {low.min():g} to {high.max():g}: divided, one is 0.004.",
                "policy_kwargs=dict(normalize_images=False).",
                0.9,
            )
        )
    if space.dtype == np.float64:
        found.append(
            Finding("float64", NOTE, f"Observations{of} are float64.", "Networks read float32.", "astype(float32).")
        )
    if flat.shape[1] > 1:
        still = int((low == high).sum())
        if (still and flat.shape[1] <= 64) or still == flat.shape[1]:
            found.append(
                Finding(
                    "constant_dimensions",
                    NOTE,
                    f"{still} of {flat.shape[1]} numbers{of} never change.",
                    f"Places {np.flatnonzero(low == high)[:8].tolist()}.",
                    "They tell nothing: leave them out.",
                    0.1,
                )
            )
        twins = _twins(flat)
        if twins:
            found.append(
                Finding(
                    "duplicate_dimensions",
                    NOTE,
                    f"Numbers{of} that say the same.",
                    f"Places {', '.join(map(str, twins[:4]))}.",
                    "Keep one of each.",
                    0.05,
                )
            )
    if space.dtype.kind == "f" and len(space.shape) == 1:
        spread = flat.std(axis=0)
        spread = spread[spread > 1e-9]
        if len(spread) and (spread.max() > 10 or spread.max() > 30 * spread.min()):
            found.append(
                Finding(
                    "not_normalised",
                    NOTE,
                    f"Numbers{of} are of very different sizes.",
                    f"Deviations from {spread.min():.2g} to {spread.max():.2g}, numbers from {low.min():.2g} to "
                    f"{high.max():.2g}.",
                    "RecurrentDQN normalises them by itself; with DQN or PPO use VecNormalize.",
                    0.2,
                )
            )
    return found, figures


def _twins(flat: np.ndarray) -> list[tuple[int, int]]:
    """:return: pairs of places that always hold the same, up to scale; of vectors of at most 64 numbers"""
    if flat.shape[1] > 64:
        return []
    varies = np.flatnonzero(flat.std(axis=0) > 1e-9)
    if len(varies) < 2:
        return []
    alike = np.abs(np.corrcoef(flat[:, varies].astype(float).T))
    pairs = np.argwhere(np.triu(alike > 1 - 1e-9, 1))
    return [(int(varies[i]), int(varies[j])) for i, j in pairs]
