"""What holds for every extractor, as functions that raise AssertionError."""

import copy
from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention import (
    AttentionLayer,
    ChannelGate,
    KeyList,
    PlaceGate,
    PlaceGrid,
    SpatialAttention,
    SqueezeExcitation,
    record_attention,
)
from sb3_attnmem.common.observations import n_rows, rows_of


def has_attention(extractor: nn.Module) -> bool:
    """:return: whether there is anything to record"""
    return any(isinstance(module, AttentionLayer) for module in extractor.modules())


def features_have_the_promised_shape(extractor: Any, observations: Any) -> None:
    features = extractor(observations)
    assert features.shape == (n_rows(observations), *extractor.features_shape)
    assert features[0].numel() == extractor.features_dim
    assert features.dtype == th.float32
    assert features.isfinite().all()


def observations_are_treated_one_by_one(extractor: Any, observations: Any) -> None:
    features = extractor(observations)
    last = rows_of(observations, slice(-1, None))
    th.testing.assert_close(extractor(last), features[-1:], rtol=1e-4, atol=1e-5)


def weights_are_weights_and_gates_are_gates(extractor: Any, observations: Any) -> None:
    n = n_rows(observations)
    with record_attention(extractor) as record, th.no_grad():
        extractor(observations)
    assert set(record) == {name for name, m in extractor.named_modules() if isinstance(m, AttentionLayer)}
    for name, weights in record.items():
        layer, layout = extractor.get_submodule(name), record.layouts[name]
        assert weights.shape[0] == n and not weights.requires_grad
        assert (weights >= 0).all() and (weights <= 1 + 1e-5).all()
        if isinstance(layer, SqueezeExcitation | ChannelGate):
            assert weights.dim() == 2 and layout is None  # (B, C)
        elif isinstance(layer, PlaceGate):
            assert weights.shape[1:] == (1, layout.height, layout.width)
        elif isinstance(layer, SpatialAttention):
            assert weights.shape[2:] == (layout.height, layout.width)
            th.testing.assert_close(weights.sum(dim=(2, 3)), th.ones(weights.shape[:2]))
        else:
            assert isinstance(layout, PlaceGrid | KeyList)
            n_keys = layout.n_places if isinstance(layout, PlaceGrid) else len(layout.names)
            assert weights.dim() == 4 and weights.shape[3] == n_keys
            th.testing.assert_close(weights.sum(dim=3), th.ones(weights.shape[:3]))


def recording_changes_nothing_and_leaves_nothing(extractor: Any, observations: Any) -> None:
    before = extractor(observations)
    state = copy.deepcopy(extractor.state_dict())
    attributes = {name: set(vars(module)) for name, module in extractor.named_modules()}
    with record_attention(extractor) as record:
        during = extractor(observations)
    recorded = {name: weights.clone() for name, weights in record.items()}
    after = extractor(observations * 0 if isinstance(observations, th.Tensor) else observations)
    assert th.equal(before, during)
    assert isinstance(observations, dict) or not th.equal(before, after)
    assert attributes == {name: set(vars(module)) for name, module in extractor.named_modules()}
    assert not any(module.recording for module in extractor.modules() if isinstance(module, AttentionLayer))
    assert {name: len(record.calls(name)) for name in record} == dict.fromkeys(recorded, 1)
    assert all(th.equal(record[name], weights) for name, weights in recorded.items())
    assert state.keys() == extractor.state_dict().keys()


def gradients_reach_every_parameter(extractor: Any, observations: Any) -> None:
    features = extractor(observations)
    th.manual_seed(2)
    (features * th.randn_like(features)).sum().backward()  # a plain sum is constant behind a layer norm
    starved = [
        name for name, p in extractor.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-5
    ]  # rounding alone gives 1e-6
    assert not starved, f"no gradient reaches {starved}"


def evaluation_is_deterministic(extractor: Any, observations: Any) -> None:
    extractor.eval()
    assert th.equal(extractor(observations), extractor(observations))


def training_drops_out(extractor: Any, observations: Any) -> None:
    extractor.train()
    assert not th.equal(extractor(observations), extractor(observations))
