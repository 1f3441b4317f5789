"""Action masks, told in every way in which learners ask for them."""

from typing import Any

import gymnasium as gym
import numpy as np


class ActionMaskWrapper(gym.Wrapper):
    """
    Lets an environment that tells its action masks by a method ``action_masks()``, or by ``info["action_mask"]``, tell
    them both ways. A ``VecEnv`` resets before anybody can ask for the mask of a final observation: in a process of
    its own (``SubprocVecEnv``), an environment with ``action_masks()`` whose episodes a time limit may end needs this
    wrapper, so that the mask is in the final step's info. And sb3-contrib's evaluation asks ``action_masks()`` alone.

    :param env: that tells its masks in one of the ways
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._mask: np.ndarray | None = None

    def action_masks(self) -> np.ndarray:
        """
        Tell which actions are valid now.

        :return: (n_actions,), 1 or True where an action is valid
        :raises ValueError: when the environment told none
        """
        if self._mask is None:
            raise ValueError(f"{self.env} told no action mask: it has no action_masks(), and no info['action_mask'].")
        return self._mask

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._told(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, self._told(info)

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        """:return: the info, with the mask in it"""
        if self.env.has_wrapper_attr("action_masks"):
            info = {**info, "action_mask": self.env.get_wrapper_attr("action_masks")()}
        mask = info.get("action_mask")
        self._mask = None if mask is None else np.array(mask)
        return info
