"""What is taken from an environment and a record: pictures, names, weights."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_attnmem.attention import AttentionLayer, KeyList, record_attention
from sb3_attnmem.extractors import AttentionCombinedExtractor
from sb3_attnmem.inspection.film.episodes import action_names
from sb3_attnmem.inspection.film.views import view_of
from sb3_attnmem.inspection.observed import Observed, shrunk
from tests.inspection.film_toys import Noise, look_into, make


def test_the_image_of_a_dict_is_found_for_its_layer() -> None:
    space = spaces.Dict(left=spaces.Box(0, 255, (3, 7, 7), np.uint8), right=spaces.Box(0, 255, (3, 7, 7), np.uint8))
    episode = look_into(make(DQN, Noise(space), AttentionCombinedExtractor, "MultiInputPolicy"), Noise(space))
    assert sorted(episode.keys.values()) == ["left", "right"]
    assert all(f".{key}." in layer for layer, key in episode.keys.items())
    assert set(episode.steps[0].seen.pictures) == {"left", "right"}


def test_pictures_of_observations() -> None:
    minatar = spaces.Box(0, 1, (10, 10, 4), np.bool_)
    one = np.zeros((10, 10, 4), bool)
    one[2, 3, 1] = True
    picture = Observed(minatar).picture(one, "")
    assert picture.shape == (10, 10, 3) and picture[2, 3].tolist() == [255] * 3 and picture.sum() == 3 * 255
    stack = np.zeros((4, 84, 84), np.uint8)
    stack[-1] = 70
    assert (Observed(spaces.Box(0, 255, (4, 84, 84), np.uint8)).picture(stack, "") == 70).all(), "the newest frame"
    floats = spaces.Box(-np.inf, np.inf, (3, 8, 8), np.float32)
    values = np.linspace(-3, 5, 192).reshape(3, 8, 8)
    assert Observed(floats).picture(values, "").max() == 255 and Observed(floats).picture(values, "").min() == 0
    assert Observed(spaces.Box(-1, 1, (4,))).table(np.arange(4.0)).shape == (1, 4)
    symbols = np.zeros((3, 7, 7), np.uint8)
    symbols[:, 0, 0] = 10, 5, 2  # MiniGrid's, transposed by SB3
    assert Observed(spaces.Box(0, 255, (3, 7, 7), np.uint8)).picture(symbols, "")[0, 0].tolist() == [250, 125, 50]
    large = np.zeros((400, 600, 3), np.uint8)
    large[:, 300:] = 200
    small = shrunk(large, 300)
    assert small.shape == (200, 300, 3) and small[:, 149].max() == 0 and small[:, 150].min() == 200


def test_actions_have_the_names_that_the_environment_gives() -> None:
    class Named(Noise):
        def get_action_meanings(self) -> list[str]:
            return ["NOOP", "UP", "DOWN"]

    assert action_names(DummyVecEnv([Named]), 3) == ("0 noop", "1 up", "2 down")
    assert action_names(DummyVecEnv([Named]), 4) == ("0", "1", "2", "3"), "another number of them: a wrapper's actions"
    assert action_names(DummyVecEnv([Noise]), 3) == ("0", "1", "2")


def test_heads_side_by_side() -> None:
    layer = AttentionLayer()
    layer.layout = KeyList("entities", ("0", "1"))
    weights = th.tensor([[[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [1.0, 0.0]]]])
    with record_attention(layer) as record:
        layer.record(weights)
    assert view_of(record, "attention", "max")[1] == pytest.approx(np.array([[0.9, 0.5], [1.0, 0.8]]))
    assert view_of(record, "attention", "mean")[1] == pytest.approx(np.array([[0.7, 0.3], [0.6, 0.4]]))
    view, tiled = view_of(record, "attention", "tile")
    assert tiled[:, 3:] == pytest.approx(np.array([[0.5, 0.5], [1.0, 0.0]])) and np.isnan(tiled[:, 2]).all()
    assert view.columns == ("0", "1", "", "0", "1")
