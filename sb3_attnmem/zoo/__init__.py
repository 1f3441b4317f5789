"""Floor 3: the RL Zoo with our algorithm, extractors and settings."""

from sb3_attnmem.zoo.registration import CONFIGS, register

__all__ = ["CONFIGS", "register"]
