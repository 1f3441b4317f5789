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
from sb3_attnmem.transfer.adapted_attention import AdaptedAttention
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
    (dict(rank=0), "adapters: rank=0 must be an integer of at least 1"),
    (dict(rank=float("nan")), "adapters: rank=nan must be an integer of at least 1"),
    (dict(rank=True), "adapters: rank=True must be an integer of at least 1"),
    (dict(alpha=0), "adapters: alpha=0 must be a finite number above 0"),
    (dict(alpha=float("nan")), "adapters: alpha=nan must be a finite number above 0"),
    (dict(alpha="x"), "adapters: alpha='x' must be a finite number"),
    (dict(dropout=1.0), "adapters: dropout=1.0 must be a finite number at least 0 and below 1"),
    (dict(dropout=float("nan")), "adapters: dropout=nan must be"),
    (dict(targets=[]), "adapters: targets=[] must be one or more patterns"),
    (dict(targets=""), "adapters: targets='' must be one or more patterns"),
    (dict(targets=[3]), "adapters: targets=[3] must be one or more patterns"),
    (dict(targets=None), "adapters: targets=None must be one or more patterns"),
    (dict(ranks=3), "adapters has the key 'ranks', which Adapters does not take. Did you mean 'rank'?"),
    ("features_extractor", "adapters='features_extractor' must be Adapters(…), or a dict of its options"),
]


@pytest.mark.parametrize("adapters, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments_change_nothing(adapters: Any, message: str) -> None:
    model = make("RecurrentDQN", policy_kwargs=dict(memory_class="lstm"))
    before, modes = list(model.policy.state_dict()), [module.training for module in model.policy.modules()]
    with pytest.raises(ValueError, match=re.escape(message)):
        set_learning(model, adapters=adapters)
    assert list(model.policy.state_dict()) == before and "learning" not in model.policy_kwargs
    assert [module.training for module in model.policy.modules()] == modes


class Odd(BaseFeaturesExtractor):
    """Layers that an adapter of some rank, or any adapter, does not fit: behind one that it does fit."""

    def __init__(self, observation_space: Any, grouped: bool = True) -> None:
        super().__init__(observation_space, 4)
        self.first = nn.Linear(3, 4)
        self.grouped = nn.Conv2d(4, 4, 1, groups=2) if grouped else None
        self.attention = None if grouped else nn.MultiheadAttention(4, 1, kdim=3, vdim=3, batch_first=True)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        features = self.first(observations)
        if self.grouped is not None:
            return self.grouped(features[:, :, None, None]).flatten(1)
        assert self.attention is not None
        keys = observations[:, None]
        return self.attention(features[:, None], keys, keys)[0].squeeze(1)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd")
@pytest.mark.parametrize(
    "grouped, rank, message",
    [
        (True, 3, "'features_extractor.grouped' (Conv2d) cannot have one of rank 3"),
        (False, 2, "'features_extractor.attention' (MultiheadAttention) cannot have one of rank 2"),
    ],
)
def test_a_layer_that_peft_refuses_is_told_before_any_other_is_changed(grouped: bool, rank: int, message: str) -> None:
    kwargs = dict(features_extractor_class=Odd, features_extractor_kwargs=dict(grouped=grouped))
    model = make("DQN", policy_kwargs=kwargs)
    before, state = copy_of(model.policy), th.get_rng_state()
    with pytest.raises(ValueError, match=re.escape(message)):
        set_learning(model, adapters=dict(targets="features_extractor", rank=rank))
    assert moved(before, model.policy) == set() and th.equal(th.get_rng_state(), state)
    model.learn(32)


def test_adapters_that_are_not_finite_are_not_merged() -> None:
    model = adapted("DQN", Sentences)
    with th.no_grad():
        next(weight for name, weight in model.q_net.named_parameters() if "lora_B" in name).fill_(float("nan"))
    before = list(model.policy.state_dict())
    with pytest.raises(ValueError, match=r"features_extractor.*lora_B.* is not finite, so the adapters cannot be"):
        merge_adapters(model)
    assert list(model.policy.state_dict()) == before


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd")
def test_an_adapter_that_peft_cannot_merge_is_told_before_any_other_is_merged() -> None:
    model = make("DQN", policy_kwargs=dict(features_extractor_class=Odd))
    set_learning(model, adapters=dict(targets="features_extractor", rank=2))
    before = copy_of(model.policy)
    with pytest.raises(ValueError, match=r"The adapter of 'features_extractor.grouped' cannot be merged"):
        merge_adapters(model)
    assert moved(before, model.policy) == set() and model.policy.learning.adapters is not None


def test_attention_is_adapted_without_writing_its_weights() -> None:
    model = adapted("DQN", Sentences)
    attention = model.q_net.features_extractor.encoder.layers[0].self_attn
    assert isinstance(attention, AdaptedAttention) and type(attention).__module__.startswith("sb3_attnmem")
    weight = attention.in_proj_weight
    model.learn(32)
    assert attention.in_proj_weight is weight


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
