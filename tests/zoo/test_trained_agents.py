"""The agents that ship in ``trained_agents/`` load, and play on fresh seeds as well as their files say."""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_attnmem.export import OnnxPolicy
from sb3_attnmem.transfer.weights import read_agent
from sb3_attnmem.zoo.trained import Trained, add_agent_options, load_agent

SHIPPED = Path(__file__).parents[2] / "trained_agents"
AGENTS = sorted(path.parent for path in SHIPPED.glob("*/*/evaluation.yml"))
MEGABYTES = 25
#: part of a name -> how many are played: few, but enough that an agent that learned nothing fails
LONG_EPISODES = {"Breakout": 4, "Flickering": 4, "NoFrameskip": 1, "TMaze1500": 4}


def load(folder: Path, n_envs: int = 1) -> Trained:
    parser = argparse.ArgumentParser()
    add_agent_options(parser)
    env_id = folder.name.rsplit("_", 1)[0]
    words = ["--algo", folder.parent.name, "--env", env_id, "-f", str(SHIPPED), "--seed", "77", "--device", "cpu"]
    words += ["--gym-packages", env_id.split("-")[0].lower()] if env_id.startswith(("popgym", "MiniGrid")) else []
    return load_agent(parser.parse_args(words), n_envs)


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


def played(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "evaluation.yml").read_text(encoding="utf-8"))


def test_there_are_some_and_they_are_small() -> None:
    assert len(AGENTS) >= 5
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < MEGABYTES * 1e6


@pytest.mark.parametrize("folder", AGENTS, ids=name_of)
def test_it_plays_as_well_as_it_says(folder: Path) -> None:
    told = played(folder)
    n_episodes = next((n for part, n in LONG_EPISODES.items() if part in folder.name), 10)
    model, env, _ = load(folder, n_envs=n_episodes)  # side by side
    score, _ = evaluate_policy(model, env, n_eval_episodes=n_episodes)
    assert score >= told["score"] - 4 * told["std"] / math.sqrt(n_episodes) - 0.01  # type: ignore[operator]


@pytest.mark.parametrize("folder", AGENTS, ids=name_of)
def test_its_weights_are_finite(folder: Path) -> None:
    # a count of steps in half precision was infinite: nothing that plays reads it, training does
    tensors = read_agent(next(folder.glob("*.zip")))
    assert [name for name, tensor in tensors.items() if not tensor.isfinite().all()] == []


@pytest.mark.parametrize("folder", [path for path in AGENTS if list(path.glob("*.onnx"))], ids=name_of)
def test_its_graph_is_the_same_agent(folder: Path) -> None:
    model, env, path = load(folder)
    graph = OnnxPolicy(path.with_suffix(".onnx"))
    observation: Any = env.reset()
    state, graph_state, starts = None, None, np.ones(env.num_envs, bool)
    for _ in range(20):
        action, state = model.predict(observation, state, starts, deterministic=True)
        action_of_graph, graph_state = graph.predict(observation, graph_state, starts, deterministic=True)
        np.testing.assert_array_equal(action, action_of_graph)
        for remembered, of_graph in zip(state or (), graph_state or (), strict=True):
            np.testing.assert_allclose(remembered, of_graph, rtol=1e-3, atol=1e-4)
        observation, _, starts, _ = env.step(action)
