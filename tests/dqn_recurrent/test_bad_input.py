"""Bad input: what came, what was expected, how to mend it; before a network is built or a weight is touched."""

from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from tests.ledger import LSTM, make_env, make_model
from tests.toys import SumMemory

BOX = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (36, 36, 3), np.uint8)


class Still(gym.Env):
    """Nothing ever happens, in any space."""

    def __init__(self, observation_space: spaces.Space = BOX, action_space: spaces.Space | None = None) -> None:
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, False, {}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the test when a network is built."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a network was built before the argument was checked")

    monkeypatch.setattr(RecurrentDQNPolicy, "__init__", refuse)
    monkeypatch.setattr(RecurrentQNetwork, "__init__", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("action_space", "words"),
    [
        (spaces.Box(-1, 1, (2,), np.float32), ["needs a Discrete action space", "Box(-1.0, 1.0, (2,), float32)"]),
        (spaces.MultiDiscrete([[2, 3]]), ["needs a Discrete action space", "MultiDiscrete([[2 3]])"]),
        (spaces.MultiBinary(4), ["needs a Discrete action space", "MultiBinary(4)"]),
        (spaces.Discrete(3, start=1), ["Discrete action space that starts at 0", "start=1", "Wrap"]),
    ],
)
def test_action_spaces(action_space: spaces.Space, words: list[str]) -> None:
    with pytest.raises((ValueError, AssertionError)) as error:
        RecurrentDQN("MlpPolicy", Still(action_space=action_space))
    assert all(word in str(error.value) for word in words), error.value


