"""What learns: the laws, in every algorithm."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, SAC
from torch import nn

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer import Adapters, LearningPlan, merge_adapters, set_learning
from sb3_attnmem.transfer.optimizers import SCALE
from tests.transfer.models import ALGORITHMS, Body, Drift, copy_of, in_optimizer, make, moved, online_of, values

HEADS = {"RecurrentDQN": "q_head", "DQN": "q_head", "QRDQN": "q_head", "PPO": "mlp_extractor", "A2C": "mlp_extractor"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frozen_weights_are_bit_equal_and_all_others_move(algorithm: str) -> None:
    model = make(algorithm)
    set_learning(model, freeze="features_extractor")
    online = online_of(model)
    before = copy_of(online)
    frozen = {name for name in before if "features_extractor" in name}
    model.learn(96)
    assert moved(before, online) == before.keys() - frozen
    parameters = dict(online.named_parameters())
    assert in_optimizer(model) == {weight for name, weight in parameters.items() if name not in frozen}
    assert all(weight.grad is None for name, weight in parameters.items() if name in frozen)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_freezing_all_of_it_moves(algorithm: str) -> None:
    model = make(algorithm)
    before = copy_of(online_of(model))
    model.learn(96)
    assert moved(before, online_of(model)) == before.keys(), "else the law above is empty"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frozen_parts_stay_in_eval_mode(algorithm: str) -> None:
    model = make(algorithm)
    set_learning(model, freeze="features_extractor")
    model.policy.set_training_mode(True)
    online: Any = online_of(model)
    assert online.training and not any(module.training for module in online.features_extractor.modules())
    set_learning(model, freeze="none")
    model.policy.set_training_mode(True)
    assert all(module.training for module in online.modules())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_round_trip_keeps_what_learns(algorithm: str, tmp_path: Path) -> None:
    model = make(algorithm)
    set_learning(model, freeze=1, learning_rates={HEADS[algorithm]: 0.5})
    model.learn(64)
    model.save(tmp_path / "agent")
    model.policy.save(tmp_path / "policy")
    loaded = ALGORITHMS[algorithm][0].load(tmp_path / "agent", env=model.env)
    assert moved(copy_of(model.policy), loaded.policy) == set()
    assert loaded.policy.learning == model.policy.learning == LearningPlan(1, {HEADS[algorithm]: 0.5})
    ours, theirs = (m.policy.optimizer.state_dict() for m in (model, loaded))
    th.testing.assert_close(ours["state"], theirs["state"], rtol=0, atol=0)
    assert [group[SCALE] for group in theirs["param_groups"]] == [group[SCALE] for group in ours["param_groups"]]
    online = online_of(loaded)
    before = copy_of(online)
    loaded.learn(64, reset_num_timesteps=False)
    frozen = {name for name in before if re.search(r"features_extractor\.(norm|layers\.0)", name)}
    assert len(frozen) >= 7 and moved(before, online) == before.keys() - frozen
    policy = type(model.policy).load(str(tmp_path / "policy"))
    assert policy.learning == model.policy.learning


def test_a_loaded_agent_goes_on_as_the_saved_one_would(tmp_path: Path) -> None:
    models = []
    for go_on_by in ("itself", "loading"):
        model = make("DQN")
        set_learning(model, freeze="features_extractor", learning_rates={"q_head.0": 0.1})
        model.learn(40)
        if go_on_by == "loading":
            model.save(tmp_path / "agent")
            model.save_replay_buffer(tmp_path / "buffer")
            model = DQN.load(tmp_path / "agent")
            model.load_replay_buffer(tmp_path / "buffer")
            model.set_logger(models[0].logger)
        model._current_progress_remaining = 0.5
        np.random.seed(0)
        th.manual_seed(0)
        model.train(gradient_steps=5, batch_size=8)
        models.append(model)
    assert moved(copy_of(models[0].policy), models[1].policy) == set()


def test_learning_rates_scale_what_the_schedule_says() -> None:
    """Plain gradient descent: a step is the rate times the gradient."""
    steps = {}
    for scale in (1.0, 0.25):
        model = make("DQN", learning_rate=lambda left: left, policy_kwargs=dict(optimizer_class=th.optim.SGD))
        set_learning(model, learning_rates={"q_head": scale, "q_head.2.bias": 1.0})
        model.learn(40)
        model.set_logger(model.logger)
        model._current_progress_remaining = 0.5
        before = copy_of(model.q_net)
        np.random.seed(0)
        model.policy.optimizer.zero_grad()
        model._update_learning_rate(model.policy.optimizer)
        for weight in model.q_net.parameters():
            weight.grad = th.ones_like(weight)
        model.policy.optimizer.step()
        steps[scale] = {name: (before[name] - w).mean().item() for name, w in model.q_net.named_parameters()}
        assert {group["lr"] for group in model.policy.optimizer.param_groups} == {0.5}, "SB3's rate stands there again"
    assert steps[1.0] == pytest.approx(dict.fromkeys(steps[1.0], 0.5), rel=1e-3)
    slow = {"q_net.0.weight", "q_net.0.bias", "q_net.2.weight"}
    assert steps[0.25] == pytest.approx({name: 0.125 if name in slow else 0.5 for name in steps[0.25]}, rel=1e-3)


def test_what_the_optimiser_knows_is_kept() -> None:
    model = make("DQN")
    model.learn(40)
    weight = model.q_net.q_net[0].weight
    average = model.policy.optimizer.state[weight]["exp_avg"].clone()
    set_learning(model, freeze="features_extractor")
    assert th.equal(model.policy.optimizer.state[weight]["exp_avg"], average) and average.abs().sum() > 0
    assert set(model.policy.optimizer.state) == in_optimizer(model)


def test_what_is_not_given_stays() -> None:
    model = make("DQN")
    set_learning(model, freeze="features_extractor")
    set_learning(model, learning_rates={"q_head": 2.0})
    assert model.policy.learning == LearningPlan("features_extractor", {"q_head": 2.0})
    assert not model.q_net.features_extractor.norm.weight.requires_grad


def test_models_that_share_arguments_do_not_share_plans() -> None:
    kwargs: dict[str, Any] = dict(net_arch=[4])
    first, second = (DQN("MlpPolicy", make("DQN").env, policy_kwargs=kwargs) for _ in range(2))
    set_learning(first, freeze="q_head.0")
    assert kwargs == dict(net_arch=[4]) and "learning" not in second.policy_kwargs


class Fixed(Body):
    """An extractor with a parameter that was never meant to learn."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space)
        self.norm.weight.requires_grad_(False)


