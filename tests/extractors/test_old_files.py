"""Agents that versions before 0.2 saved, under other names of weights, are still loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.save_util import load_from_zip_file, save_to_zip_file

from sb3_attnmem.attention import SpatialAttention
from sb3_attnmem.extractors import AttentionCombinedExtractor, PlainCNN, PretrainedExtractor, RelationalCNN
from sb3_attnmem.transfer import load_pretrained
from tests.extractors.algorithms import make
from tests.extractors.cases import CASES, Case

CASE = CASES["combined"]


def old_name(name: str) -> str:
    """:return: what a weight was called"""
    return name.replace("to_kv", "to_keys_values").replace("encoders.vals.", "encoders.values_.")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Any, Path]:
    """:return: an agent, and its file as an older version wrote it"""
    model = make("DQN", CASE)
    model.learn(8)
    model.save(tmp_path / "now")
    data, params, variables = load_from_zip_file(tmp_path / "now")
    params["policy"] = {old_name(name): tensor for name, tensor in params["policy"].items()}
    assert sum("to_keys_values" in name for name in params["policy"]) > 4
    assert any("encoders.values_." in name for name in params["policy"])
    save_to_zip_file(tmp_path / "old.zip", data, params, variables)
    return model, tmp_path / "old.zip"


def test_an_agent_is_loaded(saved: tuple[Any, Path]) -> None:
    model, path = saved
    loaded = DQN.load(path, device="cpu")
    th.testing.assert_close(loaded.policy.state_dict(), model.policy.state_dict(), rtol=0, atol=0)
    loaded.set_parameters(str(path))


def test_keys_of_almost_the_same_name_keep_their_weights() -> None:
    """The new name of the one is the old name of the other."""
    keys = ("value", "val", "values", "other")
    space = spaces.Dict({key: spaces.Box(-1, 1, (2,), np.float32) for key in keys})
    saved, loaded, again = (AttentionCombinedExtractor(space, features_dim=4, embed_dim=8) for _ in range(3))
    names = saved.names
    assert len(set(names.values())) == 4 and not any("value" in name for name in names.values())
    old = {names["value"]: "value", names["val"]: "val", names["values"]: "values_", names["other"]: "other"}

    def of_old(name: str) -> str:
        first, _, rest = name.partition(".")
        module, _, tensor = rest.partition(".")
        return f"encoders.{old[module]}.{tensor}" if first == "encoders" else old_name(name)

    loaded.load_state_dict({of_old(name): tensor for name, tensor in saved.state_dict().items()})
    again.load_state_dict(loaded.state_dict())  # the new names are read as they are
    th.testing.assert_close(again.state_dict(), saved.state_dict(), rtol=0, atol=0)


def test_parts_of_an_agent_are_loaded(saved: tuple[Any, Path]) -> None:
    model, path = saved
    other = make("DQN", Case(CASE.extractor_class, CASE.space, CASE.kwargs))
    assert load_pretrained(other, path, parts="features_extractor.blocks")
    ours, theirs = (m.q_net.features_extractor.blocks.state_dict() for m in (other, model))
    th.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_weights_of_our_own_modules_are_loaded(tmp_path: Path) -> None:
    """An encoder of ours that was trained elsewhere."""
    encoder = CASES["relational-minatar-max"].build()
    state_dict = {old_name(name): tensor for name, tensor in encoder.state_dict().items()}
    th.save(state_dict, tmp_path / "encoder.pth")
    space = CASES["relational-minatar-max"].space
    extractor = PretrainedExtractor(
        space, CASES["relational-minatar-max"].build, dict(features_dim=16), weights=tmp_path / "encoder.pth"
    )
    th.testing.assert_close(extractor.module.state_dict(), encoder.state_dict(), rtol=0, atol=0)


def test_spatial_attention_of_before_maps_were_scaled(tmp_path: Path) -> None:
    """It plays, and goes on learning, as it did then; saved again, it still does."""
    model = make("DQN", CASES["spatial-atari"])
    attention = model.q_net.features_extractor.attention
    attention.located.map_scaling.zero_()  # which is how it computed
    maps = th.rand(2, attention.grid.n_places, 64)
    expected = attention(maps)
    th.testing.assert_close(expected, _without_scaling(attention, maps))
    model.save(tmp_path / "now")
    data, params, variables = load_from_zip_file(tmp_path / "now")
    for name in [name for name in params["policy"] if name.endswith("map_scaling")]:
        del params["policy"][name]
    save_to_zip_file(tmp_path / "old.zip", data, params, variables)
    loaded = DQN.load(tmp_path / "old.zip", device="cpu")
    loaded.save(tmp_path / "again")
    for one in (loaded, DQN.load(tmp_path / "again", device="cpu")):
        th.testing.assert_close(one.q_net.features_extractor.attention(maps), expected, rtol=0, atol=0)
        assert not one.q_net_target.features_extractor.attention.located.map_scaling


@pytest.mark.parametrize("build", [PlainCNN, RelationalCNN])
def test_other_maps_of_before_they_were_scaled(build: Any) -> None:
    space = spaces.Box(0, 255, (3, 24, 24), np.uint8)
    saved, loaded = (build(space, output="map") for _ in range(2))
    old = {name: tensor for name, tensor in saved.state_dict().items() if not name.endswith("map_scaling")}
    assert len(old) < len(saved.state_dict())
    loaded.load_state_dict(old)
    saved.located.map_scaling.zero_()  # which is how it computed
    images = th.rand(2, *space.shape)
    th.testing.assert_close(loaded(images), saved(images), rtol=0, atol=0)
    again = build(space, output="map")
    again.load_state_dict(loaded.state_dict())
    assert again.located.map_scaling == 0 and build(space, output="map").located.map_scaling == 1


def _without_scaling(attention: SpatialAttention, maps: th.Tensor) -> th.Tensor:
    values = th.cat([maps, attention.located.basis.expand(len(maps), -1, -1)], dim=-1)
    queries = attention.queries.expand(len(maps), -1, -1)
    return th.nn.functional.scaled_dot_product_attention(queries, attention.to_keys(values), values).flatten(1)
