"""
Old names of classes, for models saved with version 0.1: their files name this module. Nothing else imports it.
"""

from sb3_attnmem.transfer.learning_policy import LearningPolicy
from sb3_attnmem.transfer.plan import LearningPlan

__all__ = ["LearningPlan", "LearningPolicy"]
