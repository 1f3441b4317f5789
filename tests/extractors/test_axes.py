"""Through Stable-Baselines3's own models, an extractor sees each pixel at its row, its column and its channel."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_attnmem import RecurrentDQN, record_attention
from sb3_attnmem.extractors import AttentionCombinedExtractor, FrameAttention, PlainCNN, SpatialAttentionCNN
from sb3_attnmem.extractors.image_space import read_image_space

SMALL: dict[str, Any] = dict(features_dim=4, trunk=[(4, 2)])


class Numbered(gym.Env):
    """
    Every pixel of every channel has a number of its own, and every step others.

    :param shape: (height, width, channels)
    :param first: whether the observations have their channels first
    :param dtype: of the observations
    :param key: of a Dict observation that holds the image; None: the image is the observation
    """

    def __init__(self, shape: tuple[int, ...], first: bool = False, dtype: Any = np.uint8, key: str | None = None):
        self.shape, self.first, self.key = shape, first, key
        self.scale = 1 if dtype == np.uint8 else 255
        made = (shape[2], *shape[:2]) if first else shape
        space = spaces.Box(0, 255 if dtype == np.uint8 else 1, made, dtype)
        self.observation_space = space if key is None else spaces.Dict({key: space, "other": spaces.Discrete(2)})
        self.action_space = spaces.Discrete(2)

    def image(self, t: int) -> np.ndarray:
        """:return: (height, width, channels) of step t, from 1 to 255"""
        return ((np.arange(np.prod(self.shape)).reshape(self.shape) * 37 + 11 * t) % 255 + 1).astype(np.uint8)

    def _observation(self) -> Any:
        image = self.image(self.t)
        image = image.transpose(2, 0, 1) if self.first else image
        image = image if self.scale == 1 else (image / self.scale).astype(np.float32)
        return image if self.key is None else {self.key: image, "other": 0}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        self.t = 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self._observation(), 0.0, False, False, {}


class Probe(PlainCNN):
    """Keeps what it saw, channels first."""

    def forward(self, observations: th.Tensor) -> th.Tensor:
        self.seen = self.image.channels_first(observations)
        return super().forward(observations)


def model_of(algorithm: str, env: VecEnv, extractor: type = Probe, **kwargs: Any) -> Any:
    """:return: a model whose extractor is ``extractor``"""
    policy_kwargs = dict(features_extractor_class=extractor, features_extractor_kwargs=kwargs or SMALL, net_arch=[4])
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "CnnPolicy"
    if algorithm == "PPO":
        return PPO(policy, env, n_steps=2, batch_size=2, policy_kwargs=policy_kwargs, device="cpu")
    algorithm_class = {"DQN": DQN, "RecurrentDQN": RecurrentDQN}[algorithm]
    return algorithm_class(policy, env, buffer_size=64, policy_kwargs=policy_kwargs, device="cpu")


def is_seen_where_it_is(algorithm: str, env: VecEnv, n_stack: int = 1, **kwargs: Any) -> bool:
    """:return: whether the model's extractor sees the last ``n_stack`` images of ``Numbered``, oldest first"""
    model = model_of(algorithm, env, **kwargs)
    venv = model.get_env()
    observations = venv.reset()
    for _ in range(n_stack - 1):
        observations = venv.step(np.zeros(1, int))[0]
    model.predict(observations, deterministic=True)
    (probe,) = {m for m in model.policy.modules() if isinstance(m, Probe) and hasattr(m, "seen")}
    (numbered,) = venv.get_attr("unwrapped")
    images = [numbered.image(t).transpose(2, 0, 1) for t in range(n_stack)]
    expected = th.as_tensor(np.concatenate(images)).float()[None] / 255
    return probe.seen.shape == expected.shape and th.allclose(probe.seen, expected, rtol=0, atol=1e-5)


def vec(shape: tuple[int, ...], n_stack: int = 1, order: str | None = None, **kwargs: Any) -> VecEnv:
    """:return: one ``Numbered``, stacked"""
    env: VecEnv = DummyVecEnv([lambda: Numbered(shape, **kwargs)])
    return VecFrameStack(env, n_stack, channels_order=order) if n_stack > 1 else env


