"""The traced acting step gives what ``q_net.step`` gives, follows every change, and leaves others' modules alone."""

from typing import Any

import numpy as np
import pytest
import torch as th
from torch import nn

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent import traced_step
from sb3_attnmem.dqn_recurrent.traced_step import TracedStep
from sb3_attnmem.memory import MEMORIES
from tests.dqn_recurrent.worlds import SPACES, make_learner, make_world
from tests.toys import SumMemory

N = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "dnc": dict(hidden_size=8, n_slots=4, slot_size=4),
    "window": dict(hidden_size=8, window=4, num_layers=1, n_heads=2),
    "gtrxl": dict(hidden_size=8, memory_length=4, num_layers=1, n_heads=2),
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_step, "PATIENCE", 0)


def inputs(model: RecurrentDQN, seed: int) -> tuple[Any, Any, th.Tensor]:
    """:return: observations, a state that is not the initial one, and starts of episodes in some rows"""
    generator = th.Generator().manual_seed(seed)
    model.observation_space.seed(seed)
    taken = [model.observation_space.sample() for _ in range(N)]
    observations: Any = (
        {key: th.as_tensor(np.stack([one[key] for one in taken])) for key in taken[0]}
        if isinstance(taken[0], dict)
        else th.as_tensor(np.stack(taken))
    )
    state = tuple(
        tensor + th.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for tensor in model.q_net.memory.initial_state(N)
    )
    return observations, state, th.rand(N, generator=generator) < 0.5


def traced(model: RecurrentDQN) -> TracedStep:
    model.policy.set_training_mode(False)
    step = TracedStep(model.q_net)
    with th.no_grad():
        step.refresh(*inputs(model, 0))
    return step


def check_same(model: RecurrentDQN, step: TracedStep) -> None:
    with th.no_grad():
        for seed in range(4):
            given = inputs(model, seed)
            found, expected = step(*given), model.q_net.step(*given)
            th.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def change_weights(model: RecurrentDQN) -> None:
    with th.no_grad():
        for weight in model.q_net.parameters():
            weight.add_(0.1)


@pytest.mark.parametrize("name", [name for name, known in MEMORIES.items() if known.reads == "vector"])
def test_every_memory_is_traced_and_follows_its_weights(name: str) -> None:
    kwargs = OPTIONS.get(name, dict(hidden_size=8))
    model = make_learner(policy_kwargs=dict(memory_class=name, memory_kwargs=kwargs))
    step = traced(model)
    assert step._graph is not None
    check_same(model, step)
    change_weights(model)
    check_same(model, step)


@pytest.mark.parametrize("space", ["dict", "image", "discrete"])
@pytest.mark.parametrize("fusion", ["none", "gate"])
def test_every_observation_is_traced(space: str, fusion: str) -> None:
    policy = {"dict": "MultiInputPolicy", "image": "CnnPolicy"}.get(space, "MlpPolicy")
    kwargs = dict(memory_kwargs=dict(hidden_size=8), memory_fusion=fusion)
    model = make_learner(make_world(space), policy, policy_kwargs=kwargs)
    step = traced(model)
    assert step._graph is not None and SPACES[space] is not None
    check_same(model, step)
    change_weights(model)
    check_same(model, step)


def test_layers_in_bfloat16_are_traced_and_follow_their_weights() -> None:
    """Autocast keeps rounded copies of weights, which must not become the graph's."""
    extractor = dict(precision="bfloat16", features_dim=16)
    kwargs = dict(features_extractor_class="plain_cnn", features_extractor_kwargs=extractor)
    model = make_learner(make_world("image"), "CnnPolicy", policy_kwargs=kwargs)
    step = traced(model)
    assert step._graph is not None
    check_same(model, step)
    change_weights(model)
    check_same(model, step)


def test_learning_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    models = []
    for patience in (0, 10**9):
        monkeypatch.setattr(traced_step, "PATIENCE", patience)
        models.append(make_learner(normalize_observations=True, normalize_returns=True).learn(150))
    assert models[0]._step._graph is not None and models[1]._step._graph is None
    for one, other in zip(models[0].q_net.parameters(), models[1].q_net.parameters(), strict=True):
        th.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    tapes = [model.replay_buffer.tapes for model in models]  # type: ignore[union-attr]
    np.testing.assert_array_equal(tapes[0].actions, tapes[1].actions)
    np.testing.assert_allclose(tapes[0].states[0], tapes[1].states[0], rtol=1e-5, atol=1e-6)


def test_statistics_that_came_after_it_count() -> None:
    model = make_learner()
    step = traced(model)
    model.q_net.normalization.see(np.random.default_rng(0).normal(3, 5, (100, 3)))
    model.q_net.normalization.returns.see(np.array([0.0, 50.0]), np.array([1.0]))
    step.refresh(*inputs(model, 0))
    check_same(model, step)
    model.q_net.normalization.see(np.random.default_rng(0).normal(-3, 5, (100, 3)))  # seen again: no other graph
    check_same(model, step)


def test_a_part_that_was_replaced_counts() -> None:
    model = make_learner()
    step = traced(model)
    model.q_net.encoder[0] = nn.Linear(3, 64)
    step.refresh(*inputs(model, 0))
    check_same(model, step)
    model.q_net.encoder[0].weight = nn.Parameter(th.randn(64, 3))
    step.refresh(*inputs(model, 0))
    check_same(model, step)


class Branching(nn.Module):
    """Somebody's own activation function, with a branch that depends on values."""

    def forward(self, values: th.Tensor) -> th.Tensor:
        return values.relu() if values.mean() > 0 else -values


@pytest.mark.parametrize("kwargs", [dict(memory_class=SumMemory), dict(activation_fn=Branching)])
def test_modules_of_others_are_not_traced(kwargs: dict[str, Any]) -> None:
    model = make_learner(policy_kwargs=kwargs)
    step = traced(model)
    assert step._graph is None
    check_same(model, step)


def test_a_hook_goes_on_being_called() -> None:
    model = make_learner()
    calls: list[int] = []
    step = traced(model)
    assert step._graph is not None
    handle = model.q_net.memory.register_forward_hook(lambda *_: calls.append(1))
    step.refresh(*inputs(model, 0))
    step(*inputs(model, 0))
    assert calls == [1] and step._graph is None
    handle.remove()
    step.refresh(*inputs(model, 0))
    assert step._graph is not None


def test_nothing_is_traced_before_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced_step, "PATIENCE", 20)
    model = make_learner().learn(32)  # 16 steps of both environments
    assert model._step._graph is None
    model.learn(32, reset_num_timesteps=False)
    assert model._step._graph is not None
