"""The laws of all extractors, and planted mistakes that they must find."""

from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from torch import nn

from sb3_attnmem.attention import multi_head, record
from sb3_attnmem.extractors import EXTRACTORS
from tests.extractors import laws
from tests.extractors.cases import CASES, Case

LAWS = [
    laws.features_have_the_promised_shape,
    laws.observations_are_treated_one_by_one,
    laws.gradients_reach_every_parameter,
    laws.evaluation_is_deterministic,
]
WEIGHT_LAWS = [laws.weights_are_weights_and_gates_are_gates, laws.recording_changes_nothing_and_leaves_nothing]
PLAIN = [name for name, case in CASES.items() if not laws.has_attention(case.build())]
DROPPING = [name for name, case in CASES.items() if case.has_dropout]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_law(case: Case, law: Callable[[Any, Any], None]) -> None:
    law(case.build(), case.observations())


@pytest.mark.parametrize("law", WEIGHT_LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", [name for name in CASES if name not in PLAIN])
def test_law_of_weights(name: str, law: Callable[[Any, Any], None]) -> None:
    law(CASES[name].build(), CASES[name].observations())


@pytest.mark.parametrize("name", DROPPING)
def test_dropout_is_on_in_training_only(name: str) -> None:
    extractor = CASES[name].build(dropout=0.5)
    laws.training_drops_out(extractor, CASES[name].observations())
    laws.evaluation_is_deterministic(extractor, CASES[name].observations())


def test_every_extractor_has_a_case() -> None:
    assert {case.extractor_class for case in CASES.values()} == set(EXTRACTORS.values())


def test_only_the_plain_cnns_have_no_attention() -> None:
    assert PLAIN == ["plain-minatar", "plain-map", "impala-atari", "impala-map"]


# ---- planted mistakes ------------------------------------------------------------------------------------------------


def softmax_over_queries(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_head, "attention_weights", lambda q, k, mask=None: (q @ k.mT).softmax(dim=-2))


def raw_scores(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi_head, "attention_weights", lambda q, k, mask=None: q @ k.mT)


def unrecorded_layer(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor.pool.attention.record = lambda weights: None


def lost_layout(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor.pool.attention.layout = None


def record_never_closes(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_close", lambda layer, calls: None)


def recorded_path_differs(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = extractor.pool.attention
    layer.register_forward_hook(lambda module, args, output: output + 1e-3 if module.recording else None)


def unused_parameter(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor.unused = nn.Parameter(th.ones(3))


def key_bias(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax cancels a bias of the keys: it would be a parameter that never learns."""
    layer = extractor.pool.attention
    layer.key_bias = nn.Parameter(th.zeros(16))
    split, calls = layer._split, []

    def with_bias(features: th.Tensor) -> th.Tensor:
        calls.append(None)
        return split(features + layer.key_bias if len(calls) % 3 == 2 else features)  # queries, keys, values

    layer._split = with_bias


def dropout_while_acting(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = extractor.pool.attention
    layer.dropout = 0.5
    layer.register_forward_pre_hook(lambda module, args: module.train() and None)


def batch_norm(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixes the observations of a batch."""
    extractor.pool.register_forward_hook(lambda module, args, output: output - output.mean(dim=0))


def wrong_width(extractor: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor._features_dim = extractor._features_dim + 1


@pytest.mark.parametrize(
    "plant, law",
    [
        (softmax_over_queries, laws.weights_are_weights_and_gates_are_gates),
        (raw_scores, laws.weights_are_weights_and_gates_are_gates),
        (unrecorded_layer, laws.weights_are_weights_and_gates_are_gates),
        (lost_layout, laws.weights_are_weights_and_gates_are_gates),
        (record_never_closes, laws.recording_changes_nothing_and_leaves_nothing),
        (recorded_path_differs, laws.recording_changes_nothing_and_leaves_nothing),
        (unused_parameter, laws.gradients_reach_every_parameter),
        (key_bias, laws.gradients_reach_every_parameter),
        (dropout_while_acting, laws.evaluation_is_deterministic),
        (batch_norm, laws.observations_are_treated_one_by_one),
        (wrong_width, laws.features_have_the_promised_shape),
    ],
    ids=lambda function: function.__name__,
)
def test_a_planted_mistake_is_found(plant: Any, law: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, observations = CASES["entities"].build(), CASES["entities"].observations()
    law(extractor, observations)
    extractor.zero_grad()
    plant(extractor, monkeypatch)
    with pytest.raises(AssertionError):
        law(extractor, observations)
