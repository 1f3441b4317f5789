"""DQN with a memory."""

from sb3_attnmem.dqn_recurrent.algorithm import RecurrentDQN
from sb3_attnmem.dqn_recurrent.checkpoints import ResumableCheckpoint, load_checkpoint, save_checkpoint, steps_left
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork

__all__ = [
    "RecurrentDQN",
    "RecurrentDQNPolicy",
    "RecurrentQNetwork",
    "ResumableCheckpoint",
    "load_checkpoint",
    "save_checkpoint",
    "steps_left",
]
