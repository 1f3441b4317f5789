"""From pre-training to fine-tuning: other agents' weights, and what of a model learns."""

from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer.adapters import Adapters
from sb3_attnmem.transfer.learning import LearningPlan, merge_adapters, set_learning
from sb3_attnmem.transfer.weights import load_pretrained

__all__ = ["Adapters", "LearningPlan", "PretrainedExtractor", "load_pretrained", "merge_adapters", "set_learning"]
