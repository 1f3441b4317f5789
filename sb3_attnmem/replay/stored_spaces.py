"""How observations of a space are stored."""

from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape


def spaces_of(space: spaces.Space) -> spaces.Space | dict[str, spaces.Space]:
    """
    Take a Dict space apart.

    :param space: of observations
    :return: the space, or those of its keys
    """
    return dict(space.spaces) if isinstance(space, spaces.Dict) else space


def stored_shape(space: spaces.Space) -> tuple[int, ...]:
    """
    Find the shape in which an observation is stored.

    :param space: of arrays
    :return: the shape in which one is stored
    """
    # SB3 tells the shape of a MultiDiscrete space by the length of its first axis alone
    return space.shape if isinstance(space, spaces.MultiDiscrete) else get_obs_shape(space)  # type: ignore[return-value]