def test_what_was_built_not_to_learn_never_does() -> None:
    model = make("DQN", policy_kwargs=dict(features_extractor_class=Fixed))
    for freeze in ("q_head", "none"):
        set_learning(model, freeze=freeze)
        assert not model.q_net.features_extractor.norm.weight.requires_grad
    assert model.q_net.features_extractor.norm.bias.requires_grad


def test_what_a_pretrained_extractor_holds_is_released_by_none_only() -> None:
    kwargs = dict(module=nn.Linear(3, 4), freeze="all")
    model = make("DQN", policy_kwargs=dict(features_extractor_class=PretrainedExtractor,
                                           features_extractor_kwargs=kwargs))  # fmt: skip
    weight = model.q_net.features_extractor.module.weight
    set_learning(model)
    assert not weight.requires_grad and weight not in in_optimizer(model)
    set_learning(model, freeze="q_head.0")
    assert not weight.requires_grad
    set_learning(model, freeze="none")
    assert weight.requires_grad and weight in in_optimizer(model)


def test_a_frozen_memory_lets_gradients_through() -> None:
    model = make("RecurrentDQN", policy_kwargs=dict(memory_class="lstm"))
    set_learning(model, freeze="memory")
    before = copy_of(model.q_net)
    model.learn(64)
    names = {name for name in before if not name.startswith("memory")}
    assert moved(before, model.q_net) == names
    assert model.q_net.memory.rnn.training and not model.q_net.memory.training, "cuDNN's backward pass asks for it"


def test_a_line_tells_how_many_learn(capsys: pytest.CaptureFixture[str]) -> None:
    model = make("DQN", verbose=1)
    capsys.readouterr()
    line = set_learning(model, freeze=["features_extractor", "q_head.0"])
    assert line == "18 of 200 parameters learn (9.0%)"
    assert capsys.readouterr().out == f"{line}\n"


def test_recurrent_dqn_tells_it_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    kwargs = dict(module=nn.Linear, module_kwargs=dict(in_features=3, out_features=4))
    model = make("RecurrentDQN", verbose=1, policy_kwargs=dict(features_extractor_class=PretrainedExtractor,
                                                               features_extractor_kwargs=kwargs))  # fmt: skip
    model.learn(4)
    n = sum(weight.numel() for weight in model.q_net.parameters())
    assert f"{n - 16:,} of {n:,} parameters learn" in capsys.readouterr().out
    plain = make("RecurrentDQN", verbose=1)
    plain.learn(4)
    assert "parameters learn" not in capsys.readouterr().out


