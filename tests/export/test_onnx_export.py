"""What can be written, what is written, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage
from torch import nn
from torch.nn import functional as F

import sb3_attnmem
from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.export import OnnxPolicy, export_onnx, onnx_export
from sb3_attnmem.export.normalization import ObservationNormalizer
from sb3_attnmem.export.spaces import describe
from sb3_attnmem.memory import MEMORIES, BaseMemory, MemoryState
from tests.dqn_recurrent.worlds import SPACES, World, make_learner, make_world
from tests.export.parity import TOLERANCE, assert_alike, play_both, shake
from tests.extractors.cases import CASES, Noise

SMALL: dict[str, dict[str, Any]] = {
    "none": {},
    "window": dict(hidden_size=8, window=4, num_layers=1, n_heads=2),
    "gtrxl": dict(hidden_size=8, memory_length=4, num_layers=1, n_heads=2),
    "dnc": dict(hidden_size=8, n_slots=4, slot_size=4),
}


@pytest.mark.parametrize("name", [*MEMORIES, "window by step", "gtrxl by step"])
def test_every_memory(name: str, tmp_path: Path) -> None:
    name, by_step = name.removesuffix(" by step"), name.endswith(" by step")
    kwargs: dict[str, Any] = dict(memory_class=name, memory_fusion="gate")
    kwargs["memory_kwargs"] = SMALL.get(name, dict(hidden_size=8)) | (dict(positions="episode") if by_step else {})
    env = make_world("image" if MEMORIES[name].reads == "map" else "vector", n_envs=3)
    if MEMORIES[name].reads == "map":
        kwargs.update(
            features_extractor_class="plain_cnn",
            features_extractor_kwargs=dict(output="map", trunk=[(8, 6, 6)]),
        )
    model = make_learner(env, policy_kwargs=kwargs)
    shake(model)
    exported = export_onnx(model, tmp_path / "model.onnx", check=False)
    policy = OnnxPolicy(exported.path)
    assert len(policy.state_names) == len(model.q_net.memory.initial_state(1))
    assert json.loads(policy.metadata["sb3_attnmem.memory"]) == {
        "name": name,
        "options": kwargs["memory_kwargs"],
        "fusion": "gate",
    }
    assert_alike(play_both(model, policy, env, 60))
    # What is not finite goes with its episode
    obs, starts = env.reset(), np.array([True, False, True])
    state = tuple(np.full_like(part, np.nan) for part in policy.predict(obs)[1])
    begun, begun_state = policy.q_values(obs, state, starts)
    fresh, fresh_state = policy.q_values(obs)
    for got, expected in zip((begun, *begun_state), (fresh, *fresh_state), strict=True):
        assert (got[starts] == expected[starts]).all()
    assert np.isnan(begun[1]).all() or not state


def test_every_space_in_a_dict(tmp_path: Path) -> None:
    parts = {key: space for key, space in SPACES.items() if not isinstance(space, spaces.Dict)}
    env = DummyVecEnv([lambda i=i: World(spaces.Dict(parts), i) for i in range(3)])
    model = make_learner(env, "MultiInputPolicy")
    shake(model)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx").path)
    assert policy.observation_space["spaces"].keys() == parts.keys()
    assert_alike(play_both(model, policy, env, 40))


class OneHead(BaseFeaturesExtractor):
    """A module of a user's own: attention without a dimension of heads."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 4)
        self.embed = nn.Linear(1, 4)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        tokens = self.embed(observations.unsqueeze(-1))
        return F.scaled_dot_product_attention(tokens, tokens, tokens).mean(dim=1)


def test_attention_of_three_dimensions_in_a_module_of_ones_own(tmp_path: Path) -> None:
    env = make_world("vector", n_envs=3)
    model = make_learner(env, policy_kwargs=dict(features_extractor_class=OneHead))
    shake(model)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx", check=False).path)
    assert_alike(play_both(model, policy, env, 40))


def test_numbers_as_observations(tmp_path: Path) -> None:
    env = make_world("discrete", n_envs=3)
    model = make_learner(env, policy_kwargs=dict(memory_class="none"))
    shake(model)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx", check=False).path)
    assert_alike(play_both(model, policy, env, 40))
    assert not policy.has_quantiles
    with pytest.raises(ValueError, match="A RecurrentDQN has no quantiles, only q_values"):
        policy.quantiles(env.reset())


def test_stock_algorithms_have_no_state(tmp_path: Path) -> None:
    env = make_world(n_envs=3)
    model = QRDQN("MlpPolicy", env, buffer_size=100, policy_kwargs=dict(net_arch=[16]), seed=0)
    shake(model)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx").path)
    assert policy.state_names == () and policy.metadata["sb3_attnmem.algorithm"] == "QRDQN"
    assert_alike(play_both(model, policy, env, 40))
    assert policy.quantiles(env.reset())[0].shape == (3, 200, 3)


