"""Modules as the transformers library makes them; nothing here needs it, peft brings it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer import merge_adapters, set_learning
from tests.extractors.cases import TOKENS_MASKED, Noise
from tests.transfer.models import copy_of, moved

SMALL: dict[str, Any] = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16)


@pytest.fixture(name="transformers", scope="module")
def _transformers() -> Any:
    """Imported for these tests alone: it takes seconds wherever tests are collected."""
    return pytest.importorskip("transformers")


@pytest.fixture(name="make_bert")
def _make_bert(transformers: Any) -> Callable[[], Any]:
    config = transformers.BertConfig(vocab_size=7, num_hidden_layers=3, max_position_embeddings=8, **SMALL)
    return lambda: transformers.BertModel(config, add_pooling_layer=False)


def test_the_first_blocks_of_bert_take_its_embeddings_along(make_bert: Callable[[], Any]) -> None:
    module = PretrainedExtractor(TOKENS_MASKED, make_bert, freeze=2).module
    learning = {name for name, weight in module.named_parameters() if weight.requires_grad}
    assert learning == {name for name, _ in module.named_parameters() if name.startswith("encoder.layer.2.")}


def test_the_tokens_of_a_vision_transformer(transformers: Any) -> None:
    config = transformers.ViTConfig(image_size=16, patch_size=4, num_hidden_layers=1, **SMALL)
    vit = transformers.ViTModel(config, add_pooling_layer=False)
    extractor = PretrainedExtractor(spaces.Box(0, 255, (3, 16, 16), np.uint8), vit, output="tokens")
    assert extractor.features_shape == (17, 16)


def test_bert_with_adapters_in_an_agent(make_bert: Callable[[], Any], tmp_path: Path) -> None:
    options = dict(module=make_bert(), freeze="all")
    kwargs = dict(features_extractor_class=PretrainedExtractor, features_extractor_kwargs=options)
    env = Noise(TOKENS_MASKED)
    model = RecurrentDQN("MultiInputPolicy", env, buffer_size=200, learning_starts=16, policy_kwargs=kwargs)
    targets = ["features_extractor.module.*.query", "features_extractor.module.*.value"]
    set_learning(model, adapters=dict(targets=targets, rank=2))
    before = copy_of(model.q_net)
    model.learn(48)
    changed = {name for name in moved(before, model.q_net) if name.startswith("features_extractor.module")}
    assert len(changed) == 2 * 2 * 3 and all(".lora_" in name for name in changed)
    model.save(tmp_path / "agent")
    loaded = RecurrentDQN.load(tmp_path / "agent")
    assert moved(copy_of(model.q_net), loaded.q_net) == set()
    merge_adapters(loaded)
    assert not any("lora" in name for name in loaded.q_net.state_dict())
