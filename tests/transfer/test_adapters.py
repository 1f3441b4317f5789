"""Low-rank adapters: they alone learn, they last, and merged they leave the agent as it was."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_attnmem import MEMORIES
from sb3_attnmem.transfer import Adapters, LearningPlan, merge_adapters, set_learning
from tests.transfer.models import ALGORITHMS, Body, copy_of, in_optimizer, make, moved, online_of, values


class Sentences(BaseFeaturesExtractor):
    """torch's own transformer: its attention reads its weights itself, and has a fast path while it only acts."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.embed = nn.Linear(1, 16)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.encoder(self.embed(observations.unsqueeze(-1))).mean(dim=1)


EXTRACTORS = {"layers": Body, "torch's transformer": Sentences}


def adapted(algorithm: str, extractor: type = Body, **kwargs: Any) -> Any:
    """:return: a model of which the extractor's adapters learn, and nothing else"""
    model = make(algorithm, policy_kwargs=dict(features_extractor_class=extractor, **kwargs))
    set_learning(model, freeze="all", adapters=dict(targets="features_extractor", rank=2))
    return model


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_only_the_adapters_move(algorithm: str, extractor: str) -> None:
    model = adapted(algorithm, EXTRACTORS[extractor])
    online = online_of(model)
    before = copy_of(online)
    model.learn(96)
    expected = {name for name in before if ".lora_" in name}
    assert expected and moved(before, online) == expected
    assert in_optimizer(model) == {weight for name, weight in online.named_parameters() if ".lora_" in name}


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saved_loaded_and_merged_the_agent_is_the_same(algorithm: str, extractor: str, tmp_path: Path) -> None:
    model = adapted(algorithm, EXTRACTORS[extractor])
    fresh = values(model)
    model.learn(96)
    learned = values(model)
    assert not th.allclose(fresh, learned, atol=1e-4)
    model.save(tmp_path / "agent")
    model_class = ALGORITHMS[algorithm][0]
    loaded: Any = model_class.load(tmp_path / "agent", env=model.env)
    assert th.equal(values(loaded), learned)
    before = copy_of(online_of(loaded))
    loaded.learn(64, reset_num_timesteps=False)
    assert moved(before, online_of(loaded)) == {name for name in before if ".lora_" in name}
    merge_adapters(model)
    th.testing.assert_close(values(model), learned, rtol=1e-4, atol=1e-5)
    plain = make(algorithm, policy_kwargs=dict(features_extractor_class=EXTRACTORS[extractor]))
    assert model.policy.state_dict().keys() == plain.policy.state_dict().keys()
    model.save(tmp_path / "merged")
    merged: Any = model_class.load(tmp_path / "merged", env=model.env)
    assert th.equal(values(merged), values(model)) and merged.policy.learning == LearningPlan()
    before = copy_of(online_of(merged))
    merged.learn(64, reset_num_timesteps=False)
    assert moved(before, online_of(merged)) == before.keys()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_new_adapters_change_nothing_yet(algorithm: str) -> None:
    model = make(algorithm)
    model.learn(64)
    before = values(model)
    set_learning(model, adapters=dict())
    assert th.equal(values(model), before)


def test_the_target_network_follows() -> None:
    model = adapted("DQN")
    online, target = (dict(net.named_parameters()) for net in (model.q_net, model.q_net_target))
    assert online.keys() == target.keys() and list(online) == list(target)
    assert all(th.equal(online[name], target[name]) for name in online)
    model.learn(96)
    changed = {name for name in online if ".lora_" in name}
    assert any(target[name].abs().sum() > 0 for name in changed if "lora_B" in name)


