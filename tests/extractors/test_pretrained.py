"""Modules from elsewhere as features extractors."""

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from safetensors.torch import save_file
from stable_baselines3 import DQN, PPO
from torch import nn

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.common.parameters import what_learns
from sb3_attnmem.extractors import PretrainedExtractor
from tests.extractors.cases import MINIGRID, TOKEN_IDS, TOKENS_MASKED, Noise, Normed, TokenEncoder, image_encoder

VECTOR = spaces.Box(-1, 1, (4,), np.float32)


def save_torch(weights: dict[str, th.Tensor], path: Path) -> Path:
    th.save(weights, path)
    return path


def save_wrapped(weights: dict[str, th.Tensor], path: Path) -> Path:
    th.save({"epoch": 3, "state_dict": weights}, path)
    return path


def save_safe(weights: dict[str, th.Tensor], path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    save_file(weights, path)
    return path


@pytest.mark.parametrize("save", [save_torch, save_wrapped, save_safe])
@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_weights_come_from_a_file(tmp_path: Path, save: Callable[..., Path], prefix: str) -> None:
    trained = {f"{prefix}{name}": tensor for name, tensor in Normed().state_dict().items()}
    path = save({**trained, "head.weight": th.zeros(2)}, tmp_path / "weights.pt")
    extractor = PretrainedExtractor(VECTOR, Normed, weights=path, prefix=prefix)
    for name, tensor in extractor.module.state_dict().items():
        assert th.equal(tensor, trained[f"{prefix}{name}"])


class Malice:
    """A pickle that runs a command where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_a_file_of_weights_executes_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    th.save({"layers.0.weight": Malice(mark)}, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Malice(mark)))
    (tmp_path / "named.safetensors").write_bytes(pickle.dumps(Malice(mark)))
    for name in ("torch.pt", "plain.pt", "named.safetensors"):
        with pytest.raises(ValueError, match=r"no (state dict|safetensors file)"):
            PretrainedExtractor(VECTOR, Normed, weights=tmp_path / name)
    assert not mark.exists()
    th.load(tmp_path / "torch.pt", weights_only=False)
    assert mark.exists(), "the file is harmless: the test would find nothing"


def test_weights_that_do_not_fit_are_told_by_name_and_shape(tmp_path: Path) -> None:
    path = save_torch(Normed(5).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=re.escape("layers.0.weight: (5, 4) there, (6, 4) here")):
        PretrainedExtractor(VECTOR, Normed, weights=path)
    with pytest.raises(ValueError, match=r"under the prefix 'body\.'") as error:
        PretrainedExtractor(VECTOR, Normed, weights=path, prefix="body.")
    assert "norm.weight: missing there, (4,) here" in str(error.value)


KINDS: dict[str, tuple[spaces.Space, Any, str, tuple[int, ...]]] = {
    "vector": (VECTOR, Normed, "vector", (6,)),
    "map, pooled": (MINIGRID, image_encoder, "vector", (12,)),
    "map": (MINIGRID, image_encoder, "map", (16, 12)),
    "map as tokens": (MINIGRID, image_encoder, "tokens", (16, 12)),
    "tokens, pooled": (TOKEN_IDS, TokenEncoder, "vector", (8,)),
    "tokens": (TOKEN_IDS, TokenEncoder, "tokens", (5, 8)),
    "tokens of a dict": (TOKENS_MASKED, TokenEncoder, "tokens", (5, 8)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_outputs(kind: str) -> None:
    space, module, output, shape = KINDS[kind]
    extractor = PretrainedExtractor(space, module, output=output)
    assert extractor.features_shape == shape
    assert extractor.features_dim == np.prod(shape)
    assert (extractor.places is not None) == (output == "map")


@pytest.mark.parametrize("kind", [kind for kind, case in KINDS.items() if case[2] != "vector"])
def test_an_attentive_memory_reads_maps_and_tokens(kind: str, tmp_path: Path) -> None:
    space, module, output, _ = KINDS[kind]
    options = dict(module=module, output=output)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    model = RecurrentDQN(
        policy,
        Noise(space),
        buffer_size=100,
        learning_starts=8,
        train_freq=4,
        batch_size=2,
        policy_kwargs=dict(
            features_extractor_class="pretrained",
            features_extractor_kwargs=options,
            memory_class="attentive_lstm",
            memory_kwargs=dict(hidden_size=8),
        ),
    )
    before = {name: weight.clone() for name, weight in model.q_net.named_parameters()}
    model.learn(24)
    moved = {name for name, weight in model.q_net.named_parameters() if not th.equal(weight, before[name])}
    assert moved and all(not name.startswith("features_extractor") for name in moved)
    assert any(name.startswith("memory") for name in moved)


def test_the_pool_never_looks_at_padding() -> None:
    extractor = PretrainedExtractor(TOKENS_MASKED, TokenEncoder).eval()
    ids, mask = th.tensor([[1, 2, 3, 4, 5]]), th.tensor([[1, 1, 1, 0, 0]])
    other = th.tensor([[1, 2, 3, 6, 0]])
    same, different = (dict(input_ids=ids, attention_mask=m.float()) for m in (mask, th.ones_like(mask)))
    assert th.equal(extractor(same), extractor(dict(same, input_ids=other)))
    assert not th.equal(extractor(different), extractor(dict(different, input_ids=other)))


def make(model_class: Any, **options: Any) -> Any:
    kwargs = dict(features_extractor_class=PretrainedExtractor, features_extractor_kwargs=options)
    settings: dict[str, Any] = dict(n_steps=8, batch_size=8) if model_class is PPO else dict(learning_starts=8)
    return model_class("MlpPolicy", Noise(VECTOR), policy_kwargs=kwargs, seed=0, **settings)


@pytest.mark.parametrize("model_class", [RecurrentDQN, DQN, PPO])
@pytest.mark.parametrize("kind", ["class and file", "instance"])
def test_agents_are_saved_and_loaded_without_the_file(model_class: Any, kind: str, tmp_path: Path) -> None:
    path = save_torch(Normed().state_dict(), tmp_path / "weights.pt")
    model = make(model_class, **(dict(module=Normed(), freeze=1) if kind == "instance" else dict(module=Normed)),
                 **({} if kind == "instance" else dict(weights=str(path), freeze=1)))  # fmt: skip
    model.learn(32)
    model.save(tmp_path / "agent")
    path.unlink()
    loaded = model_class.load(tmp_path / "agent")
    observation = VECTOR.sample()
    for name, tensor in model.policy.state_dict().items():
        assert th.equal(tensor, loaded.policy.state_dict()[name])
    assert np.array_equal(model.predict(observation)[0], loaded.predict(observation)[0]) or model_class is PPO
    assert what_learns(loaded.policy) == what_learns(model.policy)


@pytest.mark.parametrize("model_class", [RecurrentDQN, DQN, PPO])
def test_no_algorithm_initialises_the_weights_anew(model_class: Any) -> None:
    """PPO's orthogonal initialisation goes through all layers of an extractor."""
    module = Normed()
    extractor = make(model_class, module=module).policy
    extractor = getattr(extractor, "q_net", extractor).features_extractor
    assert all(th.equal(x, y) for x, y in zip(extractor.module.parameters(), module.parameters(), strict=True))


def test_both_networks_have_their_own_copy() -> None:
    module = Normed()
    model = make(DQN, module=module)
    modules = (module, model.q_net.features_extractor.module, model.q_net_target.features_extractor.module)
    assert len({next(m.parameters()).data_ptr() for m in modules}) == 3


def test_frozen_weights_are_not_in_the_optimiser_of_recurrent_dqn() -> None:
    model = make(RecurrentDQN, module=Normed, freeze=1)
    listed = {weight for group in model.policy.optimizer.param_groups for weight in group["params"]}
    assert listed == {weight for weight in model.q_net.parameters() if weight.requires_grad}
    assert listed < set(model.q_net.parameters())


def test_a_wrong_path_is_told_before_anything_is_learned() -> None:
    for act in (lambda model: model.learn(8), lambda model: model.predict(VECTOR.sample(), deterministic=True)):
        with pytest.raises(ValueError, match=r"There is no file of weights nowhere\.pt"):
            act(make(RecurrentDQN, module=Normed, weights="nowhere.pt"))


WRONG: list[tuple[spaces.Space, dict[str, Any], str]] = [
    (VECTOR, dict(module="encoder.pt"), "a file of weights belongs to weights="),
    (VECTOR, dict(module=Normed(), module_kwargs=dict(width=3)), "module_kwargs are for a class or function"),
    (VECTOR, dict(module=dict), "built a dict instead of an nn.Module"),
    (VECTOR, dict(module=Normed, output="mpa"), "output='mpa' is unknown"),
    (VECTOR, dict(module=Normed, output="map"), "gives a vector, not a map: pass output='vector'"),
    (TOKEN_IDS, dict(module=TokenEncoder, output="map"), "gives tokens, not a map: pass output='tokens'"),
    (TOKEN_IDS, dict(module=TokenEncoder, n_heads=3), "not divisible by n_heads=3"),
    (VECTOR, dict(module=Normed, freeze="layer"), "Did you mean 'layers'?"),
    (VECTOR, dict(module=Normed, freeze=3), "there are 2 blocks in Normed: layers.0, layers.3"),
    (VECTOR, dict(module=Normed, freeze=True), "freeze=True"),
    (VECTOR, dict(module=Normed, freeze=0.5), "freeze=0.5: pass 'all', 'none'"),
    (TOKEN_IDS, dict(module=Normed, output="tokens", weights=3), "weights=3 must be the path of a file"),
    (VECTOR, dict(module=Normed, prefix=None), "prefix=None must be a string"),
    (VECTOR, dict(module=Normed, mask_key=3), "mask_key=3 must be a string"),
    (VECTOR, dict(module=Normed, module_kwargs=[3]), "module_kwargs=[3] must be a dict of options"),
    (VECTOR, dict(module=Normed, module_kwargs=dict(widht=3)), "unexpected keyword argument 'widht'"),
    (VECTOR, dict(module=nn.Linear), "missing a required argument: 'in_features'"),
    (VECTOR, dict(module=nn.Linear(7, 2)), "Linear cannot be called with an observation of Box(-1.0, 1.0, (4,)"),
    (TOKENS_MASKED, dict(module=nn.Identity()), "of a Dict each key by its name"),
    (VECTOR, dict(module=Normed, features_dim=0), "features_dim=0 must be an integer of at least 1"),
    (VECTOR, dict(module=Normed, weights=str(Path(__file__).parent)), "is a folder"),
    (VECTOR, dict(module=nn.Linear(4, 2, device="meta")), "Linear has tensors of the meta device, without values"),
    (VECTOR, dict(module=Normed, output="tokens"), "gives a vector, not tokens: pass output='vector'"),
    (VECTOR, dict(module=nn.Flatten(0)), "of shape (4,) for one observation"),
]


@pytest.mark.parametrize("spoil", [lambda x: x.to("meta"), lambda x: x.to_sparse(), lambda x: x * th.nan])
def test_weights_that_cannot_be_copied_leave_the_module_as_it_was(spoil: Any, tmp_path: Path) -> None:
    module = Normed()
    names = list(module.state_dict())
    weights = {name: tensor + 1 for name, tensor in module.state_dict().items()}
    last = next(name for name in reversed(names) if weights[name].is_floating_point())
    path = save_torch({**weights, last: spoil(weights[last])}, tmp_path / "weights.pt")
    built: list[nn.Module] = []

    def build() -> nn.Module:
        built.append(copy.deepcopy(module))
        return built[0]

    with pytest.raises(ValueError, match=re.escape(f"{last}: ")):
        PretrainedExtractor(VECTOR, build, weights=path)
    assert all(th.equal(built[0].state_dict()[name], tensor) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("space, kwargs, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments(space: spaces.Space, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        PretrainedExtractor(space, **kwargs)
