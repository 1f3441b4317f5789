"""Every entry of ``zoo_configs/`` can be built and trained."""

import argparse
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import AttentionExtractor
from sb3_attnmem.memory import NoMemory
from sb3_attnmem.transfer import load_pretrained
from sb3_attnmem.zoo import CONFIGS, register
from sb3_attnmem.zoo.registration import settings_for
from sb3_attnmem.zoo.tune.trials import TrialManager

register()
#: environments for the entries that stand for many, which have no entry of their own
STANDS_FOR = {"default": "Acrobot-v1", "atari": "QbertNoFrameskip-v4"}
#: id's beginning -> package that registers it
PACKAGES = {"popgym-": "popgym", "MiniGrid-": "minigrid", "LunarLander": "Box2D"}
SHIPPED = Path(__file__).parents[2] / "trained_agents"
ATARI_AGENTS = sorted(path for game in ("*NoFrameskip*", "Flickering*") for path in SHIPPED.glob(f"*/*/{game}.zip"))
ENTRIES = [(algo, name) for algo, path in CONFIGS.items() for name in yaml.safe_load(path.read_text(encoding="utf-8"))]


def manager_of(algo: str, env_id: str, folder: Path) -> TrialManager:
    """:return: of an entry, for a few updates"""
    small: dict[str, Any] = dict(n_envs=2)
    if algo != "ppo":
        small |= dict(buffer_size=4_000, learning_starts=250)  # a few updates
    return TrialManager(
        argparse.Namespace(),
        algo,
        env_id,
        str(folder),
        n_timesteps=300,
        config=str(CONFIGS[algo]),
        hyperparams=small,
        eval_freq=-1,
        log_interval=-1,
        verbose=0,
    )


@pytest.mark.parametrize(("algo", "name"), ENTRIES)
def test_an_entry_trains(algo: str, name: str, tmp_path: Path) -> None:
    env_id = STANDS_FOR.get(name, name)
    assert env_id == name or (algo, env_id) not in ENTRIES, "the Zoo would take that one instead"
    for begin, package in PACKAGES.items():
        if env_id.startswith(begin):
            pytest.importorskip(package)
    manager = manager_of(algo, env_id, tmp_path)
    experiment = manager.setup_experiment()
    assert experiment is not None
    model = experiment[0]
    manager.learn(model)
    assert not isinstance(model, OffPolicyAlgorithm) or model._n_updates > 0
    if isinstance(model, RecurrentDQN):
        assert model.policy.architecture.memory_class is not NoMemory
    else:
        assert any(isinstance(module, AttentionExtractor) for module in model.policy.modules())
    if name.startswith("MiniGrid-"):
        assert not model.policy.normalize_images, "ones and zeros, not brightness: divided by 255 nothing is learned"


@pytest.mark.parametrize(("algo", "path"), CONFIGS.items())
def test_every_entry_says_how_it_was_measured(algo: str, path: Path) -> None:
    """A comment above it names a score or says that there is none, and the command."""
    text = path.read_text(encoding="utf-8")
    for name in yaml.safe_load(text):
        above = text[: re.search(rf"^{re.escape(name)}:", text, re.MULTILINE).start()]  # type: ignore[union-attr]
        comment = re.search(r"(?:^#.*\n)+\Z", above, re.MULTILINE)
        assert comment, f"{algo}: {name}"
        measured = re.search(r"\d\.\d|\d{2,}", comment[0]) and re.search(r"python |sb3-attnmem ", comment[0])
        assert measured or "not trained to a score" in comment[0], f"{algo}: {name}"


def test_our_settings_are_the_default_where_they_fit() -> None:
    assert settings_for("rdqn", "Acrobot-v1") == CONFIGS["rdqn"], "it has a default entry"
    assert settings_for("rqrdqn", "Acrobot-v1") == CONFIGS["rqrdqn"], "so has this"
    assert settings_for("dqn", "PongNoFrameskip-v4") == CONFIGS["dqn"]
    assert settings_for("dqn", "CartPole-v1") is None, "rl_zoo3 has settings of its own"
    assert settings_for("sac", "CartPole-v1") is None


@pytest.mark.parametrize("agent", ATARI_AGENTS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_a_shipped_agent_of_atari_is_what_its_entry_builds(agent: Path, tmp_path: Path) -> None:
    # entries once had another trunk than the one that was trained and measured
    experiment = manager_of(agent.parents[1].name, agent.stem, tmp_path).setup_experiment()
    assert experiment is not None
    assert load_pretrained(experiment[0], agent)
