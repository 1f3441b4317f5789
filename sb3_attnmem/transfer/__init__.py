"""From pre-training to fine-tuning to going on: weights, what learns, data, validation, one task after another."""

from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.replay import Episode
from sb3_attnmem.transfer.adapters import Adapters
from sb3_attnmem.transfer.continual import ContinualReport, Stage, learn_in_sequence
from sb3_attnmem.transfer.datasets import fill_from_buffer, fill_from_minari
from sb3_attnmem.transfer.episodes import fill_from_episodes, recompute_states
from sb3_attnmem.transfer.freezing import merge_adapters, set_learning
from sb3_attnmem.transfer.old_data import keep_old_data
from sb3_attnmem.transfer.plan import LearningPlan
from sb3_attnmem.transfer.validation import ValidationCallback
from sb3_attnmem.transfer.weights import load_pretrained

__all__ = [
    "Adapters",
    "ContinualReport",
    "Episode",
    "LearningPlan",
    "PretrainedExtractor",
    "Stage",
    "ValidationCallback",
    "fill_from_buffer",
    "fill_from_episodes",
    "fill_from_minari",
    "keep_old_data",
    "learn_in_sequence",
    "load_pretrained",
    "merge_adapters",
    "recompute_states",
    "set_learning",
]