ARGUMENTS: list[tuple[dict[str, Any], list[str]]] = [
    (dict(sequence_length=0), ["sequence_length=0", "at least 1"]),
    (dict(sequence_length=-3), ["sequence_length=-3", "at least 1"]),
    (dict(sequence_length=8.0), ["sequence_length=8.0", "integer"]),
    (dict(burn_in=-1), ["burn_in=-1", "at least 0"]),
    (dict(burn_in=0.5), ["burn_in=0.5", "integer"]),
    (dict(n_steps=0), ["n_steps=0", "at least 1"]),
    (dict(batch_size=0), ["batch_size=0", "at least 1"]),
    (dict(n_steps=9, sequence_length=8), ["n_steps=9", "sequence_length=8", "lower n_steps"]),
    (dict(optimize_memory_usage=True), ["optimize_memory_usage=True", "Leave the argument out"]),
    (dict(replay_buffer_kwargs=dict(optimize_memory_usage=True)), ["optimize_memory_usage=True", "Leave"]),
    (dict(replay_buffer_class=ReplayBuffer), ["=ReplayBuffer", "sequences", "SequenceReplayBuffer"]),
    (dict(replay_buffer_class=DictReplayBuffer), ["=DictReplayBuffer", "sequences", "SequenceReplayBuffer"]),
    (dict(replay_buffer_class=HerReplayBuffer), ["=HerReplayBuffer", "sequences", "SequenceReplayBuffer"]),
    (dict(replay_buffer_class="ReplayBuffer"), ["=ReplayBuffer", "sequences", "SequenceReplayBuffer"]),
    (
        dict(replay_buffer_kwargs=dict(state_interval=5), sequence_length=12, burn_in=8),
        ["state_interval=5", "sequence_length=12", "burn_in=8", "[1, 2, 4]"],
    ),
    (dict(replay_buffer_kwargs=dict(state_interval=0)), ["state_interval=0", "divide"]),
    (dict(policy_kwargs=dict(memory_class="lsmt")), ["'lsmt'", "Did you mean 'lstm'?", "none, lstm, gru"]),
    (dict(policy_kwargs=dict(memory_class="LSTM")), ["'LSTM'", "Did you mean 'lstm'?"]),
    (dict(policy_kwargs=dict(memory_class="GRUs")), ["'GRUs'", "Did you mean 'gru'?"]),
    (dict(policy_kwargs=dict(memory_class="elephant")), ["'elephant'", "none, lstm, gru"]),
    (dict(policy_kwargs=dict(memory_class=None)), ["None", "subclass of BaseMemory", "lstm"]),
    (dict(policy_kwargs=dict(memory_class=SumMemory(4))), ["SumMemory()", "not an instance"]),
    (dict(policy_kwargs=dict(memory_class=th.nn.LSTM)), ["LSTM", "subclass of BaseMemory"]),
    (
        dict(policy_kwargs=dict(memory_kwargs=dict(hiden_size=8))),
        ["'hiden_size'", "LSTMMemory", "Did you mean 'hidden_size'?", "num_layers"],
    ),
    (dict(policy_kwargs=dict(memory_kwargs=dict(input_dim=8))), ["'input_dim'", "hidden_size"]),
    (
        dict(policy_kwargs=dict(memory_class="none", memory_kwargs=dict(hidden_size=8))),
        ["'hidden_size'", "NoMemory", "nothing"],
    ),
    (dict(policy_kwargs=dict(memory_class=SumMemory, memory_kwargs=dict(size=8))), ["'size'", "SumMemory"]),
]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS, ids=[str(arguments) for arguments, _ in ARGUMENTS])
def test_arguments(arguments: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        RecurrentDQN("MlpPolicy", Still(), **arguments)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("memory", ["lstm", "gru"])
@pytest.mark.parametrize(
    "option", [dict(hidden_size=0), dict(hidden_size=8.0), dict(num_layers=0), dict(num_layers="2")]
)
def test_memory_options(memory: str, option: dict[str, Any]) -> None:
    (name, value) = next(iter(option.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r} must be an integer of at least 1"):
        RecurrentDQN("MlpPolicy", Still(), policy_kwargs=dict(memory_class=memory, memory_kwargs=option))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("policy", "space", "words"),
    [
        ("CnnPolicy", BOX, ["CnnPolicy", "images", "Use MlpPolicy"]),
        ("CnnLstmPolicy", BOX, ["CnnLstmPolicy", "images", "Use MlpPolicy"]),
        ("MultiInputPolicy", BOX, ["MultiInputPolicy", "MlpPolicy", "Box"]),
        ("MultiInputLstmPolicy", IMAGE, ["MultiInputLstmPolicy", "CnnPolicy", "Box"]),
        ("MlpPolicy", spaces.Dict(a=BOX), ["MlpPolicy", "MultiInputPolicy", "Dict"]),
        ("CnnLstmPolicy", spaces.Dict(a=IMAGE), ["CnnLstmPolicy", "MultiInputPolicy", "Dict"]),
        ("MlpGruPolicy", BOX, ["MlpGruPolicy", "unknown"]),
        (DQNPolicy, BOX, ["policy=DQNPolicy has no memory", "MlpPolicy", "RecurrentDQNPolicy"]),
    ],
)
def test_policies_that_do_not_fit(policy: Any, space: spaces.Space, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        RecurrentDQN(policy, Still(space))
    assert all(word.lower() in str(error.value).lower() for word in words), error.value


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("option", [dict(memory_klass="lstm"), dict(duelling=True)])
def test_misspelt_policy_kwargs(option: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``**kwargs`` swallows a typo: Python names it, where the policy's own constructor is called."""
    monkeypatch.undo()
    built: list[Any] = []
    monkeypatch.setattr(RecurrentQNetwork, "__init__", lambda *_, **__: built.append(1))
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(option))}'"):
        RecurrentDQN("MlpPolicy", Still(), policy_kwargs=option)
    assert not built


# States

N_ENVS, HIDDEN = 3, 6
GOOD = tuple(np.zeros((N_ENVS, 1, HIDDEN), np.float32) for _ in "hc")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (GOOD[:1], ["tuple of 2", "tuple of 1"]),
        ((*GOOD, GOOD[0]), ["tuple of 2", "tuple of 3"]),
        ((), ["tuple of 2", "tuple of 0"]),
        (list(GOOD), ["tuple of 2", "list of 2"]),
        (GOOD[0], ["tuple of 2", "ndarray"]),
        (dict(h=GOOD[0]), ["tuple of 2", "dict"]),
        ((None, None), ["state[0]", "(3, 1, 6)", "or None to begin"]),
        (tuple(array[:2] for array in GOOD), ["state[0]", "(2, 1, 6)", "(3, 1, 6)", "3 observation(s)"]),
        (tuple(array[:1] for array in GOOD), ["state[0]", "(1, 1, 6)", "(3, 1, 6)", "3 observation(s)"]),
        ((GOOD[0], GOOD[1][:, :, :4]), ["state[1]", "(3, 1, 4)", "(3, 1, 6)"]),
        (tuple(array[:, 0] for array in GOOD), ["state[0]", "(3, 6)", "(3, 1, 6)"]),
    ],
)
@pytest.mark.parametrize("of", ["model", "policy"])
def test_states(state: Any, words: list[str], of: str) -> None:
    model = make_model(make_env(), policy_kwargs=LSTM)
    with pytest.raises(ValueError) as error:
        getattr(model, of, model).predict(np.ones((N_ENVS, 4), np.float32), state)
    assert all(word in str(error.value) for word in words), error.value


