"""Recording: opened, nested, ended by an error, asked for what is not there."""

from types import SimpleNamespace

import pytest
import torch as th
from torch import nn

from sb3_attnmem import attention
from sb3_attnmem.attention import (
    KeyList,
    MultiHeadAttention,
    PlaceGrid,
    SpatialAttention,
    SqueezeExcitation,
    record_attention,
    set_layout,
)


class Network(nn.Module):
    """Two layers, one of them called twice when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = MultiHeadAttention(8, 2)
        self.second = MultiHeadAttention(8, 2)

    def forward(self, inputs: th.Tensor, skip: bool = False) -> th.Tensor:
        hidden = self.first(self.first(inputs))
        return hidden if skip else self.second(hidden)


INPUTS = th.randn(2, 3, 8)


def test_the_last_call_or_all_of_them() -> None:
    network = Network()
    with record_attention(network) as last:
        network(INPUTS)
    with record_attention(network, keep=None) as every:
        network(INPUTS)
        network(INPUTS)
    with record_attention(network, keep=3) as three:
        network(INPUTS)
        network(INPUTS)
    assert [len(last.calls(name)) for name in ("first", "second")] == [1, 1]
    assert [len(every.calls(name)) for name in ("first", "second")] == [4, 2]
    assert [len(three.calls(name)) for name in ("first", "second")] == [3, 2]
    assert th.equal(last["first"], every.calls("first")[-1])
    assert not th.equal(every.calls("first")[0], every.calls("first")[1])


def test_layers_that_were_not_called_are_not_in_it() -> None:
    network = Network()
    with record_attention(network) as record:
        assert dict(record) == {}
        network(INPUTS, skip=True)
    assert set(record) == {"first"} and len(record) == 1 and "second" not in record
    with pytest.raises(KeyError, match="'second' was not called while recording"):
        record["second"]
    with pytest.raises(KeyError, match="'third' is not an attention layer"):
        record["third"]
    assert repr(record) == "AttentionRecord({'first': (2, 2, 3, 3)})"


def test_nested() -> None:
    network = Network()
    with record_attention(network, keep=None) as outer:
        network(INPUTS)
        with record_attention(network.first, keep=None) as inner:
            network(INPUTS)
        network(INPUTS)
    assert len(outer.calls("first")) == 6 and len(outer.calls("second")) == 3
    assert len(inner.calls("attention")) == 2  # a layer recorded by itself has no name of its own
    assert not network.first.recording


def test_overlapping() -> None:
    """Two records need not end in the reverse order of their begin."""
    network = Network()
    first, second = record_attention(network, keep=None), record_attention(network, keep=None)
    one, two = first.__enter__(), second.__enter__()
    network(INPUTS)
    first.__exit__(None, None, None)
    network(INPUTS)
    second.__exit__(None, None, None)
    network(INPUTS)
    assert len(one.calls("second")) == 1 and len(two.calls("second")) == 2
    assert "_open_records" not in vars(network.first)


def test_an_error_ends_it() -> None:
    network = Network()
    with pytest.raises(ZeroDivisionError), record_attention(network) as record:
        network(INPUTS)
        1 / 0  # noqa: B018
    assert "_open_records" not in vars(network.first)
    assert len(record) == 2


def test_what_was_recorded_stays() -> None:
    network = Network()
    with record_attention(network) as record:
        network(INPUTS)
    before = record["first"].clone()
    network(INPUTS + 1)
    assert th.equal(record["first"], before)


def test_recorded_weights_carry_no_gradient() -> None:
    network = Network()
    with record_attention(network) as record:
        network(INPUTS).sum().backward()
    assert not any(weights.requires_grad for weights in record.values())
    assert network.first.to_queries.weight.grad is not None


def test_whatever_has_a_policy() -> None:
    network = Network()
    with record_attention(SimpleNamespace(policy=network)) as record:
        network(INPUTS)
    assert set(record) == {"first", "second"}


@pytest.mark.parametrize("model", [3, SimpleNamespace(policy=None), nn.Linear(2, 2), SimpleNamespace(policy=nn.ReLU())])
def test_nothing_to_record(model: object) -> None:
    with pytest.raises(ValueError, match=r"has no attention layers|is no nn\.Module"), record_attention(model):
        pass


def test_keep_at_least_one() -> None:
    for keep in (0, True, 1.5):
        with pytest.raises(ValueError, match=f"keep={keep}"), record_attention(Network(), keep=keep):
            pass


def test_on_grid() -> None:
    grid = PlaceGrid(2, 3, 4, 6, stride=2, field=2)
    attention, spatial, gate = MultiHeadAttention(8, 2), SpatialAttention(8, grid, n_heads=5), SqueezeExcitation(6)
    network = nn.ModuleDict(dict(attention=attention, spatial=spatial, gate=gate, other=MultiHeadAttention(8, 2)))
    set_layout(attention, grid)
    set_layout(network["other"], KeyList("entities", ("0", "1")))
    places = th.randn(2, 6, 8)
    with record_attention(network) as record:
        attention(places)
        spatial(places)
        gate(th.randn(2, 6, 3, 3))
        network["other"](th.randn(2, 2, 8))
    maps = record.on_grid("attention")
    assert maps.shape == (2, 2, 6, 2, 3)  # (B, heads, queries, H, W)
    assert th.equal(maps[1, 0, 4].flatten(), record["attention"][1, 0, 4])
    assert record.on_grid("spatial").shape == (2, 5, 2, 3)
    with record_attention(network) as record:
        attention(places[:, :1], places)
        network["other"](th.randn(2, 2, 8))
        gate(th.randn(2, 6, 3, 3))
    assert record.on_grid("attention").shape == (2, 2, 2, 3)  # one query
    for name in ("other", "gate"):
        with pytest.raises(ValueError, match="not places of an image"):
            record.on_grid(name)


def test_the_old_name_of_set_layout() -> None:
    with pytest.warns(DeprecationWarning, match="set_layout"):
        assert attention.lay_over is set_layout
    with pytest.raises(AttributeError, match="lay_oven"):
        attention.lay_oven  # noqa: B018
