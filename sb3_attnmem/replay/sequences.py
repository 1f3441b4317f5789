"""
Where :class:`SequenceReplayBuffer` was once: saved models and pickled replay buffers name it by this module.

Import it from ``sb3_attnmem`` instead.
"""

from sb3_attnmem.replay.buffer import SequenceReplayBuffer

__all__ = ["SequenceReplayBuffer"]
