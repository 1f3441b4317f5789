"""Action masks: where environments tell which actions are valid, and reading them there at every step."""

import warnings
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_attnmem.common.callers import levels_to_caller

#: names of ``action_masks`` that are no keys of an observation
AUTO, NONE, FROM_ENV, FROM_INFO = "auto", "none", "env", "info"
#: what PettingZoo and OpenSpiel's wrappers call a mask, in ``info`` and in Dict observations
INFO_KEY = "action_mask"
#: in the info of an episode's last step: the mask of its final observation, where another than ``INFO_KEY`` tells it
FINAL_KEY = "terminal_action_mask"

WORDS = {FROM_ENV: "the environment's action_masks()", FROM_INFO: f"info[{INFO_KEY!r}]"}


def check_mask_source(source: Any, observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """
    Check the argument ``action_masks``.

    :param source: that the user gave
    :param observation_space: of the environment
    :param action_space: of the environment
    :raises ValueError: when it names nothing, a key that is no mask, or the actions are not ``Discrete``
    """
    if source is None or source in (AUTO, NONE):
        return
    keys = list(observation_space.spaces) if isinstance(observation_space, spaces.Dict) else []
    if not isinstance(source, str) or source not in (FROM_ENV, FROM_INFO, *keys):
        raise ValueError(
            f"action_masks={source!r} must be 'auto', 'none', 'env' (the environment's action_masks()), 'info' "
            f"(info['{INFO_KEY}']), or the key of a Dict observation that is the mask; the keys here are {keys}."
        )
    if not isinstance(action_space, spaces.Discrete):
        raise ValueError(f"action_masks={source!r} needs Discrete actions, one bit each, got {action_space}.")
    if source in keys and not _is_mask(observation_space[source], int(action_space.n)):  # type: ignore[index]
        raise ValueError(
            f"action_masks={source!r}: a mask of {action_space} is a MultiBinary, or a Box from 0 to 1, of shape "
            f"({action_space.n},); this key is {observation_space[source]}."  # type: ignore[index]
        )


def find_mask_source(
    source: str | None, observation_space: spaces.Space, action_space: spaces.Space, env: VecEnv | None
) -> str | None:
    """
    Find out where the masks are.

    :param source: that the user gave
    :param observation_space: of the environment
    :param action_space: of the environment
    :param env: None: only its spaces are known
    :return: "env", "info" or the key of an observation; "none" where there are none, None where that cannot be told yet
        (infos are known from the first reset on)
    """
    if source is None or not isinstance(action_space, spaces.Discrete):
        if source == AUTO and env is not None and is_masking_supported(env):
            warnings.warn(
                "The environment has action_masks(), but masks are for Discrete actions, and its own are "
                f"{action_space}: all are taken for valid. Pass action_masks='none' if they are.",
                stacklevel=levels_to_caller(),
            )
        return NONE
    if source != AUTO:
        return source
    keys = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
    if INFO_KEY in keys and _is_mask(keys[INFO_KEY], int(action_space.n)):
        return INFO_KEY
    if env is None:
        return None
    if is_masking_supported(env):
        return FROM_ENV
    infos = env.unwrapped.reset_infos
    if any(INFO_KEY in info for info in infos):
        return FROM_INFO
    return NONE if any(infos) else None


def _is_mask(space: spaces.Space, n_actions: int) -> bool:
    if space.shape != (n_actions,):
        return False
    is_bits = isinstance(space, spaces.Box) and bool((space.low == 0).all() and (space.high == 1).all())
    return is_bits or isinstance(space, spaces.MultiBinary)


def check_masks(masks: Any, n: int, n_actions: int, steps: np.ndarray | None = None) -> np.ndarray:
    """
    Check action masks.

    :param masks: (n, n_actions), or (n_actions,) where n is 1; anything that is 0 or False is invalid
    :param n: environments
    :param n_actions: A
    :param steps: (n,) steps that each environment's episode has had; None: not known
    :return: (n, n_actions) bool, True where an action is valid
    :raises ValueError: when the shape is another, or an environment has no valid action
    """
    array = np.asarray(masks)
    if array.shape != (n, n_actions) and not (n == 1 and array.shape == (n_actions,)):
        raise ValueError(f"The action masks have the shape {array.shape}; expected {(n, n_actions)}, 1 for valid ones.")
    valid = array.reshape(n, n_actions) != 0
    if not valid.any(axis=1).all():
        env = int(np.flatnonzero(~valid.any(axis=1))[0])
        when = "" if steps is None else f" at step {steps[env]} of its episode"
        raise ValueError(
            f"Environment {env} has no valid action{when}: its action mask is all 0. End the episode there, or let an "
            "action that passes be valid."
        )
    return valid


def masks_to_tensor(masks: Any, n: int, n_actions: int, device: th.device) -> th.Tensor | None:
    """
    :param masks: as :func:`check_masks` takes them, or None
    :param n: environments
    :param n_actions: A
    :param device: of the tensor
    :return: (n, n_actions) bool, True where an action is valid; None: all are
    :raises ValueError: when the shape is another, or an environment has no valid action
    """
    return None if masks is None else th.as_tensor(check_masks(masks, n, n_actions), device=device)


class MaskReader:
    """
    Reads the masks of environments as they are stepped.

    :param source: "env", "info", or the key of an observation
    :param env: the environments, with all their wrappers
    :param n_actions: A
    :raises ValueError: when the environments cannot give such masks
    """

    def __init__(self, source: str, env: VecEnv, n_actions: int) -> None:
        if source == FROM_ENV and not is_masking_supported(env):
            raise ValueError(
                "action_masks='env', but the environment has no method action_masks(). Wrap it with "
                "sb3_contrib.common.wrappers.ActionMasker, or pass action_masks='info' where masks come in its infos."
            )
        normalize = unwrap_vec_normalize(env)
        keys = [] if normalize is None or not normalize.norm_obs else normalize.norm_obs_keys or []
        if source in keys:
            others = [key for key in keys if key != source]
            raise ValueError(
                f"VecNormalize normalises the key {source!r}, which is the action mask: pass norm_obs_keys={others} to "
                "VecNormalize."
            )
        self.source, self.env, self.n_actions = source, env, n_actions
        #: (n_envs,) steps since each episode began
        self.steps = np.zeros(env.num_envs, dtype=np.int64)
        #: (n_envs, A) bool, of the present observations
        self.valid = np.ones((env.num_envs, n_actions), dtype=bool)
        #: environment -> mask of the final observation that the last step led to, where it is known
        self.finals: dict[int, np.ndarray] = {}

    def after_reset(self, observations: Any) -> None:
        """
        :param observations: (n_envs, ...) that the reset gave
        :raises ValueError: when masks are missing, or allow no action
        """
        self.steps[:] = 0
        self.finals = {}
        self.valid = self._present(observations, self.env.unwrapped.reset_infos)

    def after_step(self, observations: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """
        :param observations: (n_envs, ...) that the step gave
        :param dones: (n_envs,) bool
        :param infos: one dict an environment
        :raises ValueError: when masks are missing, or allow no action
        """
        self.steps += 1
        ended = np.flatnonzero(dones).tolist()
        self.finals = {i: mask for i in ended if (mask := self._final(infos[i])) is not None}
        self.steps[dones] = 0
        if self.source == FROM_INFO and ended:
            infos = list(infos)
            for i in ended:
                infos[i] = self.env.unwrapped.reset_infos[i]
        self.valid = self._present(observations, infos)

    def successors(self, dones: np.ndarray, infos: list[dict[str, Any]], bootstraps: bool) -> np.ndarray:
        """
        The masks of the observations that the last step led to, the final ones where it ended episodes.

        :param dones: (n_envs,) bool
        :param infos: one dict an environment
        :param bootstraps: whether final observations at time limits are bootstrapped from
        :return: (n_envs, A) bool
        :raises ValueError: when such a mask is not known, or allows no action
        """
        if not dones.any():
            return self.valid
        valid = self.valid.copy()
        for i in np.flatnonzero(dones).tolist():
            valid[i] = True  # of a termination nobody asks
            if not (bootstraps and infos[i].get("TimeLimit.truncated", False)):
                continue
            if i not in self.finals:
                raise ValueError(
                    f"A time limit ended the episode of environment {i}, and the action mask of its final observation, "
                    "which is bootstrapped from, cannot be known: a VecEnv resets before anybody can ask. Wrap each "
                    "environment with sb3_attnmem.envs.ActionMaskWrapper, or put the mask into "
                    f"info[{INFO_KEY!r}]."
                )
            if not self.finals[i].any():
                raise ValueError(
                    f"Environment {i} has no valid action at the observation where a time limit ended its episode: its "
                    "action mask is all 0. Let the episode terminate there."
                )
            valid[i] = self.finals[i]
        return valid

    def _present(self, observations: Any, infos: Any) -> np.ndarray:
        if self.source == FROM_ENV:
            masks: Any = self.env.env_method(EXPECTED_METHOD_NAME)
        elif self.source == FROM_INFO:
            missing = [i for i, info in enumerate(infos) if INFO_KEY not in info]
            if missing:
                raise ValueError(
                    f"action_masks='info', but the infos of environment(s) {missing} have no {INFO_KEY!r} at step "
                    f"{self.steps[missing[0]]} of the episode. reset() and every step() must give one."
                )
            masks = [info[INFO_KEY] for info in infos]
        else:
            masks = observations[self.source]
        return check_masks(np.asarray(masks), len(self.steps), self.n_actions, self.steps)

    def _final(self, info: dict[str, Any]) -> np.ndarray | None:
        if self.source not in (FROM_ENV, FROM_INFO):
            final = info.get("terminal_observation")
            mask = None if final is None else final[self.source]
        else:
            mask = info.get(FINAL_KEY, info.get(INFO_KEY))
        return None if mask is None else np.asarray(mask).reshape(-1) != 0
