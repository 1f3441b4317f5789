"""Environments and wrappers that the doctor is asked about: of known need of memory, or wrong on purpose."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_attnmem.envs import PreviousActionReward


class Bandit(gym.Env):
    """
    Four arms that pay with chances that never change, twenty pulls an episode; there is nothing to see.

    :param scale: what an arm pays
    """

    observation_space, action_space = spaces.Box(0.0, 1.0, (1,)), spaces.Discrete(4)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale, self.t = scale, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        paid = self.np_random.random() < (0.2, 0.4, 0.6, 0.8)[int(action)]
        return np.zeros(1, np.float32), self.scale * float(paid), self.t >= 20, False, {}


class Codes(gym.Env):
    """Which of the two codes in the middle of a small map is shown? It says which action pays; ten questions."""

    observation_space, action_space = spaces.Box(0, 255, (7, 7, 20), np.uint8), spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._draw(), {}

    def _draw(self) -> np.ndarray:
        self.code = int(self.np_random.integers(2))
        shown = np.zeros((7, 7, 20), np.uint8)
        shown[..., 0] = 1
        shown[3, 3, :3] = 0, self.code, 1 - self.code
        return shown

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        reward = float(int(action) == self.code)
        return self._draw(), reward, self.t >= 10, False, {}


class Scaled(gym.RewardWrapper):
    """Rewards times 1,000."""

    def reward(self, reward: Any) -> float:
        return 1_000 * float(reward)


class Endless(gym.Wrapper):
    """An episode that nobody ends."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            observation, _ = self.env.reset()
        return observation, reward, False, False, info


class Shuffled(gym.ObservationWrapper):
    """What an evaluation sees where a wrapper was forgotten: other units."""

    def observation(self, observation: Any) -> Any:
        return np.asarray(observation)[::-1] * 30 + 5


class Large(gym.ObservationWrapper):
    """Observations in units that are far too small; its space is not told so, or the agent would be refused at once."""

    def observation(self, observation: Any) -> Any:
        return (np.asarray(observation) * 1e4).astype(np.float32)


def previous_action(env: gym.Env) -> gym.Env:
    return PreviousActionReward(env, reward=False)


class Lock(gym.Env):
    """
    Pays 1 for the right digits one after another from the first step on, and nothing else, ever; 40 steps.

    :param digits: of the code
    """

    observation_space, action_space = spaces.Box(0.0, 1.0, (2,)), spaces.Discrete(3)
    CODE = (0, 2, 1, 1, 0, 2, 0, 1, 2, 2)

    def __init__(self, digits: int = 3) -> None:
        self.digits = digits

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t, self.right = 0, 0
        return self._seen(), {}

    def _seen(self) -> np.ndarray:
        return np.array([self.t / 40, self.np_random.random()], np.float32)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.right == self.t and self.t < self.digits and int(action) == self.CODE[self.t]:
            self.right += 1
        self.t += 1
        reward = float(self.t == self.digits == self.right)
        return self._seen(), reward, False, self.t >= 40, {}


class LimitAsEnd(gym.Wrapper):
    """Time limits told as ends, as before Gym 0.26."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, False, info


class CueEaten(gym.Wrapper):
    """The first observation is skipped: another one, of no cue, stands in for it."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        return np.zeros_like(observation), info


class Cents(gym.RewardWrapper):
    """Rewards in another unit."""

    def reward(self, reward: Any) -> float:
        return float(reward) / 100


class Longer(gym.Wrapper):
    """The environment without its time limit, and with one of 1,500 steps."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(gym.wrappers.TimeLimit(env.unwrapped, 1_500))


#: CartPole with a limit that random play reaches now and then
gym.register("CartPoleShort-v0", "gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=25)