# (height, width, channels) whose height is not the smallest: Stable-Baselines3 puts the channels first
TRANSPOSED = [
    (9, 7, 20),
    (20, 9, 7),
    (12, 11, 6),
    (11, 12, 6),
    (12, 11, 12),
    (64, 8, 9),
    (8, 5, 4),
    (8, 3, 20),
    (40, 40, 3),
]


@pytest.mark.parametrize("shape", TRANSPOSED, ids=str)
def test_what_stable_baselines3_has_transposed_is_left_so(shape: tuple[int, ...]) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Treating image space as channels-last")  # Stable-Baselines3's
        assert is_seen_where_it_is("DQN", vec(shape))


@pytest.mark.parametrize("algorithm", ["DQN", "PPO", "RecurrentDQN"])
@pytest.mark.parametrize(
    ("shape", "n_stack"), [((9, 7, 3), 4), ((12, 11, 6), 2), ((64, 8, 3), 3), ((7, 7, 3), 4), ((10, 10, 1), 4)], ids=str
)
def test_stacks_of_small_grids(shape: tuple[int, ...], n_stack: int, algorithm: str) -> None:
    assert is_seen_where_it_is(algorithm, vec(shape, n_stack), n_stack)


@pytest.mark.parametrize("shape", [(9, 7, 3), (7, 9, 3), (12, 11, 4), (8, 8, 8), (30, 30, 12)], ids=str)
def test_channels_that_come_first(shape: tuple[int, ...]) -> None:
    skipped = VecTransposeImage(vec(shape, first=True), skip=True)  # whatever the shape, nothing is transposed
    for env in [skipped] if shape[2] >= min(shape[:2]) else [skipped, vec(shape, first=True)]:
        channels = "first" if shape == (8, 8, 8) else "auto"
        assert is_seen_where_it_is("DQN", env, **SMALL, channels=channels)
    stacked = vec(shape, 3, "first", first=True)
    assert is_seen_where_it_is("DQN", VecTransposeImage(stacked, skip=True), 3)


def test_a_transposed_image_is_stacked_above_as_below() -> None:
    assert is_seen_where_it_is("DQN", VecFrameStack(VecTransposeImage(vec((9, 7, 3))), 4), 4)
    assert is_seen_where_it_is("DQN", VecTransposeImage(vec((9, 7, 3), 4)), 4)


@pytest.mark.parametrize(
    ("shape", "first", "channels"),
    [
        ((10, 10, 6), False, "auto"),
        ((10, 10, 12), False, "auto"),
        ((9, 7, 20), False, "auto"),
        ((12, 9, 5), False, "auto"),
        ((9, 7, 3), True, "auto"),
        ((9, 7, 12), True, "first"),
        ((5, 7, 12), False, "last"),
        ((10, 10, 10), False, "last"),
    ],
    ids=str,
)
def test_floats_come_as_they_were_made(shape: tuple[int, ...], first: bool, channels: str) -> None:
    assert is_seen_where_it_is("DQN", vec(shape, first=first, dtype=np.float32), **SMALL, channels=channels)


