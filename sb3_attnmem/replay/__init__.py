"""Replay of sequences: every observation stored once, windows drawn uniformly over the stored transitions."""

from sb3_attnmem.replay.priorities import PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.sequences import SequenceReplayBuffer
from sb3_attnmem.replay.stacks import FrameStack, find_frame_stack
from sb3_attnmem.replay.types import SequencePart, SequenceSamples

__all__ = [
    "FrameStack",
    "PrioritizedSequenceReplayBuffer",
    "SequencePart",
    "SequenceReplayBuffer",
    "SequenceSamples",
    "find_frame_stack",
]
