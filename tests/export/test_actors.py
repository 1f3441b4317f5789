"""Actors, recurrent, masked and continuous ones too: the file decides as the model does."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, VecTransposeImage

from sb3_attnmem.export import OnnxPolicy, export_onnx
from sb3_attnmem.export.actions import choose, within_bounds
from tests.dqn_recurrent.worlds import SPACES, World
from tests.export.parity import TOLERANCE, shake

pytest.importorskip("onnxscript")

SMALL = dict(net_arch=dict(pi=[16], vf=[4]))
ROOM = spaces.Box(np.array([[-1, 0], [-0.2, 5]], np.float32), np.array([[1, 0.1], [0.3, 9]], np.float32))
ROAD = spaces.Box(-2.0, 1.0, (2,), np.float32)


class Case(NamedTuple):
    """
    :param algorithm: its class
    :param actions: that it chooses from
    :param observations: name of a space
    :param options: of its policy
    :param normalized: whether it was trained behind VecNormalize
    """

    algorithm: Any
    actions: spaces.Space
    observations: str = "vector"
    options: Any = {}  # noqa: RUF012
    normalized: bool = False


CASES = {
    "PPO": Case(PPO, spaces.Discrete(4), normalized=True),
    "A2C of a Dict": Case(A2C, spaces.MultiDiscrete([3, 2]), "dict"),
    "TRPO": Case(TRPO, ROOM),
    "squashed": Case(PPO, ROAD, options=dict(use_sde=True), normalized=True),
    "RecurrentPPO": Case(RecurrentPPO, spaces.Discrete(3), options=dict(lstm_hidden_size=8, n_lstm_layers=2)),
    "MaskablePPO": Case(MaskablePPO, spaces.MultiDiscrete([3, 2])),
}


class ActingWorld(World):
    """:param actions: its action space"""

    def __init__(self, space: spaces.Space, actions: spaces.Space, env_id: int = 0) -> None:
        super().__init__(space, env_id)
        self.action_space = actions


class MaskingWorld(ActingWorld):
    """Of the first dimension, the first choice is never valid."""

    def action_masks(self) -> np.ndarray:
        return np.array([False, True, True, True, True])


def make_env(case: Case, n_envs: int) -> VecEnv:
    space, world = SPACES[case.observations], MaskingWorld if case.algorithm is MaskablePPO else ActingWorld
    env: VecEnv = DummyVecEnv([lambda i=i: world(space, case.actions, i) for i in range(n_envs)])
    return VecTransposeImage(env) if case.observations == "dict" else env


@pytest.fixture(name="played", scope="module", params=list(CASES))
def _played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    case = CASES[request.param]
    env = VecNormalize(make_env(case, 2)) if case.normalized else make_env(case, 2)
    options = dict(SMALL, **case.options)
    kwargs = dict(use_sde=options.pop("use_sde", False)) if "use_sde" in options else {}
    if kwargs:
        options.update(squash_output=True, full_std=False, log_std_init=-0.5)
    policy = "MultiInputPolicy" if case.observations == "dict" else "MlpPolicy"
    if case.algorithm is RecurrentPPO:
        policy = "MlpLstmPolicy"
    steps = dict(n_steps=8) if case.algorithm is A2C else dict(n_steps=8, batch_size=8)
    model = case.algorithm(policy, env, policy_kwargs=options, device="cpu", seed=0, **steps, **kwargs)
    model.learn(32)  # what it keeps of its last distribution holds gradients
    shake(model)
    path = tmp_path_factory.mktemp("actors") / f"{case.algorithm.__name__}.onnx"
    policy = OnnxPolicy(export_onnx(model, path, check=request.param == "RecurrentPPO").path, seed=0)
    with pytest.raises(ValueError, match=rf"epsilon=0.1: a {case.algorithm.__name__} draws from its own distribution"):
        OnnxPolicy(path, epsilon=0.1)
    return case, model, policy


def distribution_of(model: Any, observation: Any, state: Any, starts: np.ndarray) -> Any:
    """:return: SB3's own, of a step"""
    tensors, _ = model.policy.obs_to_tensor(observation)
    if not isinstance(model, RecurrentPPO):
        return model.policy.get_distribution(tensors)
    states = state or (np.zeros((model.policy.lstm_actor.num_layers, len(starts), 8)),) * 2
    return model.policy.get_distribution(
        tensors,
        tuple(th.as_tensor(part, dtype=th.float32) for part in states),
        th.as_tensor(starts, dtype=th.float32),
    )[0]