def test_quantiles_and_their_means(tmp_path: Path) -> None:
    """Of a noisy head, the means of its weights."""
    env = make_world(n_envs=3)
    options = dict(memory_kwargs=dict(hidden_size=8), n_quantiles=5, noisy=True)
    model = RecurrentQRDQN("MlpPolicy", env, buffer_size=400, policy_kwargs=options, seed=0)
    shake(model)
    exported = export_onnx(model, tmp_path / "model.onnx")
    assert exported.outputs == ["q_values", "quantiles", "next_state.h", "next_state.c"]
    policy = OnnxPolicy(exported.path)
    assert policy.has_quantiles and policy.metadata["sb3_attnmem.algorithm"] == "RecurrentQRDQN"
    assert_alike(play_both(model, policy, env, 40))
    obs = env.reset()
    quantiles, state = policy.quantiles(obs)
    assert quantiles.shape == (3, 5, 3)
    np.testing.assert_allclose(quantiles.mean(axis=1), policy.q_values(obs)[0], atol=1e-5)
    starts = np.array([False, True, False])
    quantiles, after = policy.quantiles(obs, state, starts)
    with th.no_grad():
        wanted, wanted_after = model.q_net.step_quantiles(
            th.as_tensor(obs), tuple(map(th.as_tensor, state)), th.as_tensor(starts)
        )
    np.testing.assert_allclose(quantiles, wanted, atol=1e-4)
    for ours, theirs in zip(after, wanted_after, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert policy.quantiles(obs[0])[0].shape == (5, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_extractor(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    env = DummyVecEnv([lambda: Noise(copy.deepcopy(case.space))] * 3)
    kwargs = dict(features_extractor_class=case.extractor_class, features_extractor_kwargs=case.kwargs)
    if case.kwargs.get("output") == "map":
        kwargs.update(memory_class="attentive_lstm", memory_kwargs=dict(hidden_size=8))
    policy = "MultiInputPolicy" if isinstance(case.space, spaces.Dict) else "MlpPolicy"
    model = RecurrentDQN(policy, env, buffer_size=100, policy_kwargs=kwargs, seed=0)
    shake(model)
    parity = play_both(model, OnnxPolicy(export_onnx(model, tmp_path / "model.onnx").path), env, 40)
    assert parity.q_difference < TOLERANCE and parity.n_other == 0 and parity.q_spread > 10 * TOLERANCE


def test_what_is_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: Any) -> None:
    env = VecNormalize(make_world())
    env.reset()
    model = make_learner(env)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.policy.set_training_mode(True)
    exported = export_onnx(model, tmp_path / "model.onnx")
    assert model.q_net.training, "the model was copied, not changed"
    assert all(th.equal(value, before[name]) for name, value in model.policy.state_dict().items())
    assert capfd.readouterr() == ("", "") and not recwarn.list, "the exporter is quiet"
    assert exported.max_difference is not None and exported.max_difference < TOLERANCE
    assert exported.n_bytes == exported.path.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"], "nothing else is left"
    written = onnx.load(exported.path)
    onnx.checker.check_model(written)
    shapes = {
        one.name: [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]
        for one in [*written.graph.input, *written.graph.output]
    }
    assert shapes == {
        "observation": ["batch", 3],
        "episode_start": ["batch"],
        "state.h": ["batch", 1, 8],
        "state.c": ["batch", 1, 8],
        "q_values": ["batch", 3],
        "next_state.h": ["batch", 1, 8],
        "next_state.c": ["batch", 1, 8],
    }
    metadata = {one.key: one.value for one in written.metadata_props}
    assert metadata["sb3_attnmem.version"] == sb3_attnmem.__version__
    assert metadata["sb3_attnmem.algorithm"] == "RecurrentDQN"
    assert json.loads(metadata["sb3_attnmem.vec_normalize"]) is True
    space = json.loads(metadata["sb3_attnmem.observation_space"])
    assert space == dict(type="Box", shape=[3], dtype="float32", low=-1.0, high=1.0, image=False)
    assert json.loads(metadata["sb3_attnmem.action_space"])["n"] == 3
    assert str(Path(sb3_attnmem.__file__).parent).encode() not in exported.path.read_bytes(), "no paths of this machine"


def test_unbounded_spaces_are_json() -> None:
    told = describe(spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["low"], told["high"]) == ([-1.0, "-inf"], [1.0, "inf"])


def test_statistics_that_are_far_from_zero() -> None:
    """A clock of 1e6 ± 1 leaves single precision four bits of what it tells."""
    env = VecNormalize(make_world())
    env.obs_rms.mean[:], env.obs_rms.var[:] = 1e6 + 0.3, 1.0
    raw = (1e6 + np.random.default_rng(0).normal(scale=20, size=(50, 3))).astype(np.float32)
    given = ObservationNormalizer(env)(th.as_tensor(raw), None)
    np.testing.assert_array_equal(given, env.normalize_obs(raw))
    assert given.dtype == th.float32 and given.abs().max() == env.clip_obs


def test_images_that_are_turned_outside_of_vec_normalize(tmp_path: Path) -> None:
    """As stock algorithms wrap a Dict environment whose vectors alone are normalised."""
    env = VecNormalize(make_world("dict"), norm_obs_keys=["vector"])
    env.reset()
    model = DQN("MultiInputPolicy", env, buffer_size=100, policy_kwargs=dict(net_arch=[16]), seed=0)
    assert isinstance(model.get_env(), VecTransposeImage)
    shake(model)
    policy = OnnxPolicy(export_onnx(model, tmp_path / "model.onnx").path)
    assert policy.observation_space["spaces"]["image"]["shape"] == [3, 36, 36]
    assert_alike(play_both(model, policy, make_world("dict"), 40, env))


def test_statistics_of_other_observations_are_refused(tmp_path: Path) -> None:
    model = make_learner(make_world("vector"))
    for env in (VecNormalize(make_world("matrix")), VecNormalize(make_world("dict"), norm_obs_keys=["vector"])):
        with pytest.raises(ValueError, match="belongs to another model"):
            export_onnx(model, tmp_path / "model.onnx", env)
    stacked = VecFrameStack(VecNormalize(make_world("vector")), 2)
    with pytest.raises(ValueError, match="VecFrameStack"):
        export_onnx(DQN("MlpPolicy", stacked, buffer_size=100), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_neither_q_values_nor_a_policy_of_a_known_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ARS cannot be exported: .*RecurrentDQN, .*PPO, .*and MaskablePPO can\."):
        export_onnx(ARS("MlpPolicy", make_world()), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (dict(model=None), r"model=None is a NoneType; pass the agent: a RecurrentDQN"),
        (dict(model=RecurrentDQN), r"pass the agent"),
        (dict(path=None), r"path=None must be a path"),
        (dict(path=b"model.onnx"), r"path=b'model.onnx' must be a path"),
        (dict(path=""), r"path='' must be a path"),
        (dict(path="."), r"is a folder; add the name of the file, model.onnx"),
        (dict(check="no"), r"check='no' must be True or False"),
        (dict(check=None), r"check=None must be True or False"),
        (dict(vec_normalize=3), r"vec_normalize is a int; pass the agent's VecNormalize"),
        (dict(vec_normalize=make_world()), r"vec_normalize is a DummyVecEnv; pass"),
    ],
)
def test_arguments_that_make_no_sense(
    arguments: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=told):
        export_onnx(**{"model": make_learner(), "path": tmp_path / "model.onnx", **arguments})
    assert not list(tmp_path.iterdir())


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        export_onnx(make_learner(), tmp_path / "nowhere" / "model.onnx")


class Sceptic(BaseMemory):
    """Branches on values, as a graph cannot."""

    def __init__(self, input_dim: int) -> None:
        super().__init__(input_dim, latent_dim=input_dim)

    def initial_state(self, batch_size: int) -> MemoryState:
        return (th.zeros(batch_size, self.input_dim),)

    def forward(self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor) -> Any:
        if features.sum() > 0:
            return features, state
        return -features, state


def test_a_memory_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    model = make_learner(policy_kwargs=dict(memory_class=Sceptic))
    with pytest.raises(ValueError) as caught:
        export_onnx(model, tmp_path / "model.onnx")
    told = str(caught.value)
    assert "Sceptic" in told and "data-dependent" in told and "attentive_lstm" in told and len(told) < 1_000
    assert not list(tmp_path.iterdir())


def test_a_file_that_plays_differently_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxscript import opset18 as op

    def without_bias(inputs: Any, weight: Any, bias: Any = None) -> Any:
        return op.MatMul(inputs, op.Transpose(weight, perm=[1, 0]))

    broken = {**onnx_export.translations(), th.ops.aten.linear.default: without_bias}
    monkeypatch.setattr(onnx_export, "translations", lambda: broken)
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the old one")
    with pytest.raises(RuntimeError, match=r"q_values are .* away from the model's"):
        model = make_learner()
        shake(model)
        export_onnx(model, target)
    assert target.read_bytes() == b"the old one" and len(list(tmp_path.iterdir())) == 1
