"""The file plays as the model does: 1,000 steps, several episodes, one environment and seven."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import rl_zoo3.import_envs  # noqa: F401  registers CartPoleNoVel-v1
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, VecTransposeImage

from benchmarks.tasks.cued_target import CuedTarget
from sb3_attnmem.export import Exported, OnnxPolicy, export_onnx
from tests.dqn_recurrent.worlds import World, make_learner
from tests.export.parity import assert_alike, play_both

pytest.importorskip("onnxscript")

LSTM = dict(memory_class="lstm", memory_kwargs=dict(hidden_size=16), memory_fusion="gate")
CNN = dict(
    features_extractor_class="spatial_attention_cnn",
    features_extractor_kwargs=dict(trunk=[(16, 5, 5), (16, 1)], features_dim=32, n_heads=4),
)
MIXED = spaces.Dict(
    vector=spaces.Box(-1, 1, (3,), np.float32),
    image=spaces.Box(0, 255, (36, 36, 3), np.uint8),
    number=spaces.Discrete(5),
    bits=spaces.MultiBinary(4),
)


class Case(NamedTuple):
    """
    :param model: trained a little
    :param make_env: makes n environments, without wrappers
    :param vec_normalize: that the model was trained behind
    :param policy: the model's file
    :param exported: what was told of it
    """

    model: BaseAlgorithm
    make_env: Any
    vec_normalize: VecNormalize | None
    policy: OnnxPolicy
    exported: Exported


def cartpole(n_envs: int) -> VecEnv:
    return make_vec_env("CartPoleNoVel-v1", n_envs=n_envs, seed=n_envs)


def cues(n_envs: int) -> VecEnv:
    return make_vec_env(CuedTarget, n_envs=n_envs, seed=n_envs)


def mixed(n_envs: int) -> VecEnv:
    return DummyVecEnv([lambda i=i: World(MIXED, i) for i in range(n_envs)])


CASES = {
    "CartPoleNoVel": (cartpole, "MlpPolicy", LSTM),
    "image": (
        cues,
        "CnnPolicy",
        dict(CNN, **LSTM),
    ),
    "dict": (
        mixed,
        "MultiInputPolicy",
        dict(
            memory_class="gru",
            memory_kwargs=dict(hidden_size=16),
        ),
    ),
}


@pytest.fixture(name="case", scope="module")
def _case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    make_env, policy, policy_kwargs = CASES[request.param]
    env: VecEnv = make_env(4)
    vec_normalize = None
    if request.param == "CartPoleNoVel":
        env = vec_normalize = VecNormalize(env)
    elif request.param == "dict":
        env = vec_normalize = VecNormalize(VecTransposeImage(env), norm_obs_keys=["vector"], clip_obs=1.5)
    model = make_learner(env, policy, policy_kwargs=policy_kwargs, learning_rate=1e-3)
    model.learn(400)
    exported = export_onnx(model, tmp_path_factory.mktemp("export") / "model.onnx")
    return Case(model, make_env, vec_normalize, OnnxPolicy(exported.path), exported)


def cases_of(*n_envs: tuple[str, int]) -> list[Any]:
    """:return: every case with every number of environments; those that are not named are slow tests"""
    product = [(name, n) for name in CASES for n in (1, 7)]
    return [pytest.param(*one, marks=[] if one in n_envs else pytest.mark.slow) for one in product]


@pytest.mark.parametrize(
    ("case", "n_envs"), cases_of(("CartPoleNoVel", 7), ("image", 1), ("dict", 7)), indirect=["case"]
)
def test_a_thousand_steps(case: Case, n_envs: int) -> None:
    assert_alike(play_both(case.model, case.policy, case.make_env(n_envs), 1_000, case.vec_normalize))
