"""The RL Zoo's YAML reaches the extractors by name, in stock algorithms."""

import argparse
from pathlib import Path

import ale_py
import gymnasium as gym
import pytest
from rl_zoo3.exp_manager import ExperimentManager

from sb3_attnmem.extractors import SpatialAttentionCNN

gym.register_envs(ale_py)

CONFIG = """
PongNoFrameskip-v4:
  env_wrapper:
    - stable_baselines3.common.atari_wrappers.AtariWrapper
  frame_stack: 2
  policy: CnnPolicy
  n_timesteps: 100
  buffer_size: 500
  learning_starts: 50
  batch_size: 4
  policy_kwargs: "dict(features_extractor_class=get_class_by_name('sb3_attnmem.extractors.SpatialAttentionCNN'),
    features_extractor_kwargs=dict(features_dim=16))"
"""


@pytest.mark.parametrize("algo", ["dqn", "qrdqn"])
def test_the_zoo_s_yaml_reaches_an_extractor(tmp_path: Path, algo: str) -> None:
    config = tmp_path / "config.yml"
    config.write_text(CONFIG, encoding="utf-8")
    manager = ExperimentManager(
        argparse.Namespace(), algo, "PongNoFrameskip-v4", str(tmp_path), config=str(config), eval_freq=-1, verbose=0
    )
    experiment = manager.setup_experiment()
    assert experiment is not None
    model = experiment[0]
    manager.learn(model)
    extractors = [module for module in model.policy.modules() if isinstance(module, SpatialAttentionCNN)]
    assert extractors and all(extractor.features_dim == 16 for extractor in extractors)
