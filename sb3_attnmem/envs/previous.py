"""Let the agent see what it did and what it got for it."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from sb3_attnmem.common.checks import check_flag

_OBSERVATION, _ACTION, _REWARD = "observation", "previous_action", "previous_reward"


class PreviousActionReward(gym.Wrapper, RecordConstructorArgs):
    """
    Add the previous action (one-hot) and the previous reward to the observation, as R2D2 does (Kapturowski et al.
    2019). At the first step of an episode both are zeros, so that it cannot be taken for action 0.

    With n actions, the observation space becomes, from

    - a vector (Box of one dimension, D): a Box of D + n + 1, ``[observation, one-hot action, reward]``, of at least
      float32; ``MlpPolicy`` goes on working;
    - a Dict: the same keys and ``previous_action`` (n), ``previous_reward`` (1), float32; for ``MultiInputPolicy``;
    - anything else (images, Discrete, MultiDiscrete, MultiBinary): a Dict of ``observation`` and these two keys.

    The reward is the wrapped environment's own, before any ``VecNormalize``.

    :param env: Environment to wrap; its action space must be Discrete when ``action`` is True
    :param action: Whether to add the previous action
    :param reward: Whether to add the previous reward
    :raises ValueError: if neither is asked for, if the action space is not Discrete, or if a Dict already has the key
    """

    def __init__(self, env: gym.Env, action: bool = True, reward: bool = True) -> None:
        action, reward = check_flag("action", action), check_flag("reward", reward)
        if not (action or reward):
            raise ValueError(
                "PreviousActionReward got action=False and reward=False, so it adds nothing. Set one to True."
            )
        RecordConstructorArgs.__init__(self, action=action, reward=reward)
        gym.Wrapper.__init__(self, env)

        added: dict[str, spaces.Box] = {}
        if action:
            if not isinstance(env.action_space, spaces.Discrete):
                raise ValueError(
                    "PreviousActionReward writes the previous action one-hot and needs a Discrete action space, "
                    f"got {env.action_space}. Pass action=False to add the reward alone."
                )
            self._first_action = int(env.action_space.start)
            added[_ACTION] = spaces.Box(0.0, 1.0, (int(env.action_space.n),), np.float32)
        if reward:
            added[_REWARD] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self._added = added

        space = env.observation_space
        self._is_vector = isinstance(space, spaces.Box) and len(space.shape) == 1
        self._is_dict = isinstance(space, spaces.Dict)
        if isinstance(space, spaces.Box) and self._is_vector:
            boxes = [space, *added.values()]
            self.observation_space = spaces.Box(
                np.concatenate([box.low for box in boxes]),
                np.concatenate([box.high for box in boxes]),
                dtype=np.result_type(*(box.dtype for box in boxes)).type,
            )
        else:
            kept = dict(space.spaces) if isinstance(space, spaces.Dict) else {_OBSERVATION: space}
            if clash := sorted(kept.keys() & added.keys()):
                raise ValueError(
                    f"PreviousActionReward adds the keys {clash}, but the observation already has them "
                    f"(keys: {sorted(kept)}). Wrap the environment once, or rename its keys."
                )
            self.observation_space = spaces.Dict({**kept, **added})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._add(observation, None, 0.0), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._add(observation, action, reward), reward, terminated, truncated, info

    def _add(self, observation: Any, action: Any | None, reward: SupportsFloat) -> Any:
        # Fresh arrays at every step: callers keep what they were given.
        previous = {key: np.zeros(box.shape, np.float32) for key, box in self._added.items()}
        if _ACTION in previous and action is not None:
            previous[_ACTION][int(action) - self._first_action] = 1.0
        if _REWARD in previous:
            previous[_REWARD][0] = float(reward)

        if self._is_vector:
            return np.concatenate([observation, *previous.values()], dtype=self.observation_space.dtype)
        if self._is_dict:
            return {**observation, **previous}
        return {_OBSERVATION: observation, **previous}
