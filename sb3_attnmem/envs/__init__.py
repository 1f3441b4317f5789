"""
Wrappers and one tiny task for agents that remember.

Importing this module registers ``PassiveTMaze-v0``. Where it is not imported, as in the worker of a ``SubprocVecEnv``
or in the RL Zoo, name it in the id: ``gym.make("sb3_attnmem.envs:PassiveTMaze-v0")``, or pass
``--gym-packages sb3_attnmem.envs``.
"""

import gymnasium as gym

from sb3_attnmem.envs.flicker import FlickerWrapper
from sb3_attnmem.envs.popgym import PopgymWrapper
from sb3_attnmem.envs.previous import PreviousActionReward
from sb3_attnmem.envs.tmaze import PassiveTMaze

__all__ = ["FlickerWrapper", "PassiveTMaze", "PopgymWrapper", "PreviousActionReward"]

# No ``max_episode_steps``: the episode's length is part of the task, so the environment ends itself (terminated).
gym.register(id="PassiveTMaze-v0", entry_point="sb3_attnmem.envs.tmaze:PassiveTMaze")