def test_episode_starts_and_observations() -> None:
    model = make_model(make_env(), policy_kwargs=LSTM)
    observations = np.ones((N_ENVS, 4), np.float32)
    with pytest.raises(ValueError, match=r"episode_start has shape \(2,\), but there are 3 observations"):
        model.predict(observations, GOOD, np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"expected \(1, 1, 6\) for 1 observation"):
        model.predict(observations[0], GOOD)
    with pytest.raises(ValueError, match="Unexpected observation shape"):
        model.predict(observations[:, :3], GOOD)
    with pytest.raises(ValueError, match=r"env\.reset\(\)"):
        model.predict((observations, {}))  # type: ignore[arg-type]


# Loading


def test_loading_with_an_environment_of_other_spaces(tmp_path: Any) -> None:
    model = make_model(make_env(), policy_kwargs=LSTM)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"Observation spaces do not match: Box.*\(4,\).* != Box.*\(3,\)"):
        RecurrentDQN.load(tmp_path / "model", env=Still())
    with pytest.raises(ValueError, match=r"Action spaces do not match: Discrete\(3\) != Discrete\(5\)"):
        RecurrentDQN.load(tmp_path / "model", env=make_env(n_actions=5))
    with pytest.raises(ValueError, match="Action spaces do not match"):
        model.set_env(make_env(n_actions=5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(sequence_length=16), ["sequence_length=8", "16"]),
        (dict(burn_in=8), ["burn_in=0", "8"]),
        (dict(n_steps=2), ["n_steps=1", "2"]),
        (dict(policy_kwargs={**LSTM, "memory_class": "gru"}), ["states=", "(1, 6)"]),
        (dict(policy_kwargs={**LSTM, "memory_kwargs": dict(hidden_size=7)}), ["states=", "(1, 6)", "(1, 7)"]),
        (dict(env=make_env(n_actions=2)), ["action_space=Discrete(3)", "Discrete(2)"]),
    ],
)
def test_loading_a_replay_buffer_that_does_not_fit(arguments: dict[str, Any], words: list[str], tmp_path: Any) -> None:
    model = make_model(make_env(), policy_kwargs=LSTM)
    model.learn(30)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model(**{**dict(env=make_env(), policy_kwargs=LSTM), **arguments})  # type: ignore[arg-type]
    before = other.replay_buffer
    with pytest.raises(ValueError) as error:
        other.load_replay_buffer(tmp_path / "buffer")
    assert all(word in str(error.value) for word in [*words, "buffer"]), error.value
    assert other.replay_buffer is before, "a buffer that does not fit is not taken"


def test_loading_another_kind_of_replay_buffer(tmp_path: Any) -> None:
    model = make_model(make_env(), policy_kwargs=LSTM)
    before = model.replay_buffer
    save_to_pkl(tmp_path / "buffer.pkl", ReplayBuffer(10, model.observation_space, model.action_space))
    with pytest.raises(ValueError, match="ReplayBuffer, which does not replay sequences"):
        model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is before


def test_loading_a_replay_buffer_into_too_many_environments(tmp_path: Any) -> None:
    model = make_model(make_env([[5]]), buffer_size=40, sequence_length=8)
    model.learn(30)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_model(make_env([[5]] * 6), buffer_size=400, sequence_length=8)
    before = other.replay_buffer
    with pytest.raises(ValueError, match=r"6 environments room for 6 transitions.*= 8.*buffer_size to at least 48"):
        other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer is before


# Size of the replay buffer: told when learn() first allocates, not at construction


def test_too_small_a_replay_buffer() -> None:
    env = make_env()
    model = make_model(env, buffer_size=3 * 11, sequence_length=8, burn_in=4)
    with pytest.raises(ValueError, match=r"3 environments.*sequence.*= 12.*buffer_size to at least 36"):
        model.learn(10)
    make_model(env, buffer_size=3 * 12, sequence_length=8, burn_in=4).learn(10)


@pytest.mark.parametrize("buffer_size", [10**9, 10**13, 10**18])
def test_too_big_a_replay_buffer(buffer_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where numpy itself would refuse, which says nothing about how to mend it."""
    free = psutil.virtual_memory()._replace(available=2 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    model = make_model(make_env(), buffer_size=buffer_size)
    with pytest.raises(ValueError, match=r"GB.*2\.00 GB of memory are free.*Set buffer_size to at most (\d+)") as error:
        model.learn(10)
    advised = int(str(error.value).rstrip(".").split()[-1])
    model = make_model(make_env(), buffer_size=advised)
    model.learn(10)
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert 1.5e9 < model.replay_buffer.tapes.nbytes < 2e9