WRONG: list[tuple[dict[str, Any], str]] = [
    (dict(freeze="all"), "Nothing is left to learn"),
    (dict(freeze=["features_extractor", "q_head"]), "Nothing is left to learn"),
    (dict(freeze="memry"), "'memry' means nothing here. There are features_extractor, q_head"),
    (dict(freeze="features_extractor.layer"), "Did you mean 'features_extractor.layers'?"),
    (dict(freeze=3), "freeze=3: there are 2 blocks in Body: layers.0, layers.3"),
    (dict(freeze=0), "freeze=0: there are 2 blocks"),
    (dict(freeze=True), "freeze=True"),
    (dict(freeze=1.5), "freeze=1.5: pass 'all', 'none', a number of blocks"),
    (dict(freeze=["q_head", None]), "pass 'all', 'none', a number of blocks or pattern(s)"),
    (dict(freeze=dict(all=True)), "pass 'all', 'none', a number of blocks or pattern(s)"),
    (dict(learning_rates={"q_head": 0}), "learning_rates['q_head']=0 must be a finite number above 0"),
    (dict(learning_rates={"q_head": float("nan")}), "learning_rates['q_head']=nan must be a finite number above 0"),
    (dict(learning_rates={"q_head": True}), "learning_rates['q_head']=True must be a finite number above 0"),
    (dict(learning_rates={3: 0.5}), "learning_rates has the key 3"),
    (dict(learning_rates=0.5), "learning_rates=0.5 must be a dict"),
    (dict(learning_rates={"head": 0.5}), "learning_rates: 'head' means nothing here. Did you mean 'q_head'?"),
]


@pytest.mark.parametrize("kwargs, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments_change_nothing(kwargs: dict[str, Any], message: str) -> None:
    model = make("DQN")
    optimizer, policy_class = model.policy.optimizer, type(model.policy)
    with pytest.raises(ValueError, match=re.escape(message)):
        set_learning(model, **kwargs)
    assert model.policy.optimizer is optimizer and type(model.policy) is policy_class
    assert all(weight.requires_grad for weight in model.q_net.parameters())


def test_other_algorithms_are_refused() -> None:
    with pytest.raises(ValueError, match="SACPolicy is not one of the policies whose parts are known"):
        set_learning(SAC("MlpPolicy", "Pendulum-v1", buffer_size=10), freeze="actor")


@pytest.mark.parametrize("function", [set_learning, merge_adapters])
def test_what_is_no_model_is_refused(function: Any) -> None:
    for model, complaint in (
        (None, "model=None must be a model of RecurrentDQN, DQN, QRDQN, PPO or A2C"),
        (make("DQN").policy, "must be a model of RecurrentDQN"),
        (make("DQN", _init_setup_model=False), "has no policy yet"),
    ):
        with pytest.raises(ValueError, match=complaint):
            function(model)


def test_a_number_of_blocks_may_be_numpy_s() -> None:
    model = make("DQN")
    set_learning(model, freeze=np.int64(1))  # type: ignore[arg-type]
    assert model.policy.learning == LearningPlan(1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_policy_of_before_keeps_its_class_and_its_networks_go_on(algorithm: str) -> None:
    model = make(algorithm)
    before, policy_class = model.policy, type(model.policy)
    weights, state = set(model.policy.parameters()), th.get_rng_state()
    set_learning(model, freeze="features_extractor")
    assert type(before) is policy_class and type(model.policy) is not policy_class
    assert isinstance(model.policy, policy_class) and model.policy_class is type(model.policy)
    assert set(model.policy.parameters()) == weights and th.equal(th.get_rng_state(), state)
    for name in ("q_net", "q_net_target", "quantile_net", "quantile_net_target"):
        if hasattr(model, name):
            assert getattr(model, name) is getattr(model.policy, name)
    again = model.policy
    set_learning(model, freeze="none")
    assert model.policy is again


def test_an_agent_of_version_0_1_goes_on_as_it_was() -> None:
    """Saved by that version, it names classes where they were then: ``sb3_attnmem.transfer.learning``."""
    pytest.importorskip("peft")
    model: Any = RecurrentDQN.load(Path(__file__).parent / "data" / "agent_of_0_1.zip", env=Drift())
    adapters = Adapters(targets="features_extractor", rank=2)
    assert model.policy.learning == LearningPlan(["memory", "encoder"], {"q_head": 0.5}, adapters)
    expected = [[-0.18364112, 0.45440704], [-0.18493253, 0.45237798], [-0.18667799, 0.45010060],
                [-0.18853009, 0.44789404]]  # fmt: skip
    th.testing.assert_close(values(model), th.tensor(expected))
    before = copy_of(model.q_net)
    model.learn(32, reset_num_timesteps=False)
    still = {name for name in before if name.startswith(("memory", "encoder")) or ".base_layer" in name}
    assert len(still) > 8 and moved(before, model.q_net) == before.keys() - still
