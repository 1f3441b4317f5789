"""What is added to a replay buffer is what it holds, whatever its type, its order and where it comes from."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_attnmem.common.observations import Observation, arrays_of, copy_observation, map_observation, rows_of
from sb3_attnmem.replay import FrameStack, SequenceSamples
from sb3_attnmem.replay.slots import Slot
from tests.ledger import LSTM, make_env, make_model

VECTOR = spaces.Box(-np.inf, np.inf, (2,), np.float32)
N_ENVS = 2


def make(space: spaces.Space = VECTOR, n_envs: int = N_ENVS, size: int = 40, **options: Any) -> SequenceReplayBuffer:
    options = dict(sequence_length=4, burn_in=4, n_steps=2, state_interval=2) | options
    buffer = SequenceReplayBuffer(n_envs * size, space, spaces.Discrete(3), "cpu", n_envs, **options)
    buffer.seed(0)
    return buffer


def add(buffer: SequenceReplayBuffer, obs: Any, next_obs: Any, **others: Any) -> None:
    n = buffer.n_envs
    given: dict[str, Any] = dict(action=np.zeros(n, int), reward=np.zeros(n), done=np.zeros(n, bool), infos=[{}] * n)
    given |= others
    buffer.add(obs, next_obs, given["action"], given["reward"], given["done"], given["infos"])


def frames(batch: SequenceSamples) -> list[Any]:
    return batch.window.observations.tolist()  # type: ignore[union-attr]


def kinds(buffer: SequenceReplayBuffer, row: int = 0) -> list[int]:
    assert buffer.tapes is not None
    return buffer.tapes.kinds[row, : buffer.tapes.ends[row]].tolist()


# Types


@pytest.mark.parametrize("as_type", [bool, int, np.uint8, float, list, tuple])
def test_dones_of_any_type(as_type: Any) -> None:
    told, plain = make(), make()
    for step in range(20):
        done = np.array([step % 3 == 0, step % 4 == 1])
        infos = [{"TimeLimit.truncated": step % 2 == 0}, {"TimeLimit.truncated": np.bool_(False)}]
        obs = np.full((2, 2), step, np.float32)
        given = as_type(done.tolist()) if as_type in (list, tuple) else done.astype(as_type)
        for buffer, flags in ((told, given), (plain, done)):
            buffer.stage_state(())
            add(buffer, obs, obs + 1, done=flags, infos=infos, reward=[0.5, step])
    assert told.tapes is not None and plain.tapes is not None
    for ours, theirs in zip(told.tapes.arrays(), plain.tapes.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert {Slot.TERMINAL, Slot.FINAL} <= set(kinds(told))


SPACES = {
    **{
        str(np.dtype(dtype)): spaces.Box(np.iinfo(dtype).min, np.iinfo(dtype).max, (3,), dtype)  # type: ignore[arg-type]
        for dtype in (np.uint8, np.int8, np.int16, np.int32, np.int64)
    },
    "float32": VECTOR,
    "float64": spaces.Box(-1, 1, (2, 2), np.float64),
    "discrete": spaces.Discrete(5),
    "discrete from 3": spaces.Discrete(5, start=3),
    "discrete from -2": spaces.Discrete(5, start=-2),
    "multi-discrete": spaces.MultiDiscrete([3, 7]),
    "multi-discrete of two dimensions": spaces.MultiDiscrete([[3, 7, 2], [200, 2, 5]]),
    "multi-discrete from elsewhere": spaces.MultiDiscrete([3, 7], start=[4, -3]),
    "multi-binary": spaces.MultiBinary(4),
    "multi-binary of two dimensions": spaces.MultiBinary([2, 3]),
    "dict": spaces.Dict(a=spaces.Box(0, 255, (3,), np.uint8), b=spaces.Discrete(4, start=2), c=VECTOR),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("end", ["truncated", "terminated"])
def test_every_observation_is_stored_exactly_and_none_by_reference(name: str, end: str) -> None:
    """The final ones included, and also where an environment uses its arrays again."""
    space = SPACES[name]
    space.seed(0)
    buffer = make(space)

    def draw() -> Observation:
        samples = [space.sample() for _ in range(N_ENVS)]
        return map_observation(lambda *arrays: np.stack(arrays), samples[0], *samples[1:])

    written: list[list[Any]] = [[] for _ in range(N_ENVS)]
    obs = draw()
    for step in range(30):
        done = np.array([step % 5 == 4, step % 7 == 6])
        successor, following = draw(), draw()
        for row in range(N_ENVS):
            written[row].append(copy_observation(rows_of(obs, row)))
            if done[row] and end == "truncated":
                written[row].append(copy_observation(rows_of(successor, row)))
        given = copy_observation(obs), copy_observation(successor)
        buffer.stage_state(())
        add(buffer, *given, done=done, infos=[{"TimeLimit.truncated": end == "truncated"}] * N_ENVS)
        for array in given:
            map_observation(lambda values: values.fill(0), array)  # an environment that uses its arrays again
        obs = copy_observation(successor)
        for array, first in zip(arrays_of(obs), arrays_of(following), strict=True):
            array[done] = first[done]
    tapes = buffer.tapes
    assert tapes is not None
    for row in range(N_ENVS):
        slots = np.arange(tapes.oldest[row], tapes.heads[row])
        stored = tapes.read(np.full(len(slots), row), slots)
        kept = written[row][-len(slots) :]
        wanted = map_observation(lambda *arrays: np.stack(arrays), kept[0], *kept[1:])

        def same(ours: np.ndarray, theirs: np.ndarray) -> None:
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)

        map_observation(same, stored, wanted)
    batch = buffer.sample(16)
    map_observation(lambda tensor: tensor.fill_(0), batch.window.observations)
    again = tapes.read(np.full(len(slots), row), slots)
    map_observation(np.testing.assert_array_equal, stored, again)


# Where transitions come from


def chain(n_steps: int) -> list[dict[str, Any]]:
    """:return: transitions of one environment: episodes of 4 steps that terminate, then of 3 that a time limit ends"""
    steps, episode, step = [], 0, 0
    for _ in range(n_steps):
        obs = np.array([[episode, step]], np.float32)
        over = step + 1 == (3 if episode % 2 else 4)
        steps.append(
            dict(
                obs=obs,
                next_obs=obs + np.array([[0, 1]]),
                action=np.array([step % 3]),
                reward=np.array([episode + step / 10]),
                done=np.array([over]),
                infos=[{"TimeLimit.truncated": over and bool(episode % 2)}],
            )
        )
        episode, step = (episode + 1, 0) if over else (episode, step + 1)
    return steps


def test_transitions_that_come_in_order_are_stored_as_those_of_the_model() -> None:
    elsewhere, own = make(n_envs=1), make(n_envs=1)
    for transition in chain(60):
        elsewhere.add(**transition)
        own.stage_state(())
        own.add(**transition)
    assert elsewhere.tapes is not None and own.tapes is not None
    for ours, theirs in zip(elsewhere.tapes.arrays(), own.tapes.arrays(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def check_successors(buffer: SequenceReplayBuffer, n_added: int) -> None:
    """Every transition that is kept leads to its own successor, and to no other."""
    tapes = buffer.tapes
    assert tapes is not None
    n_found = 0
    for slot in range(tapes.oldest[0], tapes.heads[0]):
        place, after = slot % tapes.n_slots, (slot + 1) % tapes.n_slots
        if tapes.kinds[0, place] == Slot.TRANSITION:
            episode, step = tapes.observations[0, place]
            assert tapes.observations[0, after].tolist() == [episode, step + 1]
            n_found += 1
        elif tapes.kinds[0, place] == Slot.TERMINAL:
            n_found += 1
        if tapes.kinds[0, place] in (Slot.TERMINAL, Slot.FINAL) and slot + 1 < tapes.heads[0]:
            assert tapes.starts[0, after]
    assert n_found == tapes.n_transitions() == n_added


@pytest.mark.parametrize("order", ["shuffled", "backwards", "with gaps"])
def test_transitions_that_come_in_another_order_are_cut_from_one_another(order: str) -> None:
    transitions = chain(60)
    if order == "shuffled":
        np.random.default_rng(0).shuffle(transitions)  # type: ignore[arg-type]
    transitions = {"backwards": transitions[::-1], "with gaps": transitions[::3] + transitions[1::3]}.get(
        order, transitions
    )
    buffer = make(n_envs=1, size=120)
    for transition in transitions:
        buffer.add(**transition)
    check_successors(buffer, len(transitions))
    assert buffer.sample(50).learning.any()


def test_a_planted_join_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sb3_attnmem.replay.tape_buffer.breaks", lambda newest, obs: np.zeros(len(newest), bool))
    with pytest.raises(AssertionError):
        test_transitions_that_come_in_another_order_are_cut_from_one_another("shuffled")


def test_each_environment_is_cut_for_itself() -> None:
    buffer = make()
    obs = np.array([[0, 0], [1, 0]], np.float32)
    add(buffer, obs, obs + 1)
    other = np.where([[True], [False]], 7, obs + 1).astype(np.float32)
    add(buffer, other, obs + 2)
    assert kinds(buffer, 0) == [Slot.TRANSITION, Slot.FINAL, Slot.TRANSITION, Slot.FINAL]
    assert kinds(buffer, 1) == [Slot.TRANSITION, Slot.TRANSITION, Slot.FINAL]
    buffer.cut(np.array([False, True]))
    buffer.stage_state(())
    add(buffer, obs + 2, obs + 3)
    assert kinds(buffer, 0)[-3:] == [Slot.TRANSITION, Slot.TRANSITION, Slot.FINAL]
    assert kinds(buffer, 1)[-3:] == [Slot.FINAL, Slot.TRANSITION, Slot.FINAL]


def test_the_model_s_own_step_after_one_from_elsewhere_is_cut_from_it() -> None:
    buffer = make(n_envs=1)
    here, there = np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32)
    buffer.stage_state(())
    add(buffer, here, here)
    add(buffer, there, there)  # elsewhere
    again = pickle.loads(pickle.dumps(buffer))
    for each in (buffer, again):
        each.stage_state(())
        add(each, here, here)
        assert kinds(each) == [Slot.TRANSITION, Slot.FINAL] * 3


@pytest.mark.parametrize("key", ["vector", "discrete"])
def test_dict_observations_and_discrete_ones_are_compared_key_by_key(key: str) -> None:
    buffer = make(spaces.Dict(vector=VECTOR, discrete=spaces.Discrete(9)), n_envs=1)
    obs: dict[str, Any] = dict(vector=np.zeros((1, 2), np.float32), discrete=np.array([3]))
    add(buffer, obs, obs)
    add(buffer, obs, obs)
    assert kinds(buffer) == [Slot.TRANSITION, Slot.TRANSITION, Slot.FINAL]
    add(buffer, {**obs, key: obs[key] + 1}, obs)
    assert kinds(buffer)[-2:] == [Slot.TRANSITION, Slot.FINAL] and kinds(buffer)[2] == Slot.FINAL


def test_stacks_of_frames_are_compared_as_stacks() -> None:
    buffer = make(spaces.Box(-1, 9, (4,), np.float32), n_envs=1, frame_stack=FrameStack(2, -1))
    first, second = np.array([[0, 0, 1, 2]], np.float32), np.array([[1, 2, 3, 4]], np.float32)
    add(buffer, first, second)
    with pytest.raises(ValueError, match="older frames are not zero"):
        add(buffer, np.array([[5, 6, 3, 4]], np.float32), second)  # the newest frame is the same
    assert kinds(buffer) == [Slot.TRANSITION, Slot.FINAL]
    add(buffer, second, first)
    assert kinds(buffer) == [Slot.TRANSITION, Slot.TRANSITION, Slot.FINAL]


def test_transitions_without_the_memory_s_states_are_refused() -> None:
    state = (th.zeros(N_ENVS, 5),)
    obs = np.zeros((N_ENVS, 2), np.float32)
    buffer = make()
    buffer.allocate(state)
    with pytest.raises(ValueError, match=r"\(5,\) float32.*none.*fill_from_episodes"):
        add(buffer, obs, obs)
    assert buffer.is_empty
    buffer.stage_state(state)
    add(buffer, obs, obs)
    with pytest.raises(ValueError, match="fill_from_episodes"):
        add(buffer, obs, obs)  # a state serves one step
    assert kinds(buffer) == [Slot.TRANSITION, Slot.FINAL]
    buffer = make()
    add(buffer, obs, obs)
    with pytest.raises(ValueError, match=r"none.*\(5,\) float32.*fill_from_episodes"):
        buffer.allocate(state)


# What is refused


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (dict(action=np.array([0, 3])), "from 0 to 2"),
        (dict(action=np.array([-1, 0])), "from 0 to 2"),
        (dict(action=np.array([0.5, 0])), "integers"),
        (dict(action=np.array([np.nan, 0])), "integers"),
        (dict(action=np.array(["a", "b"])), "integers"),
        (dict(action=np.array([0])), "action has 1 values; expected 2"),
        (dict(reward=np.array([0, np.nan])), "reward=.* finite"),
        (dict(reward=np.array([0, 1e39])), "32 bits"),
        (dict(reward=np.array([0, -np.inf])), "finite"),
        (dict(reward=np.zeros(3)), "reward has 3 values"),
        (dict(done=[False]), "done has 1"),
        (dict(infos=[{}]), "infos has 1"),
        (dict(obs=np.zeros((2, 3))), r"obs has an array of shape \(2, 3\); expected \(2, 2\)"),
        (dict(obs=np.zeros(4)), "obs has an array"),
        (dict(next_obs=np.array([[0, np.inf], [0, 0]])), "next_obs is not finite"),
    ],
)
def test_transitions_that_make_no_sense(given: dict[str, Any], complaint: str) -> None:
    obs = np.zeros((N_ENVS, 2), np.float32)
    buffer = make()
    with warnings.catch_warnings(), pytest.raises(ValueError, match=complaint):
        warnings.simplefilter("error")
        add(buffer, **{**dict(obs=obs, next_obs=obs), **given})
    assert buffer.is_empty
    add(buffer, obs, obs, action=np.ones((N_ENVS, 1)), reward=[1e18, -1e18])  # large, but a number
    assert buffer.sample(3).rewards.abs().max() == np.float32(1e18)


def test_a_dict_that_lacks_a_key() -> None:
    buffer = make(spaces.Dict(a=VECTOR, b=VECTOR))
    obs = np.zeros((N_ENVS, 2), np.float32)
    for wrong in (obs, dict(a=obs)):
        with pytest.raises(ValueError, match=r"keys \['a', 'b'\]"):
            add(buffer, wrong, wrong)


@pytest.mark.parametrize("buffer_class", [SequenceReplayBuffer, PrioritizedSequenceReplayBuffer])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("sequence_length", 0),
        ("sequence_length", 2.5),
        ("sequence_length", True),
        ("burn_in", -1),
        ("n_steps", 0),
        ("n_envs", 0),
        ("n_envs", -2),
        ("buffer_size", 0),
        ("buffer_size", 1e5),
        ("buffer_size", np.nan),
        ("state_interval", 0),
        ("state_interval", 3),
        ("state_interval", True),
        ("optimize_memory_usage", 1),
        ("optimize_memory_usage", True),
        ("handle_timeout_termination", "no"),
        ("frame_stack", FrameStack(0, -1)),
        ("frame_stack", FrameStack(3, -1)),
        ("frame_stack", FrameStack(2, 5)),
        ("frame_stack", 4),
    ],
)
def test_options_that_make_no_sense(buffer_class: type[SequenceReplayBuffer], option: str, value: Any) -> None:
    options = dict(buffer_size=100, n_envs=2, sequence_length=4, burn_in=4, n_steps=2, state_interval=2)
    with pytest.raises(ValueError, match=option):
        buffer_class(
            observation_space=VECTOR,
            action_space=spaces.Discrete(2),
            device="cpu",
            **options | {option: value},  # type: ignore[arg-type]
        )
    buffer_class(
        observation_space=VECTOR,
        action_space=spaces.Discrete(2),
        device="cpu",
        **{name: np.int32(number) for name, number in options.items()},  # type: ignore[arg-type]
    )


def test_numbers_of_methods() -> None:
    buffer = make()
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(1)
    obs = np.zeros((N_ENVS, 2), np.float32)
    add(buffer, obs, obs)
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match="batch_size"):
            buffer.sample(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="n_envs"):
            buffer.change_n_envs(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_history"):
        buffer.read_with_history(buffer.sample(2).drawn, -1)


# What it says of itself


def test_the_doors_of_a_plain_buffer() -> None:
    buffer = make()
    assert buffer.is_empty and buffer.parts == [buffer] and not buffer.is_prioritized
    buffer.allocate(())
    assert buffer.is_empty and buffer.size() == 0
    obs = np.zeros((N_ENVS, 2), np.float32)
    add(buffer, obs, obs)
    assert not buffer.is_empty
    drawn = buffer.sample(5).drawn
    before = pickle.dumps(buffer.tapes)
    buffer.anneal(0.5)
    buffer.update_priorities(drawn, np.ones(5))
    assert pickle.dumps(buffer.tapes) == before
    buffer.reset()
    assert buffer.is_empty


@pytest.mark.parametrize("interval", [1, 2, 4])
@pytest.mark.parametrize("size", [8, 9, 11, 12])
@pytest.mark.parametrize("end", ["never", "terminated", "truncated"])
def test_how_many_transitions_are_kept(interval: int, size: int, end: str) -> None:
    buffer = make(n_envs=1, size=size, state_interval=interval)
    obs = np.zeros((1, 2), np.float32)
    for step in range(60):
        done = np.array([end != "never" and step % 3 == 2])
        add(buffer, obs, obs, done=done, infos=[{"TimeLimit.truncated": end == "truncated"}])
        kept = buffer.size()
        # An episode of three steps that a time limit ends takes four slots
        least = size * 3 // 4 - 1 if end == "truncated" else size
        assert min(step + 1, least) <= kept <= size + 2 * interval - 1
    assert buffer.full


def test_pickles_of_the_module_that_the_buffer_was_in_still_load() -> None:
    assert pickle.loads(b"csb3_attnmem.replay.sequences\nSequenceReplayBuffer\n.") is SequenceReplayBuffer


@pytest.mark.parametrize("state_init", ["stored", "zero"])
def test_a_model_whose_buffer_was_added_to_before_it_learned(state_init: str) -> None:
    env = make_env(((5, 3), (7,)))
    model = make_model(env, policy_kwargs=LSTM, state_init=state_init, learning_starts=0, sequence_length=4)
    assert model.replay_buffer is not None
    obs = np.zeros((2, 4), np.float32)
    for step in range(20):
        add(model.replay_buffer, obs + step % 7, obs + step % 7 + 1)
    if state_init == "zero":
        assert model.learn(40).replay_buffer.size() == 20 + 20  # type: ignore[union-attr]
    else:
        with pytest.raises(ValueError, match="fill_from_episodes"):
            model.learn(40)
        assert model.num_timesteps == 0 and not env.episodes  # nothing was reset
