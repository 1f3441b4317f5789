"""How a policy is asked, and what it answers to what it cannot use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch as th
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.export import OnnxPolicy, export_onnx, onnx_policy
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.export.parity import shake

OBS = np.array([0.1, -0.2, 0.3], np.float32)


@pytest.fixture(name="model", scope="module")
def _model() -> RecurrentDQN:
    env = VecNormalize(make_world())
    model = make_learner(env)
    model.learn(60)
    shake(model)
    with th.no_grad():  # each action shall be the best one somewhere
        anywhere = th.as_tensor(np.random.default_rng(0).normal(size=(1_000, 3)).astype(np.float32))
        model.q_net.q_net.advantage[-1].bias -= model.q_net(anywhere).mean(dim=0)
    return model


@pytest.fixture(name="path", scope="module")
def _path(model: RecurrentDQN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(model, tmp_path_factory.mktemp("vector") / "model.onnx").path


@pytest.fixture(name="policy", scope="module")
def _policy(path: Path) -> OnnxPolicy:
    return OnnxPolicy(path)


@pytest.fixture(name="of_dict", scope="module")
def _of_dict(tmp_path_factory: pytest.TempPathFactory) -> OnnxPolicy:
    model = make_learner(make_world("dict"), "MultiInputPolicy", policy_kwargs=dict(memory_class="none"))
    return OnnxPolicy(export_onnx(model, tmp_path_factory.mktemp("dict") / "model.onnx", check=False).path)


def normalized(model: RecurrentDQN, obs: np.ndarray) -> Any:
    env = model.get_vec_normalize_env()
    assert env is not None
    return env.normalize_obs(obs)


def test_one_observation_and_a_batch(model: RecurrentDQN, policy: OnnxPolicy) -> None:
    action, state = policy.predict(OBS, deterministic=True)
    wanted, wanted_state = model.predict(normalized(model, OBS), deterministic=True)
    assert action == wanted and np.shape(action) == np.shape(wanted) == ()
    assert [part.shape for part in state] == [part.shape for part in wanted_state] == [(1, 1, 8)] * 2
    actions, states = policy.predict(np.stack([OBS] * 4), deterministic=True)
    assert actions.tolist() == [int(action)] * 4 and [part.shape for part in states] == [(4, 1, 8)] * 2
    q_values, _ = policy.q_values(OBS)
    assert q_values.shape == (3,) and q_values.argmax() == action


def test_where_an_episode_begins_nothing_is_remembered(policy: OnnxPolicy) -> None:
    _, state = policy.predict(np.stack([OBS, 2 * OBS]))
    fresh, _ = policy.q_values(np.stack([OBS, OBS]))
    going_on, _ = policy.q_values(np.stack([OBS, OBS]), state)
    begun, _ = policy.q_values(np.stack([OBS, OBS]), state, np.array([True, False]))
    assert (begun[0] == fresh[0]).all() and (begun[1] == going_on[1]).all()
    assert np.abs(going_on - fresh).max() > 1e-3, "the state counts"


def test_what_comes_in_stays_as_it_was(policy: OnnxPolicy) -> None:
    obs = np.stack([OBS, OBS])
    _, state = policy.predict(obs)
    kept = [part.copy() for part in state]
    policy.predict(obs, state, np.ones(2, bool))
    assert all((a == b).all() for a, b in zip(state, kept, strict=True)) and (obs == OBS).all()


@pytest.mark.parametrize("starts", [True, 1, [1], [1.0], np.array([1]), np.array([True])])
def test_starts_are_flags_of_any_number_type(policy: OnnxPolicy, starts: Any) -> None:
    _, state = policy.predict(OBS)
    assert (policy.q_values(OBS, state, starts)[0] == policy.q_values(OBS)[0]).all()


def test_doubles_and_lists_are_taken(policy: OnnxPolicy) -> None:
    expected = policy.q_values(OBS)[0]
    assert (policy.q_values(OBS.astype(np.float64))[0] == expected).all()
    np.testing.assert_allclose(policy.q_values([0.1, -0.2, 0.3])[0], expected, atol=1e-6)  # type: ignore[arg-type]


def test_random_actions_are_tossed_for_each(path: Path) -> None:
    policy = OnnxPolicy(path, epsilon=0.5, seed=0)
    obs = np.stack([OBS] * 3_000)
    greedy = policy.predict(obs, deterministic=True)[0]
    assert len(set(greedy.tolist())) == 1
    actions = policy.predict(obs)[0]
    # Half are random, of these a third greedy all the same
    assert 0.29 < (actions != greedy).mean() < 0.37 and set(actions.tolist()) == {0, 1, 2}
    assert OnnxPolicy(path).predict(obs)[0].tolist() == greedy.tolist(), "without epsilon none is"


def test_it_stands_in_for_a_model_in_evaluate_policy(model: RecurrentDQN, policy: OnnxPolicy) -> None:
    def score(player: Any, env: Any) -> Any:
        env.seed(5)
        return evaluate_policy(player, env, n_eval_episodes=6, return_episode_rewards=True, warn=False)

    env = VecNormalize(make_world(), training=False, norm_reward=False)
    env.obs_rms = model.get_vec_normalize_env().obs_rms  # type: ignore[union-attr]
    assert score(policy, make_world()) == score(model, env)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (dict(observation=np.zeros(4, np.float32)), r"shape \(4,\), expected \(3,\), or \(B, 3\)"),
        (dict(observation=np.zeros((0, 3), np.float32)), r"shape \(0, 3\)"),
        (dict(observation=np.array(["a", "b", "c"])), "dtype <U1, expected float32"),
        (dict(observation=(OBS, {})), "got a tuple instead of an observation"),
        (dict(observation=OBS, state=[np.zeros((1, 1, 8))] * 2), r"tuple of 2 arrays \('h', 'c'\).*got list of 2"),
        (dict(observation=OBS, state=(np.zeros((1, 1, 8)),)), "got tuple of 1"),
        (
            dict(observation=OBS, state=(np.zeros((2, 1, 8)),) * 2),
            r"state\[0\] has shape \(2, 1, 8\), expected \(1, 1, 8",
        ),
        (dict(observation=OBS, episode_start=np.zeros(2, bool)), r"episode_start has shape \(2,\), but there are 1"),
        (dict(observation=OBS, episode_start="x"), r"episode_start='x' must be True or False"),
        (dict(observation=OBS, episode_start=[2]), r"episode_start=\[2\] must be True or False"),
        (dict(observation=OBS, episode_start=[np.nan]), r"episode_start=\[nan\] must be True or False"),
        (dict(observation=OBS, deterministic="x"), r"deterministic='x' must be True or False"),
        (dict(observation=OBS + 1j), "dtype complex64, expected float32"),
        (dict(observation=[[1.0, 2.0], [3.0]]), r"observation is no array of shape \(3,\)"),
        (dict(observation=OBS * np.nan), r"observation of environment\(s\) \[0\] is not finite.*Nothing was predicted"),
        (dict(observation=np.stack([OBS, OBS + np.inf])), r"observation of environment\(s\) \[1\] is not finite"),
        (dict(observation=np.full(3, 1e300)), "is not finite: .*inf"),
        (dict(observation=OBS, state=(np.zeros((1, 1, 8), complex),) * 2), r"state\[0\] has dtype complex128"),
    ],
)
def test_clear_errors(policy: OnnxPolicy, words: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        policy.predict(**words)


def one_of(**changed: Any) -> dict[str, Any]:
    good: dict[str, Any] = dict(
        vector=OBS,
        image=np.zeros((36, 36, 3), np.uint8),
        number=3,
        numbers=np.array([2, 1]),
        bits=np.array([1, 0, 1, 0], np.int8),
    )
    return {key: value for key, value in {**good, **changed}.items() if value is not None}


def test_a_dict_as_it_should_be(of_dict: OnnxPolicy) -> None:
    action, state = of_dict.predict(one_of())  # type: ignore[arg-type]
    assert action.shape == () and state == ()
    first = one_of(image=np.zeros((3, 36, 36), np.uint8))  # as VecTransposeImage gives it
    assert of_dict.predict(first)[0] == action
    batch = {key: np.stack([value] * 2) for key, value in one_of().items()}
    assert of_dict.predict(batch)[0].tolist() == [int(action)] * 2


@pytest.mark.parametrize(
    ("observation", "told"),
    [
        (OBS, "of type ndarray, expected a dict"),
        (one_of(bits=None), "expected .*'bits'"),
        (one_of(number=5), "'number'.* is 5, expected integers from 0, below 5"),
        (one_of(number=1.5), "'number'.* has dtype float64 and values from 1.5 to 1.5 that int64 cannot hold"),
        (one_of(numbers=np.array([2, 2])), r"'numbers'.* is \[2, 2\], expected integers from 0, below \[3, 2\]"),
        (one_of(bits=np.array([1, 0, 2, 0])), "'bits'.*below 2"),
        (one_of(image=np.full((36, 36, 3), 0.5)), "'image'.*that uint8 cannot hold"),
        (one_of(image=np.zeros((36, 3, 36), np.uint8)), r"'image'.*expected \(3, 36, 36\)"),
        (one_of(vector=np.zeros((2, 3))), "batches of different sizes"),
        (one_of(vector=OBS * np.nan), "observation 'vector' of environment.* is not finite"),
    ],
)
def test_clear_errors_of_dicts(of_dict: OnnxPolicy, observation: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        of_dict.predict(observation)


def test_files_that_are_none_of_ours(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.onnx: there is no such file"):
        OnnxPolicy(tmp_path / "nowhere.onnx")
    broken = tmp_path / "broken.onnx"
    for content in (b"", b"no model at all", path.read_bytes()[:1000]):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken.onnx is no ONNX file that onnxruntime can read"):
            OnnxPolicy(broken)
    foreign = onnx.load(path)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match=r"not one that sb3_attnmem.export.export_onnx wrote"):
        OnnxPolicy(tmp_path / "foreign.onnx")
    newer = onnx.load(path)
    next(one for one in newer.metadata_props if one.key == "sb3_attnmem.format").value = "99"
    onnx.save(newer, tmp_path / "newer.onnx")
    with pytest.raises(ValueError, match="has format '99'"):
        OnnxPolicy(tmp_path / "newer.onnx")


def test_arguments_that_make_no_sense(path: Path) -> None:
    for epsilon in (1.5, -1, np.nan, "0.5", True, None):
        with pytest.raises(ValueError, match=r"epsilon=.* at least 0 and at most 1"):
            OnnxPolicy(path, epsilon=epsilon)  # type: ignore[arg-type]
    for option, values in dict(seed=[-1, 1.5, "x", True], num_threads=[-1, 1.5, True, None, 2**40]).items():
        for value in values:  # type: ignore[attr-defined]
            with pytest.raises(ValueError, match=f"{option}=.* must be an integer"):
                OnnxPolicy(path, **{option: value})
    for providers in ("CPUExecutionProvider", [], None, 3):
        with pytest.raises(ValueError, match=r"providers=.* must be a list of some of .*CPU"):
            OnnxPolicy(path, providers=providers)  # type: ignore[arg-type]
    for wrong in (None, 3, "", b"model.onnx"):
        with pytest.raises(ValueError, match=r"path=.* must be a path"):
            OnnxPolicy(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"is a folder; pass the ONNX file in it"):
        OnnxPolicy(path.parent)
    with pytest.raises(ValueError, match=r"no providers \['NPUExecutionProvider'\] here; it has .*CPU"):
        OnnxPolicy(path, providers=["NPUExecutionProvider"])


PLAY = """
import importlib.abc, json, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "stable_baselines3", "sb3_contrib", "gymnasium", "onnx", "onnxscript"}:
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())

