"""Where a place lies in the image, and what spatial and channel attention make of places."""

from typing import Any

import pytest
import torch as th
from torch import nn

from sb3_attnmem.attention import (
    CBAM,
    LearnedPositions,
    PlaceGate,
    PlaceGrid,
    RotaryPositions,
    SpatialAttention,
    SqueezeExcitation,
    record_attention,
    spatial_basis,
)
from sb3_attnmem.attention.places import QUIET
from sb3_attnmem.extractors.image_space import ImageShape
from sb3_attnmem.extractors.trunk import TRUNKS, ConvTrunk

TRUNK_SIZES = {"nature": (84, 68), "medium": (20, 33), "small": (7, 10), "impala": (84, 68)}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_place_sees_its_box_and_nothing_else(trunk: str) -> None:
    """The pixels that a unit's gradient reaches are those that the grid names."""
    height, width = TRUNK_SIZES[trunk]
    th.manual_seed(0)
    conv = ConvTrunk(ImageShape(2, height, width, channels_last=False), trunk)
    for parameter in conv.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)  # positive, so that no ReLU hides a pixel
    image = th.rand(1, 2, height, width, requires_grad=True)
    maps, grid = conv(image), conv.grid
    assert maps.shape == (1, conv.channels, grid.height, grid.width)
    for i in {0, grid.height // 2, grid.height - 1}:
        for j in {0, grid.width // 2, grid.width - 1}:
            (gradient,) = th.autograd.grad(maps[0, :, i, j].sum(), image, retain_graph=True)
            rows, columns = gradient[0].abs().sum(0).nonzero().T
            seen = tuple(map(int, (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)))
            if trunk == "impala":  # whose pools hide all but the largest
                top, left, bottom, right = grid.box(i, j)
                assert top <= seen[0] and left <= seen[1] and seen[2] <= bottom and seen[3] <= right
            else:
                assert seen == grid.box(i, j)


def test_grid_of_nature_by_hand() -> None:
    grid = PlaceGrid.of_pixels(84, 84).after_conv(8, 4).after_conv(4, 2).after_conv(3)
    assert grid == PlaceGrid(7, 7, 84, 84, stride=8, field=36, start=0)
    assert grid.box(1, 6) == (8, 48, 44, 84) and grid.centre(0, 6) == (18, 66) and grid.n_places == 49


def test_the_impala_trunk() -> None:
    image = ImageShape(4, 84, 84, channels_last=False)
    for width, channels in ((1.0, [16, 32, 32]), (2.0, [32, 64, 64]), (0.5, [8, 16, 16])):
        trunk = ConvTrunk(image, "impala", width=width)
        assert [stage.conv.out_channels for stage in trunk.stages] == channels
        assert trunk.channels == channels[-1] and (trunk.grid.height, trunk.grid.width) == (11, 11)
        assert trunk.grid.stride == 8  # pixels: 84, 42, 21, 11
    # 15 convolutions (Espeholt et al., 2018, figure 3)
    assert sum(isinstance(module, nn.Conv2d) for module in trunk.modules()) == 15
    maps = trunk(th.rand(2, 4, 84, 84))
    assert maps.shape == (2, 16, 11, 11) and (maps >= 0).all()
    with pytest.raises(ValueError, match="trunk_width"):
        ConvTrunk(image, "impala", width=0.0)


def test_spatial_basis() -> None:
    basis = spatial_basis(5, 7, n_frequencies=3)
    assert basis.shape == (35, 8) and basis.abs().max() <= 1
    assert th.pdist(basis).min() > 0.1  # no two places alike
    across = basis.view(5, 7, 8)[..., 0]  # the lowest wave along the columns
    assert (across == across[:1]).all() and (across.diff(dim=1) < 0).all()


def test_learned_positions_are_added() -> None:
    codes = LearnedPositions(4, 8)
    assert th.equal(codes(th.zeros(2, 4, 8)), codes.weight.expand(2, 4, 8))


@pytest.mark.parametrize(
    "build",
    [
        lambda: RotaryPositions(3),
        lambda: RotaryPositions(4, base=float("nan")),
        lambda: RotaryPositions(4, base=0),
        lambda: spatial_basis(3, 3, 1),
        lambda: spatial_basis(0, 3),
        lambda: LearnedPositions(0, 4),
        lambda: LearnedPositions(3, 4.0),
    ],
)
def test_wrong_sizes_of_positions(build: Any) -> None:
    with pytest.raises(ValueError):
        build()


GRID = PlaceGrid(4, 5, 8, 10, stride=2, field=2)


def scaled(places: th.Tensor) -> th.Tensor:
    """:return: each map with a mean square of 1"""
    return places / (places.square().mean(dim=(1, 2), keepdim=True) + QUIET).sqrt()


def test_spatial_attention_reports_what_and_where() -> None:
    """A head whose query matches one channel reads that channel's place: its content and its coordinates."""
    layer = SpatialAttention(3, GRID, n_heads=1, key_dim=4)
    assert isinstance(layer.queries, nn.Parameter)
    with th.no_grad():
        layer.to_keys.weight.zero_()
        layer.to_keys.weight[0, 1] = 1.0  # keys tell channel 1
        layer.queries.zero_()
        layer.queries[0, 0] = 200.0
    places = th.zeros(2, GRID.n_places, 3)
    places[0, 7, 1], places[1, 13, 1] = 1.0, 1.0
    with record_attention(layer) as record:
        found = layer(places)
    assert record["attention"].shape == (2, 1, 4, 5)
    assert record["attention"].flatten(1).argmax(dim=1).tolist() == [7, 13]
    expected = th.cat([scaled(places)[[0, 1], [7, 13]], layer.located.basis[[7, 13]]], dim=1)
    th.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_spatial_attention_asked_by_a_state() -> None:
    layer = SpatialAttention(3, GRID, n_heads=2, query_dim=6)
    places, states = th.randn(2, GRID.n_places, 3), th.randn(2, 6)
    found = layer(places, states)
    assert found.shape == (2, layer.output_dim) and layer.output_dim == 2 * (3 + 15)
    assert not th.allclose(found, layer(places, states + 1))
    with pytest.raises(ValueError, match="pass the state that asks"):
        layer(places)
    with pytest.raises(ValueError, match="build it with query_dim"):
        SpatialAttention(3, GRID)(places, states)


@pytest.mark.parametrize("map_scaling", [1.0, 0.0])  # 0: of agents that were saved before maps were scaled
@pytest.mark.parametrize("query_dim", [None, 6])
def test_spatial_attention_is_that_of_keys_and_values(query_dim: int | None, map_scaling: float) -> None:
    """softmax(q · W v / √K) v, written out with all keys and all values, and its gradients."""
    th.manual_seed(0)
    layer = SpatialAttention(3, GRID, n_heads=2, key_dim=4, query_dim=query_dim).double()
    layer.located.map_scaling.fill_(map_scaling)
    places = th.randn(2, GRID.n_places, 3, dtype=th.double, requires_grad=True)
    state = None if query_dim is None else th.randn(2, query_dim, dtype=th.double, requires_grad=True)
    maps = scaled(places) if map_scaling else places
    values = th.cat([maps, layer.located.basis.expand(2, -1, -1)], dim=-1)
    if isinstance(layer.queries, nn.Linear):
        assert state is not None
        queries = layer.queries(state).view(2, 2, 4)
    else:
        queries = layer.queries.expand(2, -1, -1)
    scores = th.einsum("bhk,bpk->bhp", queries, layer.to_keys(values)) / 2
    expected = th.einsum("bhp,bpv->bhv", scores.softmax(dim=-1), values).flatten(1)
    found = layer(places, state)
    th.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    inputs = [places, *layer.parameters(), *([] if state is None else [state])]
    direction = th.randn_like(found)
    ours, theirs = (th.autograd.grad((output * direction).sum(), inputs) for output in (found, expected))
    for got, wanted in zip(ours, theirs, strict=True):
        th.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_recorded_spatial_weights_explain_the_output() -> None:
    layer = SpatialAttention(3, GRID, n_heads=2)
    places = th.randn(2, GRID.n_places, 3)
    with record_attention(layer) as record:
        found = layer(places)
    values = th.cat([scaled(places), layer.located.basis.expand(2, -1, -1)], dim=-1)
    th.testing.assert_close(found, (record["attention"].flatten(2) @ values).flatten(1), rtol=0, atol=1e-5)


def test_gates_are_what_scales_the_map() -> None:
    maps = th.rand(2, 16, 4, 5) + 0.1
    squeeze, cbam = SqueezeExcitation(16), CBAM(16, grid=GRID)
    with record_attention(squeeze) as record:
        scaled = squeeze(maps)
    th.testing.assert_close(scaled / maps, record["attention"][:, :, None, None].expand_as(maps))
    with record_attention(cbam) as record:
        scaled = cbam(maps)
    gates = record["channel"][:, :, None, None] * record["place"]
    th.testing.assert_close(scaled / maps, gates.expand_as(maps))
    assert record["channel"].shape == (2, 16) and record["place"].shape == (2, 1, 4, 5)
    assert record.on_grid("place").shape == (2, 1, 4, 5)


def test_squeeze_sees_means_only() -> None:
    layer, maps = SqueezeExcitation(16), th.rand(2, 16, 4, 5)
    shuffled = maps.flatten(2)[:, :, th.randperm(20)].view_as(maps)
    with record_attention(layer, keep=None) as record:
        layer(maps)
        layer(shuffled)
    th.testing.assert_close(*record.calls("attention"))


@pytest.mark.parametrize(
    "build",
    [
        lambda: PlaceGrid(0, 5, 8, 10),
        lambda: PlaceGrid(4, 5, 8, 10, stride=0),
        lambda: PlaceGrid(4, 5, 8, 10, field=1.5),
        lambda: PlaceGrid.of_pixels(True, 3),
        lambda: PlaceGrid.of_pixels(4, 4).after_conv(5),
        lambda: SqueezeExcitation(0),
        lambda: SqueezeExcitation(True),
        lambda: PlaceGate(kernel_size=-1),
        lambda: PlaceGate(kernel_size=3.0),
        lambda: SpatialAttention(3, GRID, query_dim=0),
        lambda: SpatialAttention(3, GRID, n_heads=1.5),
        lambda: SpatialAttention(float("nan"), GRID),
        lambda: CBAM(8, reduction=0),
        lambda: PlaceGate(kernel_size=4),
        lambda: SpatialAttention(3, GRID, n_heads=0),
        lambda: SpatialAttention(3, GRID, key_dim=0),
    ],
)
def test_wrong_options(build: Any) -> None:
    with pytest.raises(ValueError):
        build()
