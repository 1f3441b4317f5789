"""Flickering observations: the classic way to make a game partially observable."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from sb3_attnmem.common.checks import check_integer, check_number

# Added to the seed of ``reset`` so that the tosses are independent of the environment's own draws from that seed.
_STREAM = 0xF11C


class FlickerWrapper(gym.ObservationWrapper, RecordConstructorArgs):
    """
    With probability p, blank the observation to zeros: the flickering games of Hausknecht & Stone (2015), "Deep
    Recurrent Q-Learning for Partially Observable MDPs", https://arxiv.org/abs/1507.06527.

    One toss a step, the first step of an episode included, from a generator of its own that ``reset(seed=…)`` seeds.
    In a Dict, all Box entries go blank together and other entries stay. Where zero lies outside the bounds of a Box,
    they are widened to hold it. Wrap what must stay visible around this one:
    ``PreviousActionReward(FlickerWrapper(env))``.

    :param env: Environment with a Box observation space, or a Dict with at least one Box
    :param p: Probability that a step is blanked, in [0, 1)
    :raises ValueError: if p is outside [0, 1), or if there is no Box to blank
    """

    def __init__(self, env: gym.Env, p: float = 0.5) -> None:
        p = check_number("p", p, least=0, below=1, hint="It is a probability in [0, 1); the paper's is 0.5.")
        RecordConstructorArgs.__init__(self, p=p)
        gym.ObservationWrapper.__init__(self, env)
        self.p = p
        self._rng = np.random.default_rng()

        space = env.observation_space
        if isinstance(space, spaces.Box):
            self.observation_space = _with_zero(space)
        elif isinstance(space, spaces.Dict) and any(isinstance(part, spaces.Box) for part in space.values()):
            self.observation_space = spaces.Dict(
                {key: _with_zero(part) if isinstance(part, spaces.Box) else part for key, part in space.items()}
            )
        else:
            raise ValueError(
                f"FlickerWrapper blanks Box observations (or the Box entries of a Dict), got {space}. "
                "Turn the observation into a Box first, e.g. with gymnasium.wrappers.FlattenObservation."
            )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._rng = np.random.default_rng([seed, _STREAM])
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        if self._rng.random() >= self.p:
            return observation
        if isinstance(self.observation_space, spaces.Dict):
            parts = self.observation_space.spaces
            return {
                key: np.zeros_like(value) if isinstance(parts[key], spaces.Box) else value
                for key, value in observation.items()
            }
        return np.zeros_like(observation)


def _with_zero(space: spaces.Box) -> spaces.Box:
    if np.all(space.low <= 0) and np.all(space.high >= 0):
        return space
    return spaces.Box(np.minimum(space.low, 0), np.maximum(space.high, 0), dtype=space.dtype.type)


def flickering_pong(p: float = 0.5, screen_size: int = 84, **kwargs: Any) -> FlickerWrapper:
    """
    ``FlickeringPong-v0``: 84×84 grey frames of ``PongNoFrameskip-v4``, four to a step (SB3's ``AtariWrapper``), half of
    them blank.

    :param p: probability that a frame is blank
    :param screen_size: pixels on a side
    :param kwargs: of Atari's environment, as ``render_mode``
    :raises ValueError: for a ``screen_size`` that is no positive integer, or a ``p`` outside [0, 1]
    """
    check_integer("screen_size", screen_size, 1)
    import ale_py
    from stable_baselines3.common.atari_wrappers import AtariWrapper

    gym.register_envs(ale_py)
    return FlickerWrapper(AtariWrapper(gym.make("PongNoFrameskip-v4", **kwargs), screen_size=screen_size), p)
