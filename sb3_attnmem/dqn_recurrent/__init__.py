"""DQN with a memory."""

from sb3_attnmem.dqn_recurrent.checkpoints import ResumableCheckpoint, load_checkpoint, save_checkpoint, steps_left
from sb3_attnmem.dqn_recurrent.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy, RecurrentQNetwork

__all__ = [
    "RecurrentDQN",
    "RecurrentDQNPolicy",
    "RecurrentQNetwork",
    "ResumableCheckpoint",
    "load_checkpoint",
    "save_checkpoint",
    "steps_left",
]
