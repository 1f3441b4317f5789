"""
Every part beside every other: means or quantiles, with action masks or without, each way to explore, three kinds of
memory. Each agent learns, plays, is saved and loaded; what its file for ONNX gives is what it gives itself.
"""

import functools
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, evaluate_masked_policy
from sb3_attnmem.dqn_recurrent import RecurrentQuantileNetwork
from tests.dqn_recurrent.worlds import make_learner
from tests.ledger import N_MASKED, Ledger, MaskedLedger, Waves, place_of, valid_at

ALGORITHMS = {"means": RecurrentDQN, "quantiles": RecurrentQRDQN}
EXPLORATION: dict[str, dict[str, Any]] = {"epsilon": {}, "noisy": {}, "held": dict(exploration_duration=8)}
MEMORIES: dict[str, dict[str, Any]] = {
    "lstm": dict(hidden_size=4),
    "lru": dict(hidden_size=4),
    "window": dict(hidden_size=4, num_layers=1, n_heads=2, window=4),
}


class Parts(NamedTuple):
    """
    :param head: of ``ALGORITHMS``
    :param masked: whether few actions are valid at each place, others raise
    :param exploration: of ``EXPLORATION``
    :param memory: of ``MEMORIES``
    """

    head: str
    masked: bool
    exploration: str
    memory: str


PRODUCT = [Parts(*parts) for parts in itertools.product(ALGORITHMS, (True, False), EXPLORATION, MEMORIES)]
#: an export takes seconds: the others are slow tests
EXPORTED = [Parts("quantiles", True, "noisy", "lstm"), Parts("means", False, "held", "lru")]


def name_of(parts: Parts) -> str:
    return f"{parts.head}-{'masks' if parts.masked else 'free'}-{parts.exploration}-{parts.memory}"


def make_env(masked: bool) -> DummyVecEnv:
    world: Any = MaskedLedger if masked else functools.partial(Ledger, n_actions=N_MASKED)
    return DummyVecEnv([lambda: world(0, (5, 9), ("terminated", "truncated"))])


@functools.cache
def learned(parts: Parts) -> RecurrentDQN:
    policy_kwargs: dict[str, Any] = dict(
        memory_class=parts.memory,
        memory_kwargs=MEMORIES[parts.memory],
        features_extractor_class=Waves,
        encoder_arch=[],
        net_arch=[4],
        noisy=parts.exploration == "noisy",
    )
    if parts.head == "quantiles":
        policy_kwargs["n_quantiles"] = 5
    model = make_learner(
        make_env(parts.masked),
        model_class=ALGORITHMS[parts.head],
        learning_rate=1e-2,
        train_freq=20,
        policy_kwargs=policy_kwargs,
        **EXPLORATION[parts.exploration],
    )
    before = {name: weight.clone() for name, weight in model.q_net.named_parameters()}
    model.learn(120)
    assert model.mask_source == ("env" if parts.masked else None)  # infos are empty: they tell nothing
    stuck = [name for name, weight in model.q_net.named_parameters() if th.equal(weight, before[name])]
    assert not stuck
    assert all(bool(weight.isfinite().all()) for weight in model.q_net.parameters())
    assert (model.exploration_rate == 0) is (parts.exploration == "noisy")
    return model


def episode() -> tuple[np.ndarray, np.ndarray]:
    """:return: (10, 1, 4) observations of one episode, and (10, 1, A) the actions that are valid at each"""
    frames = np.array([[[0, 1, step, 1]] for step in range(10)], np.float32)
    return frames, np.array([[valid_at(place_of(frame[0]))] for frame in frames])


def play(policy: Any, masked: bool) -> np.ndarray:
    """:return: (10,) greedy actions along an episode"""
    actions, state = [], None
    for step, (frame, mask) in enumerate(zip(*episode(), strict=True)):
        action, state = policy.predict(
            frame,
            state=state,
            episode_start=np.array([step == 0]),
            deterministic=True,
            action_masks=mask if masked else None,
        )
        assert mask[0, action[0]] or not masked
        actions.append(int(action[0]))
    return np.array(actions)


@pytest.mark.parametrize("parts", PRODUCT, ids=name_of)
def test_it_learns_plays_and_is_saved(parts: Parts, tmp_path: Path) -> None:
    model = learned(parts)
    evaluate_masked_policy(model, make_env(parts.masked), 1, deterministic=False, warn=False)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = ALGORITHMS[parts.head].load(tmp_path / "model.zip", env=make_env(parts.masked))
    np.testing.assert_array_equal(play(model, parts.masked), play(loaded, parts.masked))
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    loaded.learn_offline(1, conservative_weight=0.1)
    loaded.learn(20, reset_num_timesteps=False)
    assert loaded.num_timesteps == 140


@pytest.mark.parametrize(
    "parts",
    [pytest.param(one, marks=[] if one in EXPORTED else pytest.mark.slow, id=name_of(one)) for one in PRODUCT],
)
def test_its_file_gives_what_it_gives(parts: Parts, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    from sb3_attnmem.export import OnnxPolicy, export_onnx

    model = learned(parts)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx", check=False).path)
    np.testing.assert_array_equal(play(policy, parts.masked), play(model, parts.masked))
    assert policy.mask_source == ("env" if parts.masked else "none")
    state: Any = None
    own_state = model.q_net.memory.initial_state(1)
    for step, frame in enumerate(episode()[0]):
        starts = np.array([step == 0])
        tensors = th.as_tensor(frame), own_state, th.as_tensor(starts)
        with th.no_grad():
            q_values, own_state = model.q_net.step(*tensors)
            if isinstance(model.q_net, RecurrentQuantileNetwork):
                quantiles, _ = policy.quantiles(frame, state, starts)
                np.testing.assert_allclose(quantiles, model.q_net.step_quantiles(*tensors)[0], atol=1e-5)
        given, state = policy.q_values(frame, state, starts)
        np.testing.assert_allclose(given, q_values, atol=1e-5)
    assert policy.has_quantiles is (parts.head == "quantiles")