def log_probabilities(distribution: Any) -> np.ndarray:
    masked = hasattr(distribution, "distributions")  # sb3-contrib's name of the parts
    parts = distribution.distributions if masked else distribution.distribution
    return np.concatenate([part.logits.numpy() for part in (parts if isinstance(parts, list) else [parts])], axis=1)


def normalized(logits: np.ndarray, nvec: list[int]) -> np.ndarray:
    parts = np.split(logits, np.cumsum(nvec)[:-1], axis=1)
    return np.concatenate([part - np.log(np.exp(part).sum(axis=1, keepdims=True)) for part in parts], axis=1)


@pytest.mark.parametrize("n_envs", [1, 5])
def test_every_step(played: Any, n_envs: int) -> None:
    case, model, policy = played
    env, normalize = make_env(case, n_envs), model.get_vec_normalize_env()
    obs, starts = env.reset(), np.ones(n_envs, bool)
    state: Any = None
    file_state: Any = None
    seen, n_episodes = [], 0
    rng = np.random.default_rng(0)
    continuous = isinstance(case.actions, spaces.Box)
    nvec = [case.actions.n] if isinstance(case.actions, spaces.Discrete) else getattr(case.actions, "nvec", None)
    for _ in range(100 // n_envs + 20):
        shown = obs if normalize is None else normalize.normalize_obs(obs)
        masks = {}
        if case.algorithm is MaskablePPO:
            drawn = rng.random((n_envs, 5)) < 0.5
            drawn[:, [0, 3]] |= ~np.stack([drawn[:, :3].any(axis=1), drawn[:, 3:].any(axis=1)], axis=1)
            masks = dict(action_masks=drawn)
        with th.no_grad():
            wanted = distribution_of(model, shown, state, starts)
            if continuous:
                means, _ = policy.means(obs, file_state, starts)
                np.testing.assert_allclose(means, wanted.distribution.mean, atol=TOLERANCE)
                outputs, _ = policy._outputs(["means", "deviations"], obs, file_state, starts)
                np.testing.assert_allclose(outputs[1], wanted.distribution.stddev, atol=TOLERANCE)
                seen.append(means)
            else:
                logits, _ = policy.logits(obs, file_state, starts)
                np.testing.assert_allclose(normalized(logits, nvec), log_probabilities(wanted), atol=TOLERANCE)
                seen.append(logits)
        file_actions, file_state = policy.predict(obs, file_state, starts, deterministic=True, **masks)
        actions, state = model.predict(shown, state=state, episode_start=starts, deterministic=True, **masks)
        assert file_actions.shape == actions.shape and (file_actions.dtype.kind == "f") == continuous
        if continuous:
            np.testing.assert_allclose(file_actions, actions, atol=TOLERANCE)
        else:
            assert (file_actions == actions).all()
        obs, _, starts, _ = env.step(actions)
        n_episodes += int(starts.sum())
    assert np.std(seen) > 100 * TOLERANCE and n_episodes > 2


def test_what_the_file_tells(played: Any) -> None:
    case, model, policy = played
    assert policy.metadata["sb3_attnmem.algorithm"] == case.algorithm.__name__
    assert policy.values == ("means" if isinstance(case.actions, spaces.Box) else "logits")
    assert policy.squashes == (case.options.get("use_sde", False)) and not policy.has_quantiles
    recurrent = case.algorithm is RecurrentPPO
    assert policy.state_names == (("h", "c") if recurrent else ())
    assert json.loads(policy.metadata["sb3_attnmem.memory"])["name"] == ("lstm" if recurrent else "none")
    with pytest.raises(
        ValueError, match=rf"A {case.algorithm.__name__} has no q_values, it decides by {policy.values}"
    ):
        policy.q_values(make_env(case, 1).reset())
    assert model.policy.action_net is not None, "the model is as it was"


def test_what_is_not_finite_goes_with_its_episode(played: Any) -> None:
    case, _, policy = played
    if not policy.state_names:
        return
    obs = make_env(case, 2).reset()
    _, state = policy.predict(obs, deterministic=True)
    bad = tuple(np.full_like(part, np.nan) for part in state)
    fresh, _ = policy.predict(obs, None, None, deterministic=True)
    begun, after = policy.predict(obs, bad, np.array([True, False]), deterministic=True)
    assert (begun[0] == fresh[0]).all() and np.isfinite(after[0][0]).all()


def test_drawn_actions_follow_the_distribution(played: Any) -> None:
    case, _, policy = played
    one = make_env(case, 1).reset()
    obs: Any = (
        {key: part.repeat(4_000, axis=0) for key, part in one.items()}
        if isinstance(one, dict)
        else one.repeat(4_000, axis=0)
    )
    actions, _ = policy.predict(obs)
    if not isinstance(case.actions, spaces.Box):
        logits, _ = policy.logits(one)
        nvec = getattr(case.actions, "nvec", [getattr(case.actions, "n", 0)])
        wanted = np.exp(normalized(logits, nvec)[0])
        columns = actions.reshape(len(actions), -1)
        shares = np.concatenate([np.bincount(columns[:, i], minlength=n) / 4_000 for i, n in enumerate(nvec)])
        assert np.abs(shares - wanted).max() < 0.04
        return
    (means, deviations), _ = policy._outputs(["means", "deviations"], one, None, None)
    flat = actions.reshape(4_000, -1)
    low, high = case.actions.low.reshape(-1), case.actions.high.reshape(-1)
    assert (flat >= low).all() and (flat <= high).all()
    greedy = within_bounds(means, policy.action_space, policy.squashes).reshape(-1)
    # The medians are those of the distribution, whatever is done to it that keeps the order
    assert np.abs(np.median(flat, axis=0) - greedy).max() < 0.1 * (high - low).max()
    assert flat.std() > 0.01 and (deviations > 0).all()


def test_masks_that_allow_nothing_of_a_dimension(played: Any) -> None:
    case, _, policy = played
    if case.algorithm is not MaskablePPO:
        return
    obs = make_env(case, 2).reset()
    masks = np.array([[1, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    with pytest.raises(ValueError, match="no valid action"):
        policy.predict(obs, action_masks=masks)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(2, 5\)"):
        policy.predict(obs, action_masks=masks[:, :4])
    masks[1, 4] = 1
    for _ in range(20):
        actions, _ = policy.predict(obs, action_masks=masks)
        assert (actions[:, 1] == 1).all() and actions[0, 0] != 2 and actions[1, 0] != 1


def test_squashing_and_clipping_worked_out_by_hand() -> None:
    space = dict(type="Box", shape=[2], dtype="float32", low=[-1.0, 0.0], high=[3.0, "inf"])
    np.testing.assert_allclose(within_bounds(np.array([[5.0, -2.0]]), space, False), [[3.0, 0.0]])
    bounded = {**space, "high": [3.0, 1.0]}
    wanted = [[-1 + 2 * (np.tanh(0.5) + 1), 0.5]]
    np.testing.assert_allclose(within_bounds(np.array([[0.5, 0.0]]), bounded, True), wanted, rtol=1e-6)


def test_the_best_of_each_dimension() -> None:
    values = np.array([[1.0, 3.0, 2.0, 0.0, -1.0], [5.0, -np.inf, 0.0, -np.inf, 0.0]])
    assert choose(values, [3, 2]).tolist() == [[1, 0], [0, 1]]
    drawn = np.stack([choose(values, [3, 2], np.random.default_rng(i)) for i in range(200)])
    assert set(drawn[:, 1, 0].tolist()) <= {0, 2} and set(drawn[:, 1, 1].tolist()) == {1}


def test_bits_are_refused(tmp_path: Path) -> None:
    env = ActingWorld(SPACES["vector"], spaces.MultiBinary(3))
    with pytest.raises(ValueError, match=r"PPO with the actions MultiBinary\(3\) cannot be exported"):
        export_onnx(PPO("MlpPolicy", env, n_steps=8, batch_size=8), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
