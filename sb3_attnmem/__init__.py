"""Attention and memory for DQN, the Stable-Baselines3 way."""

from pathlib import Path

from sb3_attnmem.attention import record_attention
from sb3_attnmem.dqn_recurrent import (
    RecurrentDQN,
    RecurrentDQNPolicy,
    ResumableCheckpoint,
    load_checkpoint,
    steps_left,
)
from sb3_attnmem.extractors import attention_overlay
from sb3_attnmem.memory import MEMORIES, BaseMemory, MemoryState
from sb3_attnmem.replay import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer

__version__ = (Path(__file__).parent / "version.txt").read_text(encoding="utf-8").strip()

__all__ = [
    "MEMORIES",
    "BaseMemory",
    "MemoryState",
    "PrioritizedSequenceReplayBuffer",
    "RecurrentDQN",
    "RecurrentDQNPolicy",
    "ResumableCheckpoint",
    "SequenceReplayBuffer",
    "__version__",
    "attention_overlay",
    "load_checkpoint",
    "record_attention",
    "steps_left",
]
