"""Noisy heads: the layer against the paper's formula, who draws when, and what never sees the noise."""

from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.dqn_recurrent.noise import NoisyLinear, make_noisy, noise
from tests.dqn_recurrent.conformance.reference import every_window
from tests.ledger import LSTM, make_env, make_model

NOISY: dict[str, Any] = dict(LSTM, noisy=True)


def layer() -> NoisyLinear:
    th.manual_seed(0)
    noisy = NoisyLinear(th.nn.Linear(4, 3))
    with th.no_grad():
        noisy.weight_sigma.copy_(th.rand(3, 4))
        noisy.bias_sigma.copy_(th.rand(3))
    return noisy


def test_noise_is_factorised() -> None:
    """Equations 10 and 11 of Fortunato et al.: ε_ij = f(ε_i) f(ε_j) with f(x) = sign(x) √|x|."""
    noisy, inputs = layer(), th.randn(5, 4)
    noisy.draw(np.random.default_rng(1))
    normal = np.random.default_rng(1).standard_normal(7, dtype=np.float32)
    scaled = th.as_tensor(np.sign(normal) * np.sqrt(np.abs(normal)))
    for i in range(3):
        for j in range(5):
            expected = noisy.bias[i] + noisy.bias_sigma[i] * scaled[4 + i]
            for k in range(4):
                weight = noisy.weight[i, k] + noisy.weight_sigma[i, k] * scaled[4 + i] * scaled[k]
                expected = expected + weight * inputs[j, k]
            assert noisy(inputs)[j, i].item() == pytest.approx(expected.item(), abs=1e-5)


def test_rows_with_noise_of_their_own() -> None:
    noisy, inputs = layer(), th.randn(2, 4)
    noisy.draw(np.random.default_rng(1), n_rows=2)
    together = noisy(inputs)
    assert noisy.noise is not None
    noise_in, noise_out = noisy.noise
    assert not th.equal(noise_in[0], noise_in[1])
    for row in range(2):
        noisy.noise = noise_in[row], noise_out[row]
        th.testing.assert_close(noisy(inputs)[row], together[row])


def test_noise_is_at_first_that_of_the_paper() -> None:
    """Means within ±1/√p, σ = 0.5/√p, p inputs (section 3.2)."""
    noisy = NoisyLinear(th.nn.Linear(16, 200))
    for mean in (noisy.weight, noisy.bias):
        assert 0.2 < mean.abs().max() <= 0.25
    for sigma in (noisy.weight_sigma, noisy.bias_sigma):
        assert sigma.unique().tolist() == [0.125]


def test_outside_the_with_there_is_no_noise() -> None:
    head = th.nn.Sequential(th.nn.Linear(4, 4), th.nn.ReLU(), th.nn.Sequential(th.nn.Linear(4, 2)))
    inputs = th.randn(3, 4)
    means = head(inputs)
    layers = make_noisy(head)
    assert [type(module) for module in head.modules()].count(NoisyLinear) == len(layers) == 2
    assert th.equal(head(inputs), means)
    with pytest.raises(RuntimeError, match="on purpose"), noise(layers, np.random.default_rng(0)):
        assert not th.allclose(head(inputs), means)
        raise RuntimeError("on purpose")
    assert th.equal(head(inputs), means)
    with noise(layers, None):
        assert th.equal(head(inputs), means)


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
@pytest.mark.parametrize("dueling", [True, False])
def test_every_layer_of_the_head_is_noisy_and_learns(model_class: type[RecurrentDQN], dueling: bool) -> None:
    model = make_model(make_env(), model_class, dict(NOISY, dueling=dueling), learning_starts=30, learning_rate=1e-2)
    linear = [module for module in model.q_net.q_net.modules() if isinstance(module, th.nn.Linear)]
    assert len(linear) == (3 if dueling else 2) and all(isinstance(module, NoisyLinear) for module in linear)
    assert not any(isinstance(module, NoisyLinear) for module in model.q_net.encoder.modules())
    before = [(module.weight_sigma.clone(), module.bias_sigma.clone()) for module in linear]  # type: ignore[operator]
    model.learn(60)
    for module, (weight_sigma, bias_sigma) in zip(linear, before, strict=True):
        assert not th.equal(module.weight_sigma, weight_sigma)  # type: ignore[arg-type]
        assert not th.equal(module.bias_sigma, bias_sigma)  # type: ignore[arg-type]


def test_one_draw_for_a_whole_batch_and_one_for_each_network() -> None:
    """Of the same frames, in any row and at any step of a network without memory, come the same values."""
    env = make_env(((5,), (5,)))
    model = make_model(env, policy_kwargs=dict(memory_class="none", encoder_arch=[5], net_arch=[6], noisy=True))
    model.learn(80)
    model.q_net_target.load_state_dict(model.q_net.state_dict())
    batch = every_window(model)
    batch = batch._replace(
        window=batch.window._replace(observations=th.ones_like(batch.window.observations))  # type: ignore[type-var]
    )
    seen: dict[str, list[th.Tensor]] = {"online": [], "target": []}
    for q_net, values in zip((model.q_net, model.q_net_target), seen.values(), strict=True):
        q_net.q_net.register_forward_hook(lambda _, __, output, values=values: values.append(output))
    model._q_and_targets(batch)
    model._q_and_targets(batch)
    ((online, again), (target, _)) = seen.values()
    present = batch.window.present
    for values in (online, target, again):
        assert th.allclose(values[present], values[present][:1], atol=1e-6)
    pairs = [(online, target), (online, again)]
    assert not any(th.allclose(one[present][0], other[present][0]) for one, other in pairs)


