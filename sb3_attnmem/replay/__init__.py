"""Replay of sequences: every observation stored once, windows drawn uniformly over the stored transitions."""

from sb3_attnmem.replay.actions import join_actions, n_actions_of, split_actions
from sb3_attnmem.replay.arriving import Standing, Steps, append_steps
from sb3_attnmem.replay.batches import SequencePart, SequenceSamples
from sb3_attnmem.replay.buffer import SequenceReplayBuffer
from sb3_attnmem.replay.episodes import Episode, lay_episodes, read_episodes
from sb3_attnmem.replay.mixed import MixedSequenceReplayBuffer
from sb3_attnmem.replay.priorities import PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.recorder import Recorder
from sb3_attnmem.replay.rewriting import rewrite_states
from sb3_attnmem.replay.stacks import FrameStack, find_frame_stack
from sb3_attnmem.replay.whole_episodes import EpisodeSequenceReplayBuffer

__all__ = [
    "Episode",
    "EpisodeSequenceReplayBuffer",
    "FrameStack",
    "MixedSequenceReplayBuffer",
    "PrioritizedSequenceReplayBuffer",
    "Recorder",
    "SequencePart",
    "SequenceReplayBuffer",
    "SequenceSamples",
    "Standing",
    "Steps",
    "append_steps",
    "find_frame_stack",
    "join_actions",
    "lay_episodes",
    "n_actions_of",
    "read_episodes",
    "rewrite_states",
    "split_actions",
]
