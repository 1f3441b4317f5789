"""
Wrappers and one tiny task for agents that remember, and fast Atari.

Importing this module registers ``PassiveTMaze-v0`` (``corridor_length=10`` unless given), and with fixed corridors
``PassiveTMaze10-v0``, also with 30, 100, 500 and 1500, for settings files that go by the id; and
``FlickeringPong-v0``, the Pong of Hausknecht & Stone (2015) after Atari's usual preprocessing. Where it is not
imported, as in the worker of a ``SubprocVecEnv`` or in the RL Zoo, name it in the id:
``gym.make("sb3_attnmem.envs:PassiveTMaze-v0")``, or pass ``--gym-packages sb3_attnmem.envs``.
"""

import gymnasium as gym

from sb3_attnmem.envs.atari import AtariTrainingView, AtariVecEnv, make_atari_vec_env
from sb3_attnmem.envs.flicker import FlickerWrapper
from sb3_attnmem.envs.masks import ActionMaskWrapper
from sb3_attnmem.envs.popgym import PopgymWrapper
from sb3_attnmem.envs.previous import PreviousActionReward
from sb3_attnmem.envs.processes import EndingSubprocVecEnv
from sb3_attnmem.envs.tmaze import PassiveTMaze

__all__ = [
    "ActionMaskWrapper",
    "AtariTrainingView",
    "AtariVecEnv",
    "EndingSubprocVecEnv",
    "FlickerWrapper",
    "PassiveTMaze",
    "PopgymWrapper",
    "PreviousActionReward",
    "make_atari_vec_env",
]

# No ``max_episode_steps``: the episode's length is part of the task, so the environment ends itself (terminated).
gym.register(id="PassiveTMaze-v0", entry_point="sb3_attnmem.envs.tmaze:PassiveTMaze")
for length in (10, 30, 100, 500, 1500):
    gym.register(
        id=f"PassiveTMaze{length}-v0",
        entry_point="sb3_attnmem.envs.tmaze:PassiveTMaze",
        kwargs={"corridor_length": length},
    )
gym.register(id="FlickeringPong-v0", entry_point="sb3_attnmem.envs.flicker:flickering_pong")
