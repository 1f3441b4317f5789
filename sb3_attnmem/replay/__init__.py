"""Replay of sequences: every observation stored once, windows drawn uniformly over the stored transitions."""

from sb3_attnmem.replay.priorities import PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.sequences import SequenceReplayBuffer
from sb3_attnmem.replay.types import SequencePart, SequenceSamples

__all__ = ["PrioritizedSequenceReplayBuffer", "SequencePart", "SequenceReplayBuffer", "SequenceSamples"]
