"""A film lights up what the extractor looked at, however the image lies: channels first or last, wide or high."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from matplotlib.figure import Figure
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from torch.nn import functional as F

from sb3_attnmem import RecurrentDQN, attention_overlay
from sb3_attnmem.attention import AttentionLayer, PlaceGrid, set_layout
from sb3_attnmem.extractors import AttentionCombinedExtractor, FrameAttention, PatchTransformer
from sb3_attnmem.extractors.base import AttentionExtractor
from sb3_attnmem.extractors.image_space import read_image_space
from sb3_attnmem.inspection.common import check_env
from sb3_attnmem.inspection.film.picture_panels import MapPanel
from sb3_attnmem.inspection.memory.playing import FullMemory, play_episodes
from sb3_attnmem.inspection.memory.trace import trace_episode
from sb3_attnmem.inspection.memory.trace_pictures import film_picture
from sb3_attnmem.inspection.observed import Observed, shapes_read
from tests.inspection.film_toys import Noise, look_into, make

pytestmark = pytest.mark.filterwarnings("ignore:Treating image space as channels-last")

#: Pixels on a side of a place
SIDE = 4


class Beacon(gym.Env):
    """
    A dark image with one bright block, elsewhere at each step.

    :param shape: of the image
    :param channels_last: whether its last axis is that of the channels
    :param dtype: uint8 (0 to 255), bool or float32 (0 to 1)
    """

    render_mode = None

    def __init__(self, shape: tuple[int, ...], channels_last: bool, dtype: Any) -> None:
        high = 255 if dtype == np.uint8 else 1
        self.observation_space = spaces.Box(0, high, shape, dtype)
        self.action_space = spaces.Discrete(2)
        self.high, self.channels_last = high, channels_last
        self.rows, self.columns = (side // SIDE for side in (shape[:2] if channels_last else shape[1:]))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.n_steps = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.n_steps += 1
        return self._show(), 0.0, self.n_steps == 6, False, {}

    def _show(self) -> np.ndarray:
        image = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        row, column = self.place = int(self.np_random.integers(self.rows)), int(self.np_random.integers(self.columns))
        block = (slice(row * SIDE, (row + 1) * SIDE), slice(column * SIDE, (column + 1) * SIDE))
        image[(*block, slice(None)) if self.channels_last else (slice(None), *block)] = self.high
        return image


class Finder(AttentionExtractor):
    """
    Looks at the place below and to the right of the brightest one.

    :param observation_space: an image
    :param channels: which axis holds the channels
    """

    def __init__(self, observation_space: spaces.Space, channels: str = "auto") -> None:
        super().__init__(observation_space, features_dim=2)
        self.image = read_image_space(observation_space, channels)
        self.attention = AttentionLayer()
        grid = PlaceGrid.of_pixels(self.image.height, self.image.width).after_conv(SIDE, stride=SIDE)
        self.scale = th.nn.Parameter(th.ones(2))
        set_layout(self, grid)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        images = self.image.channels_first(observations.float())
        light = F.avg_pool2d(images.mean(dim=1, keepdim=True), SIDE)  # (B, 1, H, W)
        beside = light.roll((1, 1), dims=(2, 3)).flatten(1)
        weights = F.one_hot(beside.argmax(dim=1), beside.shape[1]).float()
        self.attention.record(weights.view(len(images), 1, 1, -1))
        return self.scale * light.flatten(1)[:, :2]


IMAGES = [
    ((12, 24, 3), True, np.uint8, {}),  # SB3 transposes it
    ((24, 12, 3), True, np.uint8, {}),
    ((3, 12, 24), False, np.uint8, {}),
    ((12, 24, 5), True, np.float32, {}),
    ((5, 24, 12), False, np.float32, {}),
    ((12, 24, 6), True, np.bool_, {}),
    ((8, 20, 9), True, np.uint8, dict(channels="last")),  # SB3 leaves it: its first axis is the smallest
    ((16, 12, 24), True, np.uint8, dict(channels="first")),  # more channels than rows: (24, 16, 12) to the agent
    ((8, 8, 8), True, np.float32, dict(channels="last")),  # a cube, which tells nothing
    ((8, 8, 8), False, np.float32, dict(channels="first")),
]


@pytest.mark.parametrize(
    "algorithm, image", [*((DQN, image) for image in IMAGES), *((one, IMAGES[0]) for one in (PPO, QRDQN, RecurrentDQN))]
)
def test_what_was_looked_at_is_lit(algorithm: type, image: tuple[tuple[int, ...], bool, Any, dict[str, str]]) -> None:
    *arguments, options = image
    shown = Beacon(*arguments)
    policy = "CnnPolicy" if shown.high == 255 else "MlpPolicy"
    filmed = look_into(
        make(algorithm, Beacon(*arguments), Finder, policy, extractor_kwargs=options), Beacon(*arguments)
    )
    (view,) = filmed.views
    pictures = [step.seen.pictures[""] for step in filmed.steps]
    weights = [step.seen.weights[view.layer] for step in filmed.steps]
    panel = MapPanel(Figure().subplots(), view, pictures, weights)
    shown.reset(seed=0)
    beacons = set()
    for t, picture in enumerate(pictures):
        beacons.add(shown.place)
        assert picture.shape == (shown.rows * SIDE, shown.columns * SIDE, 3)
        assert brightest(block_means(picture, SIDE)) == shown.place
        panel.show(t)
        place = (shown.place[0] + 1) % shown.rows, (shown.place[1] + 1) % shown.columns
        gain = block_means(panel.image.get_array(), SIDE * panel.zoom) - block_means(picture, SIDE)
        assert brightest(gain) == place
        left, top = panel.box.get_xy()
        assert (round((top + 0.5) / panel.zoom) // SIDE, round((left + 0.5) / panel.zoom) // SIDE) == place
        shown.step(0)
    assert len(beacons) > 2


def brightest(numbers: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(numbers.argmax(), numbers.shape)
    return int(row), int(column)


def block_means(image: np.ndarray, side: int) -> np.ndarray:
    """:return: (rows, columns), the mean of each block"""
    height, width = image.shape[:2]
    return image.astype(float).reshape(height // side, side, width // side, side, -1).mean(axis=(1, 3, 4))


@pytest.mark.parametrize("place", [(0, 0), (7, 0), (0, 5), (7, 5), (3, 4)])
def test_patches_that_hang_over_the_edge_are_lit_where_they_lie(place: tuple[int, int]) -> None:
    extractor = PatchTransformer(spaces.Box(0, 255, (3, 50, 41), np.uint8), features_dim=8, patch_size=7)
    assert (extractor.grid.height, extractor.grid.width) == (8, 6)
    weights = np.zeros((8, 6))
    weights[place] = 1.0
    picture = attention_overlay(np.zeros((50, 41), np.uint8), weights, extractor.grid, strength=1.0)
    expected = np.zeros((50, 41), bool)
    expected[7 * place[0] : 7 * place[0] + 7, 7 * place[1] : 7 * place[1] + 7] = True
    np.testing.assert_array_equal(picture[..., 0] > 0, expected)


def test_the_middle_of_a_patch_that_hangs_over_the_edge_is_in_the_picture() -> None:
    """22 = 3 * 7 + 1: of the last patches one pixel lies in the image."""
    space = spaces.Box(0, 255, (3, 22, 22), np.uint8)
    options = dict(output="map", patch_size=7, embed_dim=8, n_heads=1, n_layers=1)
    memory = dict(memory_class="attentive_lstm", memory_kwargs=dict(hidden_size=8))
    model = make(RecurrentDQN, Noise(space), PatchTransformer, extractor_kwargs=options, **memory)
    filmed = look_into(model, Noise(space), max_steps=1)
    view = next(view for view in filmed.views if ".memory." in view.layer)
    weights = np.zeros((1, 4, 4))
    weights[0, 3, 3] = 1.0
    panel = MapPanel(Figure().subplots(), view, [step.seen.pictures[""] for step in filmed.steps], [weights])
    panel.show(0)
    assert panel.trail.get_xdata()[-1] / panel.zoom <= 22 and panel.trail.get_ydata()[-1] / panel.zoom <= 22
    assert panel.box.get_width() == panel.box.get_height() == panel.zoom


def test_the_newest_frame_of_a_stack_is_shown_as_the_extractor_reads_it() -> None:
    """Three grey frames are no colours; of colour frames the newest three channels are one."""
    for shape, n_frames, expected in (((3, 20, 30), 3, [30, 30, 30]), ((6, 20, 30), 2, [40, 50, 60])):
        space = spaces.Box(0, 255, shape, np.uint8)
        extractor = FrameAttention(space, features_dim=8, n_frames=n_frames, channels="first")
        stack = np.zeros(shape, np.uint8)
        stack[:] = 10 * np.arange(1, shape[0] + 1, dtype=np.uint8)[:, None, None]
        shapes = shapes_read(th.nn.ModuleDict({"features_extractor": extractor}))
        assert Observed(space, shapes).picture(stack, "")[0, 0].tolist() == expected


def test_each_image_of_a_dict_lies_as_its_own_extractor_reads_it() -> None:
    space = spaces.Dict(left=spaces.Box(0, 1, (8, 8, 8), np.float32), right=spaces.Box(0, 1, (8, 8, 8), np.float32))
    parts = {"left": Finder(space["left"], "first"), "right": Finder(space["right"], "last")}
    observed = Observed(space, shapes_read(th.nn.ModuleDict({"encoders": th.nn.ModuleDict(parts)})))
    image = np.zeros((8, 8, 8), np.float32)
    image[1, 2] = 1.0  # channel 1, row 2; or row 1, column 2
    grid = PlaceGrid.of_pixels(8, 8)
    left = observed.picture(dict(left=image, right=image), "left", grid, "encoders.left.attention")
    right = observed.picture(dict(left=image, right=image), "right", grid, "encoders.right.attention")
    assert np.argwhere(left.any(axis=2)).tolist() == [[2, column] for column in range(8)]
    assert np.argwhere(right.any(axis=2)).tolist() == [[1, 2]]


def test_a_report_shows_images_as_the_extractor_reads_them() -> None:
    """(16, 12, 24) comes as (24, 16, 12): its first axis is the largest, and still that of the channels."""
    arguments = (16, 12, 24), True, np.uint8
    model = make(RecurrentDQN, Beacon(*arguments), Finder, extractor_kwargs=dict(channels="first"))
    model.policy.set_training_mode(False)
    env = check_env(model, Beacon(*arguments))
    (episode,) = play_episodes(model, env, FullMemory(model.q_net), 1, 0, 9, lambda n: None, keep=True).episodes
    figure = film_picture(trace_episode(model, episode, 9))
    shown = Beacon(*arguments)
    shown.reset(seed=0)
    images = [axes.images[0].get_array() for axes in figure.axes]
    assert len(images) == 6
    for image in images:
        assert image.shape == (16, 12) and brightest(block_means(image[..., None], SIDE)) == shown.place
        shown.step(0)


@pytest.mark.parametrize("keys", [("other.map", "value.map"), ("a.b", "a_b"), ("items", "keys")])
def test_an_image_is_found_by_its_module_whose_name_is_not_quite_the_key_s(keys: tuple[str, str]) -> None:
    image = spaces.Box(0, 255, (3, 8, 8), np.uint8)
    space = spaces.Dict(dict.fromkeys(keys, image))
    extractor = AttentionCombinedExtractor(space, features_dim=4, embed_dim=8)
    grid, observed = PlaceGrid.of_pixels(8, 8), Observed(space)
    assert [observed.key_of(grid, f"encoders.{name}.attention") for name in extractor.encoders] == list(keys)
