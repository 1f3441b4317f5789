"""Every algorithm of Stable-Baselines3 and sb3-contrib trains every weight of an extractor, and saves it."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem.extractors import (
    AttentionCombinedExtractor,
    ChannelAttentionCNN,
    FrameAttention,
    PatchTransformer,
    SpatialAttentionCNN,
)
from tests.extractors.algorithms import ALGORITHMS, extractors_of, make
from tests.extractors.cases import CASES, MINIGRID, Case, sample

WAYS = [
    (name, separate)
    for name, setting in ALGORITHMS.items()
    for separate in ([False, True] if setting.separate else [False])
]
SMALL = dict(features_dim=8, embed_dim=8, n_heads=2)

#: every kind of layer that is in an extractor, in few models
KINDS: dict[str, Case] = {
    "keys": Case(
        AttentionCombinedExtractor,
        CASES["combined"].space,
        dict(
            SMALL,
            masks={"units": "units.mask"},
            image_class="relational_cnn",
            image_kwargs=dict(trunk=[(8, 3)], n_layers=1),
        ),
    ),
    "patches": Case(PatchTransformer, spaces.Box(0, 255, (3, 9, 7), np.uint8), dict(SMALL, patch_size=3)),
    "frames": Case(FrameAttention, spaces.Box(-1, 1, (12,), np.float32), dict(SMALL, n_frames=4, n_layers=2)),
    "places": Case(SpatialAttentionCNN, MINIGRID, dict(SMALL, trunk=[(8, 3)])),
    "gates": Case(ChannelAttentionCNN, MINIGRID, dict(features_dim=8, trunk=[(8, 3)], kind="cbam")),
}


def weights_of(model: Any) -> dict[str, th.Tensor]:
    """:return: every weight of every extractor that learns"""
    return {
        f"{extractor}.{name}": weight.detach().clone()
        for extractor, module in extractors_of(model).items()
        for name, weight in module.named_parameters()
    }


@pytest.mark.parametrize(
    ("algorithm", "separate", "kind"),
    # CrossQ has no policy for a Dict
    [(*way, kind) for way in WAYS for kind in KINDS if not (way[0] == "CrossQ" and kind == "keys")],
)
def test_every_weight_moves_and_is_saved(algorithm: str, separate: bool, kind: str, tmp_path: Path) -> None:
    case = KINDS[kind]
    model = make(algorithm, case, separate)
    before = weights_of(model)
    model.learn(8)
    after = weights_of(model)
    assert before.keys() == after.keys() and before
    still = [name for name in before if th.equal(before[name], after[name])]
    assert not still, f"{algorithm} does not train {still}"
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", device="cpu")
    th.testing.assert_close(weights_of(loaded), after, rtol=0, atol=0)
    observations = copy.deepcopy(sample(case.space, 3))
    np.testing.assert_array_equal(*(m.predict(observations, deterministic=True)[0] for m in (model, loaded)))


@pytest.mark.parametrize("algorithm", [name for name, setting in ALGORITHMS.items() if setting.separate])
def test_shared_is_one_extractor_and_separate_are_more(algorithm: str) -> None:
    n_extractors = [len(extractors_of(make(algorithm, KINDS["frames"], separate))) for separate in (False, True)]
    assert n_extractors[0] == 1 and n_extractors[1] >= 2