def test_the_argument_decides_where_both_are_possible() -> None:
    low = (5, 7, 12)  # lower than it has channels: not transposed, as if its rows were channels
    with pytest.warns(UserWarning, match=r"5 channels \(first\) of 7×12 pixels: its first axis.*pass channels='last'"):
        assert not is_seen_where_it_is("DQN", vec(low))
    assert is_seen_where_it_is("DQN", vec(low), **SMALL, channels="last")
    assert is_seen_where_it_is("DQN", vec((7, 12, 5), first=True), **SMALL, channels="first")


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((7, 7, 12), r"12 channels \(last\) of 7×7 pixels: a square image with more channels than rows"),
        ((9, 7, 20), r"9 channels \(first\) of 7×20 pixels: .*skip=True.* channels='last'"),
        ((7, 7, 3), r"3 channels \(last\) of 7×7 pixels: Stable-Baselines3 has not transposed it"),
        ((210, 160, 3), r"3 channels \(last\) of 210×160 pixels: Stable-Baselines3 has not transposed it"),
    ],
    ids=str,
)
def test_what_was_assumed_is_said(shape: tuple[int, ...], said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        SpatialAttentionCNN(spaces.Box(0, 255, shape, np.uint8), **SMALL)


@pytest.mark.parametrize("shape", [(4, 84, 84), (12, 84, 84), (3, 210, 160), (12, 210, 160), (3, 7, 7), (20, 9, 7)])
def test_nothing_is_said_where_nothing_is_assumed(shape: tuple[int, ...]) -> None:
    assert read_image_space(spaces.Box(0, 255, shape, np.uint8)).doubt == ""


def test_the_number_of_frames_tells_the_axis() -> None:
    """5 rows of 7 columns, four frames of 3 colours: 5 cannot hold four frames."""
    space = spaces.Box(0, 255, (5, 7, 12), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stack = FrameAttention(space, n_frames=4, trunk=[(4, 2)]).stack
    assert str(stack.frame) == "3 channels (last) of 5×7 pixels"


@pytest.mark.parametrize("algorithm", ["DQN", "RecurrentDQN"])
def test_frame_attention_cuts_small_grids(algorithm: str) -> None:
    model = model_of(algorithm, vec((9, 7, 3), 4), FrameAttention, n_frames=4, trunk=[(4, 2)])
    assert str(model.q_net.features_extractor.stack.frame) == "3 channels (first) of 9×7 pixels"


def test_images_among_the_keys_of_a_dict() -> None:
    env = vec((9, 7, 20), key="grid")
    options = dict(image_class=Probe, image_kwargs=dict(trunk=[(4, 2)]), embed_dim=8, features_dim=4)
    assert is_seen_where_it_is("DQN", env, extractor=AttentionCombinedExtractor, **options)


def test_unscaled_images_are_transposed_all_the_same() -> None:
    policy_kwargs = dict(
        normalize_images=False, features_extractor_class=Probe, features_extractor_kwargs=dict(SMALL), net_arch=[4]
    )
    model = DQN("CnnPolicy", vec((9, 7, 20)), buffer_size=8, policy_kwargs=policy_kwargs)
    assert str(model.q_net.features_extractor.image) == "20 channels (first) of 9×7 pixels"


def test_normalised_images_come_as_the_wrappers_below_made_them() -> None:
    """``VecNormalize`` makes floats of them, which Stable-Baselines3 does not transpose any more."""
    env = VecNormalize(VecTransposeImage(vec((9, 7, 4))), norm_reward=False)
    options = dict(SMALL, normalized_image=True)
    model = model_of("DQN", env, **options)
    assert str(model.q_net.features_extractor.image) == "4 channels (first) of 9×7 pixels"
    model = model_of("DQN", VecNormalize(vec((9, 7, 4)), norm_reward=False), **options)
    assert str(model.q_net.features_extractor.image) == "4 channels (last) of 9×7 pixels"


@pytest.mark.parametrize("shape", [(9, 7, 20), (64, 8, 9)], ids=str)
def test_a_head_that_follows_a_channel_is_drawn_at_its_pixel(shape: tuple[int, ...]) -> None:
    """One pixel of one channel is bright; attention to that channel lies over its row and its column."""
    model = model_of("DQN", vec(shape), SpatialAttentionCNN, features_dim=4, n_heads=1, trunk=[(shape[2], 1)])
    extractor, (row, column, channel) = model.q_net.features_extractor, (5, 3, 4)
    with th.no_grad():
        extractor.trunk.stages[0].conv.weight.copy_(th.eye(shape[2])[..., None, None])
        extractor.trunk.stages[0].conv.bias.zero_()
        extractor.attention.to_keys.weight.zero_()
        extractor.attention.to_keys.weight[0, channel] = 1.0
        extractor.attention.queries.fill_(100.0)
    image = np.zeros(shape, np.uint8)
    image[row, column, channel] = 255
    with record_attention(model) as record:
        model.predict(image, deterministic=True)
    (name,) = record
    weights = record.on_grid(name)[0, 0]
    assert weights.shape == shape[:2]
    assert np.unravel_index(int(weights.argmax()), shape[:2]) == (row, column)