def test_the_head_learns_beside_adapters() -> None:
    model = make("DQN")
    set_learning(
        model, adapters=dict(targets=["features_extractor"], rank=2), learning_rates={"features_extractor": 0.5}
    )
    before = copy_of(model.q_net)
    model.learn(96)
    still = {name for name in before if "base_layer" in name}
    assert still and moved(before, model.q_net) == before.keys() - still
    scales = {group["lr_scale"]: len(group["params"]) for group in model.policy.optimizer.param_groups}
    assert scales == {0.5: 2 + 4, 1.0: 4}  # the norm and two pairs; the head


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_acting_and_training_see_the_same_adapters(extractor: str) -> None:
    """torch's transformer has a fast path, taken without gradients only, that would read past them."""
    model = adapted("DQN", EXTRACTORS[extractor])
    with th.no_grad():
        for name, weight in model.q_net.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    model.policy.set_training_mode(False)
    observations = th.randn(4, 3)
    with_gradient = model.q_net(observations)
    with th.no_grad():
        th.testing.assert_close(model.q_net(observations), with_gradient)


@pytest.mark.parametrize("memory", [name for name in MEMORIES if name not in ("none", "attentive_lstm")])
def test_every_adapter_of_a_memory_counts(memory: str) -> None:
    """Layers whose weights others read would swallow an adapter without a sound."""
    model = make("RecurrentDQN", policy_kwargs=dict(memory_class=memory, memory_kwargs={}))
    set_learning(model, freeze="all", adapters=dict(targets=["*"], rank=2))
    names = [name for name, _ in model.q_net.named_parameters() if "lora_B" in name]
    assert len([name for name in names if "memory" in name]) == 0 if memory in ("lstm", "gru") else len(names) > 4
    features, starts = th.randn(2, 5, 8), th.zeros(2, 5, dtype=th.bool)
    model.policy.set_training_mode(False)

    def run() -> th.Tensor:
        observations = model.q_net.encode(features[..., :3].flatten(0, 1)).unflatten(0, (2, 5))
        return model.q_net.q_net(model.q_net.memory(observations, model.q_net.memory.initial_state(2), starts)[0])

    with th.no_grad():
        before = run()
        for name in names:
            weight = model.q_net.get_parameter(name)
            weight.normal_()
            assert not th.equal(before, run()), name
            weight.zero_()


WRONG: list[tuple[dict[str, Any], str]] = [
    (dict(targets=["memory.rnn"]), "nothing in 'memory.rnn' (LSTM) can have one"),
    (dict(targets=["features_extractor.norm"]), "(BatchNorm1d) can have one"),
    (dict(targets="encodr"), "'encodr' means nothing here. Did you mean 'encoder'?"),
    (dict(rank=0), "rank=0 of the adapters must be an integer of at least 1"),
    (dict(alpha=0), "alpha=0 must be above 0"),
    (dict(dropout=1.0), "dropout=1.0 in [0, 1)"),
    (dict(ranks=3), "adapters has the option(s) ranks; it takes targets, rank, alpha, dropout"),
]


@pytest.mark.parametrize("adapters, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments_change_nothing(adapters: dict[str, Any], message: str) -> None:
    model = make("RecurrentDQN", policy_kwargs=dict(memory_class="lstm"))
    before = list(model.policy.state_dict())
    with pytest.raises(ValueError, match=re.escape(message)):
        set_learning(model, adapters=adapters)
    assert list(model.policy.state_dict()) == before and "learning" not in model.policy_kwargs


def test_other_adapters_only_after_merging() -> None:
    model = adapted("DQN")
    set_learning(model, learning_rates={"features_extractor": 0.5})
    with pytest.raises(ValueError, match="has other adapters: merge_adapters"):
        set_learning(model, adapters=Adapters(rank=5))
    merge_adapters(model)
    with pytest.raises(ValueError, match="has no adapters"):
        merge_adapters(model)
    set_learning(model, adapters=Adapters(rank=5))
    assert model.policy.learning.adapters.rank == 5


def test_without_peft_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("DQN")
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'sb3_attnmem[transfer]'")):
        set_learning(model, adapters={})
    set_learning(model, freeze="features_extractor")
    assert isinstance(model, DQN)
