"""popgym's tasks in the form that Stable-Baselines3 takes."""

from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs


class PopgymWrapper(gym.Wrapper, RecordConstructorArgs):
    """
    One flat observation and one Discrete action for the tasks of popgym (Morad et al. 2023, "POPGym: Benchmarking
    Partially Observable Reinforcement Learning", https://arxiv.org/abs/2303.01859).

    The observation is what popgym's own ``DiscreteAction(Flatten(Antialias(PreviousAction(env))))`` gives: the task's
    observation, the previous action (action 0 at the start) and a flag for the first step, each written one-hot where
    it is discrete, in one Box; here in float32. A MultiDiscrete action space (Battleship) becomes Discrete in C order.

    Unlike popgym's wrappers, this one does not ask for the bare ``env.unwrapped``: ``make_vec_env`` and the RL Zoo put
    their ``Monitor`` *below* an ``env_wrapper``, and unwrapping would lose the episode statistics.

    Ends are the task's own. Autoencode, CountRecall, RepeatFirst and RepeatPrevious terminate when the deck is used up;
    Battleship and Concentration terminate when solved and truncate at their step limit.

    Needs ``pip install "sb3_attnmem[memory-tasks]"``. popgym registers its ids when it is imported, which the prefix of
    ``gym.make("popgym:popgym-RepeatPreviousEasy-v0")`` sees to, in the workers of a ``SubprocVecEnv`` too.

    :param env: A popgym environment, as ``gym.make`` gives it or with further wrappers around it
    :raises ValueError: if the action space is neither Discrete nor MultiDiscrete, or if the observation cannot be
        written as a vector of fixed length
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

        actions = env.action_space
        if isinstance(actions, spaces.MultiDiscrete):
            self.action_space = spaces.Discrete(int(actions.nvec.prod()))
        elif not isinstance(actions, spaces.Discrete):
            raise ValueError(
                f"PopgymWrapper needs a Discrete or MultiDiscrete action space, got {actions}. "
                "DQN cannot act in continuous tasks such as the Pendulum ones."
            )
        self._nested_space = spaces.Tuple((env.observation_space, actions, spaces.Discrete(2)))
        flat = spaces.flatten_space(self._nested_space)
        if not isinstance(flat, spaces.Box):
            raise ValueError(f"PopgymWrapper cannot write {env.observation_space} as one vector of fixed length.")
        self.observation_space = spaces.Box(flat.low.astype(np.float32), flat.high.astype(np.float32), dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._flatten(observation, self._env_action(0), first=True), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        env_action = self._env_action(action)
        observation, reward, terminated, truncated, info = self.env.step(env_action)
        return self._flatten(observation, env_action, first=False), reward, terminated, truncated, info

    def _env_action(self, action: Any) -> Any:
        if isinstance(self.env.action_space, spaces.MultiDiscrete):
            return np.array(np.unravel_index(int(action), self.env.action_space.nvec))
        return action

    def _flatten(self, observation: Any, env_action: Any, first: bool) -> np.ndarray:
        flat = spaces.flatten(self._nested_space, (observation, env_action, int(first)))
        return np.asarray(flat, dtype=np.float32)
