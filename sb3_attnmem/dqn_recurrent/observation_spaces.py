"""Which observation spaces RecurrentDQN reads, and what a policy's name says of them."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_attnmem.extractors import extractors_for

READABLE = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
#: pixels a side below which SB3's ``NatureCNN`` cannot be built
NATURE_SIDE = 36


def check_observation_space(space: spaces.Space) -> None:
    """
    :param space: of an environment's observations, before it is wrapped
    :raises ValueError: when it cannot be learned from
    """
    parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
    for key, part in parts.items():
        where = f"The key {key!r} of the observation space" if key else "The observation space"
        if isinstance(part, spaces.Tuple) or (key and isinstance(part, spaces.Dict)):
            raise ValueError(
                f"{where} is a {type(part).__name__}: {part}. SB3 reads a Dict of arrays at most: wrap the environment "
                "with gymnasium.wrappers.FlattenObservation, or with one that gives a Dict without nesting."
            )
        if not isinstance(part, (*READABLE, spaces.Dict)):
            others = [other for other in parts if other != key and isinstance(parts[other], READABLE)]
            hint = f"Leave it out: gymnasium.wrappers.FilterObservation(env, {others}). " if others else ""
            if "image" in others:
                hint += "For MiniGrid's image alone: minigrid.wrappers.ImgObsWrapper(env). "
            raise ValueError(
                f"{where} is a {type(part).__name__}, which no network reads: {part}. {hint}"
                f"It reads {', '.join(kind.__name__ for kind in READABLE)}, and a Dict of them."
            )
        start = np.asarray(getattr(part, "start", 0))
        if start.any():
            raise ValueError(
                f"{where} does not start at 0: {part}. SB3 counts from 0: wrap the environment with "
                "gymnasium.wrappers.TransformObservation, which subtracts the start."
            )
        if isinstance(part, spaces.MultiDiscrete) and part.nvec.ndim != 1:
            raise ValueError(
                f"{where} is a MultiDiscrete of shape {part.nvec.shape}: {part}. SB3 reads one dimension: wrap the "
                "environment with gymnasium.wrappers.FlattenObservation, or TransformObservation, which flattens it."
            )


def check_image_sizes(space: spaces.Space, policy_kwargs: dict[str, Any]) -> None:
    """
    :param space: that the policy sees, channels first
    :param policy_kwargs: that the user gave
    :raises ValueError: when SB3's own network for images would be chosen, and an image is too small for it
    """
    if "features_extractor_class" in policy_kwargs:
        return
    for part in space.spaces.values() if isinstance(space, spaces.Dict) else [space]:
        if _is_image(part, policy_kwargs) and min(part.shape[1:]) < NATURE_SIDE:  # type: ignore[index]
            fitting = extractors_for(space, not policy_kwargs.get("normalize_images", True))
            hint = f" Pass policy_kwargs=dict(features_extractor_class={fitting[0]!r})" if fitting else ""
            hint += f"; these fit as well: {fitting[1:]}" if fitting[1:] else ""
            raise ValueError(
                f"Images of {part.shape[1]}×{part.shape[2]} pixels are too small for SB3's NatureCNN, which takes "  # type: ignore[index]
                f"{NATURE_SIDE} a side.{hint}{'.' if hint else ''}"
            )


def check_policy_name(policy: str | type, space: spaces.Space, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Let the policy's name mean what it means in SB3, although one class serves all.

    :param policy: name or class
    :param space: observation space
    :param policy_kwargs: that the user gave
    :return: the policy's keyword arguments
    :raises ValueError: when the name means other observations
    """
    if not isinstance(policy, str):
        return policy_kwargs
    if isinstance(space, spaces.Dict) != policy.startswith("MultiInput"):
        wanted = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy or CnnPolicy"
        raise ValueError(f"You must use {wanted} with the observation space {space}, not {policy}.")
    if "features_extractor_class" in policy_kwargs:
        return policy_kwargs
    is_image = _is_image(space, policy_kwargs)
    if policy.startswith("Cnn") and not is_image:
        raise ValueError(
            f"{policy} wants images (uint8 from 0 to 255 with three axes, one of them for any number of channels; or "
            f"policy_kwargs=dict(normalize_images=False)), but the observation space is {space}. Use MlpPolicy, "
            "or pass a features_extractor_class."
        )
    if policy.startswith("Mlp") and is_image:
        return {**policy_kwargs, "features_extractor_class": FlattenExtractor}
    return policy_kwargs


def _is_image(space: spaces.Space, policy_kwargs: dict[str, Any]) -> bool:
    return is_image_space(space, normalized_image=not policy_kwargs.get("normalize_images", True))
