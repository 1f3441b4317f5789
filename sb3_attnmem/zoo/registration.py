"""What the RL Zoo must know of us."""

from importlib.resources import files
from pathlib import Path

import yaml
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS

import sb3_attnmem.envs  # noqa: F401  registers the T-Mazes
from sb3_attnmem.dqn_recurrent import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.zoo.search_spaces import convert_rdqn_params, sample_rdqn_params, sample_rqrdqn_params

#: algorithm -> the settings that ship with this package
CONFIGS: dict[str, Path] = {
    path.stem: path for path in sorted(Path(str(files("sb3_attnmem.zoo_configs"))).glob("*.yml"))
}


def register() -> None:
    """Let rl_zoo3 know our algorithms. Its programs hold the dictionaries themselves, so they are changed in place."""
    ALGOS["rdqn"] = RecurrentDQN
    HYPERPARAMS_SAMPLER["rdqn"] = sample_rdqn_params
    HYPERPARAMS_CONVERTER["rdqn"] = convert_rdqn_params
    ALGOS["rqrdqn"] = RecurrentQRDQN
    HYPERPARAMS_SAMPLER["rqrdqn"] = sample_rqrdqn_params
    HYPERPARAMS_CONVERTER["rqrdqn"] = convert_rdqn_params


def settings_for(algo: str, env_id: str) -> Path | None:
    """
    :param algo: as the RL Zoo names it
    :param env_id: of a registered environment
    :return: our settings file, if it has an entry for the environment; else rl_zoo3's may have one
    """
    path = CONFIGS.get(algo)
    if path is None:
        return None
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    fits = env_id in entries or "default" in entries or ("atari" in entries and ExperimentManager.is_atari(env_id))
    return path if fits else None
