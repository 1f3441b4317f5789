"""The settings that a table was measured with, where ``zoo_configs/rdqn.yml`` has better ones since."""

from pathlib import Path
from typing import Any

import sb3_attnmem.zoo_configs
import yaml

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
