"""Validation and what keeps from overfitting, from the Zoo's YAML."""

from pathlib import Path
from typing import Any

import pytest
import torch as th

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.zoo.cli import main

YAML = """
CartPole-v1:
  n_timesteps: 2000
  normalize: true
  policy: MlpLstmPolicy
  buffer_size: 2000
  learning_starts: 64
  sequence_length: 8
  burn_in: 0
  callback:
    - sb3_attnmem.transfer.ValidationCallback:
        eval_env: CartPole-v1
        eval_freq: 50
        n_eval_episodes: 1
        patience: 2
  policy_kwargs: "dict(optimizer_class=get_class_by_name('torch.optim.AdamW'), optimizer_kwargs=dict(weight_decay=0.02),
    features_extractor_class=get_class_by_name('sb3_attnmem.extractors.FrameAttention'),
    features_extractor_kwargs=dict(n_frames=2, dropout=0.25))"
"""


def test_a_yaml_file_says_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rdqn.yml").write_text(YAML.lstrip(), encoding="utf-8")
    scores = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(
        "stable_baselines3.common.callbacks.evaluate_policy", lambda *_, **__: ([next(scores)] * 2, [10, 10])
    )
    words = ["train", "--algo", "rdqn", "--env", "CartPole-v1", "--eval-freq", "-1", "-f", str(tmp_path)]
    assert main([*words, "-conf", str(tmp_path / "rdqn.yml")]) == 0
    assert "The model has the weights back of step 50" in capsys.readouterr().out
    model: Any = RecurrentDQN.load(tmp_path / "rdqn" / "CartPole-v1_1" / "CartPole-v1.zip")
    assert model.num_timesteps == 150, "two evaluations without a better one are enough"
    assert type(model.policy.optimizer) is th.optim.AdamW
    assert all(group["weight_decay"] == 0.02 for group in model.policy.optimizer.param_groups)
    assert 0.25 in {module.p for module in model.q_net.modules() if isinstance(module, th.nn.Dropout)} | {
        getattr(module, "dropout", None) for module in model.q_net.modules()
    }
