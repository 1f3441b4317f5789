"""What of a module from elsewhere learns, and what is kept still."""

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_attnmem.common.parameters import first_blocks
from sb3_attnmem.extractors import PretrainedExtractor
from tests.extractors.cases import Normed

VECTOR = spaces.Box(-1, 1, (4,), np.float32)


def test_frozen_parts_stay_in_eval_mode() -> None:
    extractor = PretrainedExtractor(VECTOR, Normed)
    extractor.train()
    assert not extractor.module.norm.training and not extractor.module.layers[2].training
    observations = 9 * th.rand(8, 4)
    mean = extractor.module.norm.running_mean.clone()
    assert th.equal(extractor(observations), extractor(observations)), "nothing drops out"
    assert th.equal(extractor.module.norm.running_mean, mean), "statistics stay"
    assert not extractor(observations).requires_grad
    learning = PretrainedExtractor(VECTOR, Normed, freeze="none").train()
    assert not th.equal(learning(observations), learning(observations))


@pytest.mark.parametrize(
    "freeze, learning",
    [
        ("all", []),
        ("none", ["norm", "layers.0", "layers.3"]),
        (1, ["layers.3"]),  # with the norm before it
        ("layers", ["norm"]),
        (["norm", "layers.3.*"], ["layers.0"]),
    ],
)
def test_what_freezes(freeze: Any, learning: list[str]) -> None:
    module = PretrainedExtractor(VECTOR, Normed, freeze=freeze).module
    expected = {f"{name}.{kind}" for name in learning for kind in ("weight", "bias")}
    assert {name for name, weight in module.named_parameters() if weight.requires_grad} == expected


def test_what_the_module_never_learns_is_left_alone() -> None:
    module = Normed()
    module.norm.weight.requires_grad_(False)
    assert not PretrainedExtractor(VECTOR, module, freeze="none").module.norm.weight.requires_grad


class ResNet(nn.Module):
    """The shape of a ResNet: stages with several blocks each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Linear(1, 1)
        self.layer1 = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
        self.layer2 = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
        self.layer3 = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))


class Transformer(nn.Module):
    """The shape of a transformer: embeddings, a stack inside an encoder, a pooler."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(th.zeros(1))
        self.embeddings = nn.Embedding(2, 1)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)) for _ in range(3))
        self.pooler = nn.Linear(1, 1)


@pytest.mark.parametrize(
    "module, k, parts",
    [
        (ResNet(), 2, {"conv1", "layer1"}),
        (ResNet(), 3, {"conv1", "layer1", "layer2"}),
        (Transformer(), 2, {"position", "embeddings", "encoder.layer.0", "encoder.layer.1"}),
        (nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)), 1, {"0"}),
    ],
)
def test_first_blocks(module: nn.Module, k: int, parts: set[str]) -> None:
    names = {name for name, _ in module.named_parameters()}
    expected = {name for name in names if any(name == part or name.startswith(f"{part}.") for part in parts)}
    assert first_blocks("freeze", module, k) == expected


def test_a_number_of_blocks_may_be_numpy_s() -> None:
    extractors = [PretrainedExtractor(VECTOR, Normed, freeze=k) for k in (1, np.int64(1))]
    assert extractors[0].held == extractors[1].held != set()
