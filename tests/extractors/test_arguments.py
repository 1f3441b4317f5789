"""Every wrong argument is a ValueError that says what came and how to mend it; everything that fits is taken."""

import inspect
import re
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN

from sb3_attnmem.extractors import (
    EXTRACTORS,
    IMAGE_EXTRACTORS,
    AttentionCombinedExtractor,
    ChannelAttentionCNN,
    EntityAttention,
    FrameAttention,
    PatchTransformer,
    PlainCNN,
    PretrainedExtractor,
    RelationalCNN,
    SpatialAttentionCNN,
    extractors_for,
    get_extractor_class,
)
from sb3_attnmem.extractors.image_space import read_image_space
from tests.extractors.cases import ATARI, ENTITIES, MASKED, MINIGRID, MIXED, preprocess, sample


def image(*shape: int, high: float = 255, dtype: Any = np.uint8) -> spaces.Box:
    return spaces.Box(0, high, shape, dtype)


VECTOR = spaces.Box(-1, 1, (8,), np.float32)

WRONG: list[tuple[type, spaces.Space, dict[str, Any], str]] = [
    # sizes
    (SpatialAttentionCNN, ATARI, dict(features_dim=0), "features_dim=0 must be an integer of at least 1"),
    (SpatialAttentionCNN, ATARI, dict(n_heads=0), "n_heads=0 must be"),
    (SpatialAttentionCNN, ATARI, dict(embed_dim=-8), "embed_dim=-8 must be"),
    (SpatialAttentionCNN, ATARI, dict(n_frequencies=1), "n_frequencies=1 tells no place apart; pass 2 or more"),
    (RelationalCNN, ATARI, dict(n_layers=0), "n_layers=0 must be"),
    (RelationalCNN, ATARI, dict(n_layers=1.5), "n_layers=1.5 must be"),
    (RelationalCNN, ATARI, dict(embed_dim=64, n_heads=5), "embed_dim=64 is not divisible by n_heads=5"),
    (PatchTransformer, ATARI, dict(embed_dim=30, n_heads=4), "embed_dim=30 is not divisible by n_heads=4"),
    (FrameAttention, ATARI, dict(embed_dim=30, n_heads=4), "Pass n_heads from [1, 2, 3, 5, 6, 10, 15, 30]"),
    (FrameAttention, ATARI, dict(embed_dim=12, n_heads=4, positions="rotary"), "make embed_dim / n_heads an even"),
    (EntityAttention, ENTITIES, dict(embed_dim=30, n_heads=4), "embed_dim=30 is not divisible by n_heads=4"),
    (AttentionCombinedExtractor, MIXED, dict(embed_dim=30, n_heads=4), "embed_dim=30 is not divisible by n_heads=4"),
    (RelationalCNN, ATARI, dict(dropout=1.0), "dropout=1.0 must be a finite number at least 0 and below 1"),
    (EntityAttention, ENTITIES, dict(dropout=-0.1), "dropout=-0.1 must be a finite number"),
    (ChannelAttentionCNN, ATARI, dict(reduction=0), "reduction=0 must be"),
    # choices
    (ChannelAttentionCNN, ATARI, dict(kind="eca"), "kind='eca' is unknown; choose from 'se', 'cbam'"),
    (RelationalCNN, ATARI, dict(pooling="sum"), "pooling='sum' is unknown; choose from 'attention', 'max', 'mean'"),
    (PlainCNN, ATARI, dict(output="grid"), "output='grid' is unknown; choose from 'vector', 'map'"),
    (PlainCNN, ATARI, dict(channels="middle"), "channels='middle' is unknown"),
    (FrameAttention, ATARI, dict(positions="sine"), "positions='sine' is unknown"),
    (SpatialAttentionCNN, ATARI, dict(trunk="resnet"), "trunk='resnet' is unknown; choose 'auto', one of"),
    (SpatialAttentionCNN, ATARI, dict(trunk=[]), "pass at least one stage"),
    (SpatialAttentionCNN, ATARI, dict(trunk=[(32,)]), "pass stages (channels, kernel_size, stride, padding)"),
    (SpatialAttentionCNN, ATARI, dict(trunk=[(32, 0)]), "kernel_size=0 must be an integer of at least 1"),
    (SpatialAttentionCNN, ATARI, dict(trunk=[(32, 3, 1.5)]), "stride=1.5 must be an integer"),
    (SpatialAttentionCNN, ATARI, dict(trunk=[(32, 3, 1, -1)]), "padding=-1 must be an integer of at least 0"),
    (SpatialAttentionCNN, ATARI, dict(trunk="natur"), "Did you mean 'nature'?"),
    # images
    (SpatialAttentionCNN, VECTOR, {}, "An image is a Box of 3 dimensions"),
    (PatchTransformer, spaces.Discrete(4), {}, "An image is a Box of 3 dimensions"),
    (PlainCNN, MIXED, {}, "for a Dict AttentionCombinedExtractor"),
    (
        PlainCNN,
        image(3, 40, 40),
        dict(trunk="nature"),
        "the smallest image that leaves 2×2 places to attend to is 44×44",
    ),
    (RelationalCNN, image(3, 7, 7), dict(trunk="medium"), "the medium trunk"),
    (PlainCNN, image(3, 84, 84, dtype=np.float32), {}, "values reach from 0.0 to 255.0 (float32)"),
    (PlainCNN, image(10, 10, 10, high=1, dtype=np.bool_), {}, "pass channels='first' or 'last'"),
    (PatchTransformer, ATARI, dict(patch_size=4), "it makes 441 patches, not 2 to 400. Pass one from 5 to 83"),
    (PatchTransformer, ATARI, dict(patch_size=84), "84×84 pixels: it makes 1 patches, not 2 to 400"),
    (PatchTransformer, ATARI, dict(patch_size=0), "patch_size=0 must be an integer of at least 1"),
    (PatchTransformer, image(3, 1, 1), dict(channels="first"), "one pixel makes no two patches"),
    # frames
    (FrameAttention, VECTOR, {}, "does not tell how many frames it holds; pass n_frames"),
    (FrameAttention, VECTOR, dict(n_frames=3), "n_frames=3 does not divide the stack's 8 features"),
    (FrameAttention, ATARI, dict(n_frames=3), "n_frames=3 does not divide the stack's 4 channels"),
    (FrameAttention, ATARI, dict(n_frames=0), "n_frames=0 must be"),
    (FrameAttention, ENTITIES, dict(n_frames=5), "holds 6 frames (its first axis); leave it out"),
    (FrameAttention, image(2, 2, 3, 20, 20), {}, "a Box of 1 to 4 dimensions"),
    (FrameAttention, spaces.Discrete(3), {}, "a Box of 1 to 4 dimensions"),
    # entities
    (EntityAttention, VECTOR, {}, "a Box of 2 dimensions (entities, features)"),
    (EntityAttention, MIXED, {}, "reads the keys 'entities' and 'mask' of a Dict"),
    (EntityAttention, MASKED, dict(entities_key="units"), "reads the keys 'units' and 'mask' of a Dict"),
    (EntityAttention, spaces.Dict({"entities": ENTITIES, "mask": spaces.MultiBinary(5)}), {}, "has shape (5,)"),
    # Dict observations
    (AttentionCombinedExtractor, VECTOR, {}, "reads a Dict observation (with MultiInputPolicy)"),
    (AttentionCombinedExtractor, MIXED, dict(masks={"units": "alive"}), "masks names the keys ['alive']"),
    (AttentionCombinedExtractor, spaces.Dict({"film": image(4, 3, 20, 20)}), {}, "The observation's key 'film' is"),
    (AttentionCombinedExtractor, spaces.Dict({"says": spaces.Text(9)}), {}, "The observation's key 'says' is"),
    (AttentionCombinedExtractor, MIXED, dict(image_class="relational"), "Did you mean 'relational_cnn'?"),
    (AttentionCombinedExtractor, MIXED, dict(image_class=dict), "pass a subclass of BaseFeaturesExtractor"),
    (
        AttentionCombinedExtractor,
        MIXED,
        dict(image_kwargs=dict(n_haeds=2)),
        "SpatialAttentionCNN does not take. Did you",
    ),
    (AttentionCombinedExtractor, MIXED, dict(image_kwargs=dict(features_dim=2)), "'features_dim', which"),
    (
        AttentionCombinedExtractor,
        MIXED,
        dict(entity_kwargs=dict(mask_key="m")),
        "'mask_key', which EntityAttention does",
    ),
    (AttentionCombinedExtractor, MIXED, dict(masks=["units"]), "masks=['units'] must be a dict, or None"),
    # pretrained modules
    (PretrainedExtractor, ATARI, dict(module=th.nn.Flatten, pooling="sum"), "pooling='sum' is unknown"),
    (PretrainedExtractor, ATARI, dict(module=th.nn.Flatten, n_heads=0), "n_heads=0 must be an integer"),
]