def watch_steps(model: RecurrentDQN) -> list[th.Tensor]:
    """:return: gets the values of each acting step, which sees ones whatever is observed"""
    seen: list[th.Tensor] = []
    step = model.q_net.step

    def watched(observations: th.Tensor, state: Any, starts: th.Tensor) -> Any:
        values, state = step(th.ones_like(observations), state, starts)
        seen.append(values)
        return values, state

    model.q_net.step = watched  # type: ignore[assignment, method-assign]
    return seen


def test_each_environment_and_each_step_has_noise_of_its_own() -> None:
    model = make_model(
        make_env(((50,), (50,))),
        policy_kwargs=dict(memory_class="none", encoder_arch=[5], net_arch=[6], noisy=True),
        learning_starts=0,
        gradient_steps=0,
    )
    seen = watch_steps(model)
    model.learn(20)
    rows = th.cat(seen)
    assert len(rows) == 20 and len(rows.unique(dim=0)) == 20


@pytest.mark.parametrize("predicts", [False, True])
def test_an_environment_keeps_the_noise_of_an_episode(predicts: bool) -> None:
    """Each its own, until its own episode ends, whatever is predicted in between."""
    model = make_model(
        make_env(((7, 9), (5, 11))),
        policy_kwargs=dict(memory_class="none", encoder_arch=[5], net_arch=[6], noisy="episode"),
        learning_starts=0,
        gradient_steps=0,
    )
    seen = watch_steps(model)

    class Predicts(BaseCallback):
        def _on_step(self) -> bool:
            if predicts:
                self.model.predict(np.ones((2, 4), np.float32), deterministic=False)
                seen.pop()
            return True

    model.learn(32, callback=Predicts())
    rows = th.stack(seen)  # (steps, environments, actions)
    for env, lengths in enumerate([[7, 9], [5, 11]]):
        begin = 0
        for length in lengths:
            episode = rows[begin : begin + length, env]
            assert th.equal(episode, episode[:1].expand_as(episode))
            begin += length
    assert len(rows[:, 0].unique(dim=0)) == len(rows[:, 1].unique(dim=0)) == 2
    assert len(rows.flatten(0, 1).unique(dim=0)) == 4


@pytest.mark.parametrize(
    ("noisy", "words"), [("episodes", ["'episode'"]), (1, ["True or False"]), ("step", ["'episode'"])]
)
def test_other_kinds_of_noise_are_refused(noisy: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match="noisy=") as error:
        make_model(make_env(), policy_kwargs=dict(LSTM, noisy=noisy))
    assert all(word in str(error.value) for word in words)


def test_no_action_is_random_once_warm_up_is_over() -> None:
    """Whatever the arguments say of ε; in warm-up all are."""
    model = make_model(
        make_env(), policy_kwargs=NOISY, exploration_initial_eps=1.0, exploration_final_eps=0.9, learning_starts=30
    )
    tosses = []
    explore = model._explore
    model._explore = lambda greedy, epsilon, *rest: tosses.append(epsilon) or explore(greedy, epsilon, *rest)  # type: ignore
    model.learn(90)
    assert tosses[:10] == [1.0] * 10 and len(tosses) == 30 and not np.any(tosses[10:])
    assert model.exploration_rate == 0.0


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
def test_predicting_greedily_is_exact(model_class: type[RecurrentDQN]) -> None:
    """The means, in training mode too; with noise only where exploring is asked for."""
    model = make_model(make_env(), model_class, NOISY)
    with th.no_grad():
        for module in model.q_net._noisy_layers:
            module.weight_sigma.fill_(5.0)
    observations, starts = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), np.ones(40, bool)
    plain = make_model(make_env(), model_class, LSTM)
    plain.q_net.load_state_dict(model.q_net.state_dict(), strict=False)
    expected, _ = plain.predict(observations, None, starts, True)
    before = model._prediction_rng.bit_generator.state
    for mode in (True, False):
        model.policy.set_training_mode(mode)
        assert np.array_equal(model.predict(observations, None, starts, True)[0], expected)
        assert np.array_equal(model.policy.predict(observations, None, starts)[0], expected)
    assert model._prediction_rng.bit_generator.state == before
    assert not np.array_equal(model.predict(observations, None, starts, False)[0], expected)


def test_the_same_seed_is_the_same_run() -> None:
    runs = [make_model(make_env(), policy_kwargs=NOISY, learning_starts=30).learn(60) for _ in range(2)]
    for one, other in zip(*(run.policy.state_dict().values() for run in runs), strict=True):
        assert th.equal(one, other)
