"""What the RL Zoo must know of us."""

from importlib.resources import files
from pathlib import Path

from rl_zoo3.utils import ALGOS

import sb3_attnmem.envs  # noqa: F401  registers the T-Mazes
from sb3_attnmem.dqn_recurrent import RecurrentDQN

#: algorithm -> the settings that ship with this package
CONFIGS: dict[str, Path] = {
    path.stem: path for path in sorted(Path(str(files("sb3_attnmem.zoo_configs"))).glob("*.yml"))
}


def register() -> None:
    """Let rl_zoo3 know ``rdqn``. The programs of rl_zoo3 hold the dictionary itself, so it is changed in place."""
    ALGOS["rdqn"] = RecurrentDQN