@pytest.mark.parametrize("extractor_class, space, kwargs, message", WRONG, ids=lambda value: str(value)[:50])
def test_wrong_arguments(extractor_class: type, space: spaces.Space, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        extractor_class(space, **kwargs)


INTEGERS = {"features_dim", "embed_dim", "n_heads", "n_layers", "n_frequencies", "reduction", "patch_size", "n_frames"}
NO_INTEGERS = (0, -1, 1.5, float("nan"), True, "2", np.float32(2))
NUMBERS = {"dropout": (1.0, -0.1, float("nan"), float("inf"), "0.1", True, None)}
FLAGS = {"normalized_image"}
CHOICES = {"output", "pooling", "kind", "channels", "positions", "trunk"}
#: extractor, a space that it reads, and what it needs beside
READ: list[tuple[type, spaces.Space, dict[str, Any]]] = [
    (PlainCNN, MINIGRID, {}),
    (SpatialAttentionCNN, MINIGRID, {}),
    (RelationalCNN, MINIGRID, {}),
    (ChannelAttentionCNN, MINIGRID, {}),
    (PatchTransformer, MINIGRID, {}),
    (FrameAttention, spaces.Box(-1, 1, (12,), np.float32), dict(n_frames=4)),
    (FrameAttention, MINIGRID, {}),
    (EntityAttention, ENTITIES, {}),
    (AttentionCombinedExtractor, MIXED, {}),
    (PretrainedExtractor, MINIGRID, dict(module=th.nn.Flatten)),
]


@pytest.mark.parametrize(("extractor_class", "space", "kwargs"), READ, ids=lambda value: str(value)[:30])
def test_every_number_flag_and_choice_is_checked(extractor_class: type, space: spaces.Space, kwargs: dict) -> None:
    for name, parameter in inspect.signature(extractor_class).parameters.items():
        wrong: tuple[Any, ...] = ()
        if name in INTEGERS:
            wrong = NO_INTEGERS if parameter.default is None else (*NO_INTEGERS, None)
        elif name in NUMBERS:
            wrong = NUMBERS[name]
        elif name in FLAGS:
            wrong = ("yes", 1, None)
        elif name in CHOICES:
            wrong = ("no such", 3, None, float("nan"))
        for value in wrong:
            with pytest.raises(ValueError, match=name):
                extractor_class(space, **{**kwargs, name: value})


@pytest.mark.parametrize(("extractor_class", "space", "kwargs"), READ, ids=lambda value: str(value)[:30])
def test_numpy_s_numbers_are_taken(extractor_class: type, space: spaces.Space, kwargs: dict) -> None:
    taken = dict(
        features_dim=np.int64(8),
        embed_dim=np.int32(8),
        n_heads=np.int64(2),
        n_layers=np.uint8(1),
        patch_size=np.int64(3),
        dropout=np.float32(0.1),
        normalized_image=np.bool_(False),
        trunk=[(np.int64(4), np.int64(2))],
    )
    known = inspect.signature(extractor_class).parameters
    extractor = extractor_class(space, **kwargs, **{name: value for name, value in taken.items() if name in known})
    assert type(extractor.features_dim) is int and extractor.features_dim == 8
    observations = preprocess(sample(space, 2), space)
    assert extractor(observations).shape == (2, 8)


def test_a_typo_is_not_swallowed() -> None:
    for name, extractor_class in EXTRACTORS.items():
        with pytest.raises(TypeError, match="n_haeds"):
            extractor_class(MIXED if name == "attention_combined" else ATARI, n_haeds=4)


@pytest.mark.parametrize("size", [44, 45, 63, 64, 84, 100, 210])
def test_smallest_size_is_told_truly(size: int) -> None:
    PlainCNN(image(1, size, size), trunk="nature", output="map")


@pytest.mark.parametrize("trunk", ["small", "medium", "nature"])
def test_the_size_that_the_error_names_is_the_smallest(trunk: str) -> None:
    with pytest.raises(ValueError, match="2×2 places") as error:
        PlainCNN(image(1, 2, 2), trunk=[(4, 3, 1, 0)]) if trunk == "small" else PlainCNN(image(1, 2, 2), trunk=trunk)
    size = int(re.search(r"is (\d+)×", str(error.value))[1])
    stages: Any = [(4, 3, 1, 0)] if trunk == "small" else trunk
    assert PlainCNN(image(1, size, size), trunk=stages, output="map").places.n_places == 4
    with pytest.raises(ValueError):
        PlainCNN(image(1, size - 1, size), trunk=stages)


@pytest.mark.parametrize(
    "space, kwargs, expected",
    [
        (ATARI, {}, (4, 84, 84, False)),
        (MINIGRID, {}, (3, 7, 7, False)),
        (image(10, 10, 4, high=1, dtype=np.bool_), {}, (4, 10, 10, True)),
        (image(4, 10, 10, high=1, dtype=np.float32), {}, (4, 10, 10, False)),
        (image(7, 7, 21), {}, (21, 7, 7, True)),  # more channels than pixels: the odd axis out
        (image(21, 7, 7), {}, (21, 7, 7, False)),
        (image(3, 210, 160), {}, (3, 210, 160, False)),
        (image(210, 160, 3), {}, (3, 210, 160, True)),
        (image(10, 10, 10), dict(channels="last"), (10, 10, 10, True)),
        (image(10, 10, 10), dict(channels="first"), (10, 10, 10, False)),
        (image(3, 20, 20, high=np.inf, dtype=np.float32), dict(normalized_image=True), (3, 20, 20, False)),
    ],
)
def test_axes_of_an_image(space: spaces.Box, kwargs: dict[str, Any], expected: tuple[int, int, int, bool]) -> None:
    read = read_image_space(space, **kwargs)
    assert (read.channels, read.height, read.width, read.channels_last) == expected


def test_channels_first_and_last_see_the_same() -> None:
    first = image(3, 10, 10, high=1, dtype=np.float32)
    last = image(10, 10, 3, high=1, dtype=np.float32)
    for extractor_class in (SpatialAttentionCNN, RelationalCNN, ChannelAttentionCNN, PatchTransformer, FrameAttention):
        a, b = extractor_class(first, features_dim=8).eval(), extractor_class(last, features_dim=8).eval()
        b.load_state_dict(a.state_dict())
        images = th.rand(2, 3, 10, 10)
        th.testing.assert_close(a(images), b(images.permute(0, 2, 3, 1)))


def test_plain_cnn_is_nature_cnn() -> None:
    plain, nature = PlainCNN(ATARI), NatureCNN(ATARI)
    plain.load_state_dict(dict(zip(plain.state_dict(), nature.state_dict().values(), strict=True)))
    images = th.rand(2, *ATARI.shape)
    th.testing.assert_close(plain(images), nature(images))


@pytest.mark.parametrize(
    ("space", "fitting"),
    [
        (MINIGRID, [name for name in IMAGE_EXTRACTORS if name != "impala_cnn"]),  # which leaves one place of 7×7
        (ATARI, list(IMAGE_EXTRACTORS)),
        (image(3, 2, 1), ["patch_transformer"]),
        (image(3, 20, 20, high=9), []),  # not scaled by Stable-Baselines3
        (ENTITIES, ["frame_attention", "entity_attention"]),
        (MASKED, ["entity_attention", "attention_combined"]),
        (MIXED, ["attention_combined"]),
        (VECTOR, []),
        (spaces.Dict({"image": MINIGRID, "mission": spaces.Text(9)}), []),
    ],
    ids=str,
)
def test_the_extractors_that_fit_a_space(space: spaces.Space, fitting: list[str]) -> None:
    th.manual_seed(0)
    assert extractors_for(space) == fitting
    after = th.rand(1)
    th.manual_seed(0)
    assert th.equal(th.rand(1), after)  # nothing was drawn
    for name in fitting:
        get_extractor_class(name)(space)(preprocess(sample(space, 2), space))


def test_values_that_are_trusted_fit() -> None:
    unscaled = image(3, 20, 20, high=9)
    assert extractors_for(unscaled, normalized_image=True) == list(IMAGE_EXTRACTORS)
    assert "attention_combined" in extractors_for(spaces.Dict({"image": unscaled}), normalized_image=True)


def test_names() -> None:
    for name, extractor_class in EXTRACTORS.items():
        assert get_extractor_class(name) is extractor_class
        assert get_extractor_class(extractor_class) is extractor_class
    assert get_extractor_class(NatureCNN) is NatureCNN
    with pytest.raises(ValueError, match="Did you mean 'entity_attention'"):
        get_extractor_class("entity_atention")
    with pytest.raises(ValueError, match="the class, not an instance"):
        get_extractor_class(NatureCNN(ATARI))  # type: ignore[arg-type]
