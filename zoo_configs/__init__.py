"""Tuned settings in the RL Zoo's format, one YAML file an algorithm; installed as ``sb3_attnmem.zoo_configs``."""
