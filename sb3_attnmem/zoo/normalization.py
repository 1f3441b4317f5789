"""Which observations ``VecNormalize`` can normalise, and what must have happened to them before."""

from typing import Any

from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first


def normalizable(space: spaces.Space, options: dict[str, Any]) -> dict[str, Any]:
    """
    :param space: of the observations
    :param options: of ``VecNormalize``, as the settings have them
    :return: the options, changed so that only vectors of numbers are normalised: no images, which networks scale
        themselves, no categories and no ones and zeros. Rewards are normalised all the same. Keys that the settings
        name (``norm_obs_keys``) are taken as they are
    """
    if not options.get("norm_obs", True) or options.get("norm_obs_keys") is not None:
        return options
    if isinstance(space, spaces.Dict):
        keys = [key for key, part in space.spaces.items() if _is_vector(part)]
        if len(keys) == len(space.spaces):
            return options
        return {**options, "norm_obs_keys": keys} if keys else {**options, "norm_obs": False}
    return options if _is_vector(space) else {**options, "norm_obs": False}


def has_images_to_transpose(space: spaces.Space) -> bool:
    """
    :param space: of the observations
    :return: whether there are images with their channels last, which networks get transposed
    """
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return any(
        isinstance(part, spaces.Box) and is_image_space(part) and not is_image_space_channels_first(part)
        for part in parts
    )


def _is_vector(space: spaces.Space) -> bool:
    """:return: whether the numbers of a space are amounts"""
    if not isinstance(space, spaces.Box) or is_image_space(space, check_channels=False):
        return False
    is_float = space.dtype is not None and space.dtype.kind == "f"
    return is_float or not ((space.low == 0).all() and (space.high == 1).all())  # one-hot


def stack_before_normalizing(settings: dict[str, Any]) -> None:
    """
    Stack frames with a wrapper of the settings. rl_zoo3 stacks what ``VecNormalize`` gives, but off-policy algorithms
    store what it got: observations of two shapes.

    :param settings: of an off-policy algorithm, changed in place
    """
    if settings.get("normalize") and settings.get("frame_stack"):
        stack = {"stable_baselines3.common.vec_env.VecFrameStack": {"n_stack": settings.pop("frame_stack")}}
        add_wrapper(settings, stack)


def add_wrapper(settings: dict[str, Any], wrapper: Any) -> None:
    """
    :param settings: changed in place
    :param wrapper: of ``VecEnv``s, as rl_zoo3's YAML has it; outside of those that are there, unless it is one of them
    """
    wrappers = settings.get("vec_env_wrapper") or []
    wrappers = wrappers if isinstance(wrappers, list) else [wrappers]
    if wrapper not in wrappers:
        settings["vec_env_wrapper"] = [*wrappers, wrapper]
