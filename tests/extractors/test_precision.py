"""``precision="bfloat16"``: layers compute in it; weights, gradients, features and exported graphs stay float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import OnnxPolicy, export_onnx
from sb3_attnmem.extractors import PlainCNN, SpatialAttentionCNN
from tests.extractors.cases import ATARI, CASES, MINIGRID, Noise

TAKE_IT = ["plain-minatar", "plain-map", "impala-map", "spatial-atari", "relational-map", "se-atari", "frames-colour"]


@pytest.mark.parametrize("name", TAKE_IT)
def test_layers_compute_in_it_and_weights_stay_float32(name: str) -> None:
    case = CASES[name]
    exact, rounded = case.build(), case.build(precision="bfloat16")
    observations = case.observations()
    expected, features = exact(observations), rounded(observations)
    features.square().sum().backward()
    assert features.dtype == th.float32
    assert all(weights.dtype == weights.grad.dtype == th.float32 for weights in rounded.parameters())
    assert not th.equal(features, expected), "nothing was rounded"
    assert th.nn.functional.cosine_similarity(features.flatten(), expected.flatten(), dim=0) > 0.999


def test_trunks_and_wide_dense_layers_compute_in_it() -> None:
    """What spatial attention found differs by too little for a dense layer that rounds."""
    for kind, dense in [(PlainCNN, th.bfloat16), (SpatialAttentionCNN, th.float32)]:
        assert types_computed(kind(ATARI, precision="bfloat16")) == [th.bfloat16, dense]


def types_computed(extractor: Any) -> list[th.dtype]:
    """:return: of the first convolution and the dense layer"""
    seen: dict[str, th.dtype] = {}
    for name in ("trunk.stages.0.conv", "linear.0"):
        extractor.get_submodule(name).register_forward_hook(lambda *args, name=name: seen.update({name: args[2].dtype}))
    extractor(th.rand(2, 4, 84, 84))
    return list(seen.values())


@pytest.mark.parametrize("name", [*TAKE_IT, "frames-vectors"])
def test_an_unknown_precision_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"precision='float16'.*bfloat16"):
        CASES[name].build(precision="float16")


@pytest.mark.parametrize("algorithm", [DQN, RecurrentDQN])
def test_the_exported_graph_is_that_of_float32(algorithm: type[DQN], tmp_path: Path) -> None:
    kwargs = dict(features_extractor_class=SpatialAttentionCNN, features_extractor_kwargs=dict(precision="bfloat16"))
    model = algorithm("CnnPolicy", Noise(MINIGRID), buffer_size=100, policy_kwargs=kwargs, seed=0)
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    extractor = model.policy.q_net.features_extractor
    extractor.trunk.precision = extractor.linear.precision = "float32"
    exact = tmp_path / "exact.onnx"
    export_onnx(model, exact)
    observations = np.stack([MINIGRID.sample() for _ in range(5)])
    played, expected = OnnxPolicy(path), OnnxPolicy(exact)
    np.testing.assert_array_equal(played.q_values(observations)[0], expected.q_values(observations)[0])
