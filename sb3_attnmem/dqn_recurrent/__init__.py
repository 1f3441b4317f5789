"""DQN with a memory."""

from sb3_attnmem.dqn_recurrent.algorithm import RecurrentDQN
from sb3_attnmem.dqn_recurrent.checkpoints import (
    ResumableCheckpoint,
    load_checkpoint,
    save_checkpoint,
    statistics_of,
    steps_left,
)
from sb3_attnmem.dqn_recurrent.evaluating import (
    MaskedEvalCallback,
    MaskedPlayer,
    evaluate_masked_policy,
    playing_masked,
)
from sb3_attnmem.dqn_recurrent.offline import updates_left
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy, RecurrentQRDQNPolicy
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.qrdqn import RecurrentQRDQN
from sb3_attnmem.dqn_recurrent.quantile_network import RecurrentQuantileNetwork
from sb3_attnmem.dqn_recurrent.records import WholeFileEvalCallback

__all__ = [
    "MaskedEvalCallback",
    "MaskedPlayer",
    "RecurrentDQN",
    "RecurrentDQNPolicy",
    "RecurrentQNetwork",
    "RecurrentQRDQN",
    "RecurrentQRDQNPolicy",
    "RecurrentQuantileNetwork",
    "ResumableCheckpoint",
    "WholeFileEvalCallback",
    "evaluate_masked_policy",
    "load_checkpoint",
    "playing_masked",
    "save_checkpoint",
    "statistics_of",
    "steps_left",
    "updates_left",
]
