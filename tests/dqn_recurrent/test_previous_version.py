"""
Files of the version before go on working. ``data/`` holds two small agents and their replay buffers, as that version
saved them after 60 steps in ``worlds.make_world()``, and what they answered.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN, SequenceReplayBuffer
from tests.dqn_recurrent.worlds import make_world

DATA = Path(__file__).parent / "data"
ANSWERS = np.load(DATA / "lstm_answers.npz")
CLASSES = {"plain": SequenceReplayBuffer, "prioritized": PrioritizedSequenceReplayBuffer}


@pytest.mark.parametrize("name", CLASSES)
def test_a_saved_agent_loads_and_acts_as_it_did(name: str) -> None:
    model = RecurrentDQN.load(DATA / f"lstm_{name}.zip")
    assert model._n_updates == ANSWERS[f"{name}_updates"] > 0
    assert model.q_net.normalization.is_new and model.q_net.architecture.memory_fusion == "none"
    assert not (model.normalize_observations or model.normalize_returns) and model.watkins_tolerance == math.inf
    state = None
    for i, (observations, starts) in enumerate(zip(ANSWERS["observations"], ANSWERS["starts"], strict=True)):
        actions, state = model.predict(observations, state, starts, deterministic=True)
        np.testing.assert_array_equal(actions, ANSWERS[f"{name}_actions"][i])
    assert state is not None
    flat = np.concatenate([tensor.reshape(2, -1) for tensor in state], axis=1)
    np.testing.assert_allclose(flat, ANSWERS[f"{name}_state"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_a_saved_agent_goes_on_with_its_replay_buffer(name: str) -> None:
    model = RecurrentDQN.load(DATA / f"lstm_{name}.zip", env=make_world())
    model.load_replay_buffer(DATA / f"lstm_{name}_replay.pkl")
    assert type(model.replay_buffer) is CLASSES[name] and model.replay_buffer.size() == 32
    before = model._n_updates
    model.learn(40, reset_num_timesteps=False)
    assert model._n_updates > before and model.replay_buffer.size() > 32
    assert model.q_net.normalization.is_new