import numpy as np
from sb3_attnmem.export import OnnxPolicy

policy, state, told = OnnxPolicy(sys.argv[1]), None, []
for obs, starts in zip(np.load(sys.argv[2])["obs"], np.load(sys.argv[2])["starts"]):
    actions, state = policy.predict(obs, state, starts, deterministic=True)
    told.append(actions.tolist())
try:
    import sb3_attnmem.memory
except ImportError:  # the blocker blocks
    print(json.dumps(told))
"""


def test_it_plays_where_torch_and_stable_baselines3_cannot_be_imported(
    model: RecurrentDQN, path: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    obs, starts = rng.uniform(-1, 1, (50, 4, 3)).astype(np.float32), rng.random((50, 4)) < 0.2
    np.savez(tmp_path / "steps.npz", obs=obs, starts=starts)
    command = [sys.executable, "-c", PLAY, str(path), str(tmp_path / "steps.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    state, wanted = None, []
    for now, begins in zip(obs, starts, strict=True):
        actions, state = model.predict(normalized(model, now), state, begins, deterministic=True)
        wanted.append(actions.tolist())
    assert json.loads(done.stdout) == wanted
    assert len({tuple(actions) for actions in wanted}) > 10, "it does not always do the same"


def test_without_onnxruntime(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        onnx_policy.OnnxPolicy(path)
    with pytest.raises(ImportError, match=r"pip install 'sb3_attnmem\[export\]'"):
        export_onnx(make_learner(), path)
