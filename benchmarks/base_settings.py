"""The settings that a table was measured with, where there are better ones since."""

import math
from pathlib import Path
from typing import Any

import sb3_attnmem.zoo_configs
import yaml

#: the constructor's defaults before version 0.3, which tables were measured with
DEFAULTS_OF_0_2: dict[str, Any] = dict(
    learning_rate=5e-4,
    batch_size=32,
    tau=0.01,
    train_freq=8,
    n_steps=3,
    watkins_tolerance=math.inf,
    target_update_interval=8,
    target_update_unit="steps",
    exploration_final_eps=0.05,
    exploration_ladder=0.0,
    sequence_length=32,
    burn_in=8,
    normalize_observations=False,
    normalize_returns=False,
)
BASE = Path(__file__).with_suffix(".yml")
OURS = Path(sb3_attnmem.zoo_configs.__file__).with_name("rdqn.yml")


def config_of(task: str) -> Path:
    """:return: the file that has the task's entry"""
    return BASE if task in _read(BASE) else OURS


def settings_of(task: str) -> dict[str, Any]:
    """:return: the task's entry"""
    entry: dict[str, Any] = _read(config_of(task))[task]
    return entry


def _read(path: Path) -> dict[str, Any]:
    entries: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries
