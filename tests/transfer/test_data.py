"""Data from elsewhere that do not fit: told clearly, and nothing is stored, half-stored or forgotten."""

import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize, VecTransposeImage

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.transfer import (
    Episode,
    fill_from_buffer,
    fill_from_episodes,
    fill_from_minari,
    keep_old_data,
    recompute_states,
)

BOX = spaces.Box(-np.inf, np.inf, (2,), np.float32)
DICT = spaces.Dict({"here": BOX, "room": spaces.Discrete(3)})


class Walk(gym.Env):
    """Observations of any space; an episode has ``n_steps`` steps, and ends by termination."""

    action_space = spaces.Discrete(3)

    def __init__(self, space: spaces.Space = BOX, n_steps: int = 6) -> None:
        self.observation_space = space
        self.n_steps = n_steps

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == self.n_steps, False, {}


def make(space: spaces.Space = BOX, n_envs: int = 1, env: Any = None, **options: Any) -> RecurrentDQN:
    kwargs = dict(net_arch=[4], encoder_arch=[4], memory_class="gru", memory_kwargs=dict(hidden_size=4))
    settings: dict[str, Any] = dict(sequence_length=4, burn_in=0, n_steps=1, batch_size=4, learning_starts=4)
    settings |= dict(buffer_size=120, train_freq=2, seed=0, policy_kwargs=kwargs)
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    return RecurrentDQN(policy, env or DummyVecEnv([lambda: Walk(space)] * n_envs), **{**settings, **options})


def episode(space: spaces.Space = BOX, n_steps: int = 5, terminated: bool = True) -> Episode:
    space.seed(0)
    taken = [space.sample() for _ in range(n_steps + 1)]
    observations: Any = np.stack(taken) if not isinstance(space, spaces.Dict) else {
        key: np.stack([one[key] for one in taken]) for key in space
    }  # fmt: skip
    return Episode(observations, np.arange(n_steps) % 3, np.ones(n_steps), terminated)


GOOD = episode()
OBSERVATIONS: np.ndarray = GOOD.observations  # type: ignore[assignment]
ROOMS: dict[str, np.ndarray] = episode(DICT).observations  # type: ignore[assignment]


def n_stored(model: RecurrentDQN) -> int:
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    return 0 if tapes is None else tapes.n_transitions()


WRONG: list[tuple[spaces.Space, Any, str]] = [
    (BOX, tuple(GOOD), "Episode 1 is a tuple"),
    (BOX, None, "Episode 1 is a NoneType (None)"),
    (BOX, GOOD._replace(observations=[*OBSERVATIONS[:-1], np.zeros(3)]), "observations of different shapes"),
    (BOX, GOOD._replace(observations=None), "observations that are no array of numbers, but a NoneType"),
    (BOX, GOOD._replace(observations=["a"] * 6), "observations that are no array of numbers, but a list"),
    (BOX, GOOD._replace(observations=OBSERVATIONS[:, :1]), "observations of shape (1,) a step; the space has (2,)"),
    (BOX, GOOD._replace(observations=OBSERVATIONS[:-1]), "[5] observations"),
    (BOX, GOOD._replace(observations=OBSERVATIONS * np.inf), "observations that are not finite"),
    (BOX, GOOD._replace(observations=np.full((6, 2), 1e300)), "do not fit into float32"),
    (BOX, GOOD._replace(observations=dict(here=OBSERVATIONS)), "no array of numbers, but a dict"),
    (BOX, GOOD._replace(actions=np.zeros(5)), "actions of shape (5,) and type float64"),
    (BOX, GOOD._replace(actions=np.zeros((5, 1), int)), "actions of shape (5, 1)"),
    (BOX, GOOD._replace(actions=[0, 1, 2, 3, 0]), "from 0 to 3; the model takes integers from 0 to 2"),
    (BOX, GOOD._replace(actions=[0, -1, 2, 1, 0]), "from -1 to 2"),
    (BOX, GOOD._replace(actions=[[0], 1]), "actions of different shapes"),
    (BOX, GOOD._replace(actions=[]), "0 actions"),
    (BOX, GOOD._replace(actions=3), "actions that are no array of numbers, but a int (3)"),
    (BOX, GOOD._replace(rewards=np.ones((5, 2))), "rewards of shape (2,) a step"),
    (BOX, GOOD._replace(rewards=[1, 2, None, 3, 4]), "rewards that are no array of numbers"),
    (BOX, GOOD._replace(rewards=[1, 2, np.nan, 3, 4]), "rewards that are not finite"),
    (BOX, GOOD._replace(rewards=[1e39] * 5), "rewards of type float64 from 1e+39 to 1e+39, which do not fit"),
    (BOX, GOOD._replace(terminated="no"), "terminated of episode 1='no' must be True or False"),
    (BOX, GOOD._replace(terminated=None), "terminated of episode 1=None must be True or False"),
    (BOX, GOOD._replace(valid=np.ones((5, 3))), "action masks of shape (5, 3); expected (6, 3)"),
    (BOX, GOOD._replace(valid=np.tile([1, 1, 0], (6, 1))), "the actions taken must be valid"),
    (DICT, episode(DICT)._replace(observations=OBSERVATIONS), "observations with no keys; the space has"),
    (DICT, episode(DICT)._replace(observations={"here": OBSERVATIONS}), "the keys ['here']; the space has"),
    (DICT, episode(DICT)._replace(observations={**ROOMS, "room": np.array([0, 1, 2, 3, 0, 1])}), "from 0 to 3"),
    (DICT, episode(DICT)._replace(observations={**ROOMS, "room": np.full(6, 0.5)}), "do not fit into int64"),
    (spaces.Box(0, 255, (2,), np.uint8), GOOD._replace(observations=np.full((6, 2), 256)), "do not fit into uint8"),
    (spaces.Box(0, 255, (2,), np.uint8), GOOD, "do not fit into uint8"),
    (spaces.MultiDiscrete([2, 3]), GOOD._replace(observations=np.full((6, 2), 2)), "outside of MultiDiscrete"),
    (spaces.MultiBinary(2), GOOD._replace(observations=np.full((6, 2), -1)), "from -1 to -1, outside of MultiBinary"),
]


@pytest.mark.parametrize("space, wrong, complaint", WRONG, ids=lambda value: str(value)[-40:])
def test_a_later_episode_that_does_not_fit_is_told_before_the_first_is_stored(
    space: spaces.Space, wrong: Any, complaint: str
) -> None:
    model = make(space)
    with pytest.raises(ValueError, match=re.escape(complaint)):
        fill_from_episodes(model, [episode(space), wrong], space)
    assert n_stored(model) == 0
    assert fill_from_episodes(model, [episode(space)], space) == n_stored(model) == 5


@pytest.mark.parametrize("space", [BOX, DICT, spaces.Discrete(4), spaces.MultiBinary(3)], ids=str)
def test_lists_are_taken_for_arrays(space: spaces.Space) -> None:
    arrays = episode(space, terminated=False)
    as_lists: Any = {key: array.tolist() for key, array in arrays.observations.items()} if isinstance(
        arrays.observations, dict) else arrays.observations.tolist()  # fmt: skip
    lists = Episode(as_lists, arrays.actions.tolist(), arrays.rewards.tolist(), np.False_)  # type: ignore[arg-type]
    models = []
    for given in (arrays, lists):
        model = make(space)
        assert fill_from_episodes(model, (given,), space) == 5
        models.append([array[:, :6] for array in model.replay_buffer.tapes.arrays()[:-1]])  # type: ignore[union-attr]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*models, strict=True))


@pytest.mark.parametrize("space", [BOX, DICT, spaces.Discrete(4), spaces.MultiDiscrete([3, 2])], ids=str)
@pytest.mark.parametrize("source", ["ours", "SB3's"])
def test_a_buffer_of_any_space_fills_another(source: str, space: spaces.Space) -> None:
    if source == "ours":
        there: Any = make(space, n_envs=2)
    else:
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
        there = DQN(policy, Walk(space), learning_starts=100, buffer_size=50)
    there.learn(20)
    model = make(space)
    assert fill_from_buffer(model, there.replay_buffer) == n_stored(model) == 20


def test_an_environment_that_is_normalised_before_its_images_are_transposed_is_told() -> None:
    space = spaces.Box(0, 255, (36, 36, 3), np.uint8)
    model = make(env=VecTransposeImage(VecNormalize(DummyVecEnv([lambda: Walk(space)]), norm_obs=False)))
    with pytest.raises(ValueError, match=r"VecNormalize\(VecTransposeImage\(env\)\)"):
        fill_from_episodes(model, [episode(space)], space)
    assert n_stored(model) == 0


def test_stacked_frames_of_a_full_buffer_are_taken_over() -> None:
    """The ring's edge cuts an episode: its rest begins with zeros as older frames, as any episode does."""
    env = VecFrameStack(DummyVecEnv([lambda: Walk(n_steps=50)]), 3)
    there = make(env=env, buffer_size=40)
    there.learn(70)
    model = make(env=env)
    assert fill_from_buffer(model, there.replay_buffer) == n_stored(there)  # type: ignore[arg-type]
    tapes, theirs = model.replay_buffer.tapes, there.replay_buffer.tapes  # type: ignore[union-attr]
    first = theirs.oldest[0]  # type: ignore[union-attr]
    stack = model.replay_buffer.frame_stack.rebuild(tapes, np.zeros(4, int), np.arange(4))  # type: ignore
    frames = theirs.read(np.zeros(4, int), first + np.arange(4))  # type: ignore[union-attr]
    assert not stack[0, :4].any() and np.array_equal(stack[0, 4:], frames[0])  # type: ignore[index]
    assert np.array_equal(stack[3], frames[1:4].reshape(-1))  # type: ignore[index]


FUNCTIONS: dict[str, Any] = {
    "episodes": lambda model: fill_from_episodes(model, [GOOD], BOX),
    "buffer": lambda model: fill_from_buffer(model, make().replay_buffer),  # type: ignore[arg-type]
    "minari": lambda model: fill_from_minari(model, "nothing"),
    "states": recompute_states,
    "old data": keep_old_data,
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_recurrent_dqn_is_told(function: str) -> None:
    lost = make()
    lost.replay_buffer = None
    for model, complaint in (
        (None, "model=None must be a RecurrentDQN"),
        (DQN("MlpPolicy", Walk(), buffer_size=10), "model=a DQN must be a RecurrentDQN"),
        (lost, "has no replay buffer"),
    ):
        with pytest.raises(ValueError, match=complaint):
            FUNCTIONS[function](model)


def test_other_wrong_arguments_are_told(tmp_path: Path) -> None:
    model = make()
    (tmp_path / "broken.pkl").write_bytes(pickle.dumps(GOOD)[:-9])
    (tmp_path / "other.pkl").write_bytes(pickle.dumps([1, 2]))
    for call, complaint in (
        (lambda: fill_from_episodes(model, None, BOX), "episodes=None must be a list of Episode"),  # type: ignore
        (lambda: fill_from_episodes(model, 3, BOX), "episodes=3 must be a list of Episode"),  # type: ignore[arg-type]
        (lambda: fill_from_episodes(model, [GOOD], (2,)), "observation_space=(2,) must be the space"),  # type: ignore
        (lambda: fill_from_buffer(model, None), "buffer=None must be a replay buffer"),  # type: ignore[arg-type]
        (lambda: fill_from_buffer(model, [GOOD]), "must be a replay buffer, or the file"),  # type: ignore[arg-type]
        (lambda: fill_from_buffer(model, tmp_path / "broken.pkl"), "broken.pkl is no file that save_replay_buffer"),
        (lambda: fill_from_buffer(model, tmp_path / "other.pkl"), "holds a list, which is no replay buffer"),
        (lambda: fill_from_minari(model, None), "dataset=None must be a Minari dataset"),
        (lambda: fill_from_minari(model, [GOOD]), "must be a Minari dataset, its folder or its id"),
    ):
        with pytest.raises(ValueError, match=re.escape(complaint)):
            call()
    with pytest.raises(FileNotFoundError):
        fill_from_buffer(model, tmp_path / "nothing.pkl")
    assert n_stored(model) == 0


# Old data


@pytest.mark.parametrize("share", [float("nan"), True, "0.5", None, 1, -0.5])
def test_a_share_that_is_none_changes_nothing(share: Any) -> None:
    model = make()
    fill_from_episodes(model, [GOOD], BOX)
    before, state = model.replay_buffer, model.replay_buffer.rng.bit_generator.state  # type: ignore[union-attr]
    with pytest.raises(ValueError, match=re.escape(f"old_share={share!r} must be a finite number")):
        keep_old_data(model, share)
    assert model.replay_buffer is before and before.rng.bit_generator.state == state  # type: ignore[union-attr]


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("n_steps", [1, 2])
@pytest.mark.parametrize("source", ["filled", "collected"])
def test_a_handful_of_old_transitions_is_kept(source: str, n_steps: int, terminated: bool) -> None:
    model = make(n_envs=3)
    if source == "filled":
        fill_from_episodes(model, [episode(n_steps=n_steps, terminated=terminated)], BOX)
    else:
        model.learn(3 * n_steps)
    n_old = n_stored(model)
    keep_old_data(model, 0.5)
    assert n_stored(model) == 0
    model.learn_offline(2)
    model.learn(12)
    old, new = model.replay_buffer.parts  # type: ignore[union-attr]
    assert old.tapes.n_transitions() == n_old and new.tapes.n_transitions() == 12  # type: ignore[union-attr]
