"""Each number, flag and choice of the constructor is checked before anything is built, and numbers again in use."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent import arguments
from sb3_attnmem.dqn_recurrent.policies import RecurrentDQNPolicy
from tests.dqn_recurrent.worlds import SMALL, World, make_learner

NAN, INF = math.nan, math.inf
WRONG: dict[str, list[Any]] = {
    "gamma": [1.5, -1, NAN, True, "0.9", None],
    "tau": [2, -1, NAN],
    "learning_rate": [NAN, INF, -1e-3, "constant", None, lambda progress: NAN],
    "learning_starts": [NAN, -1, INF],
    "exploration_initial_eps": [5, -1, NAN],
    "exploration_final_eps": [5, -1, NAN],
    "exploration_fraction": [-1, 2, NAN],
    "exploration_ladder": [-1, NAN, INF, True],
    "max_grad_norm": [-1, 0, NAN, None],
    "target_update_interval": [0, -3, 2.5, NAN, True],
    "gradient_steps": [-2, 1.5, True],
    "train_freq": [0, -1, True, 2.5, (0, "step"), (4, "steps"), (True, "episode"), NAN],
    "sequence_length": [0, -1, True, 4.0],
    "burn_in": [-1, True, NAN],
    "n_steps": [0, True, 1.0],
    "batch_size": [0, True, 4.5],
    "buffer_size": [0, -5, True, 1e4],
    "delta_q_interval": [-1, True, NAN],
    "exploration_duration": [0, True, 2.5],
    "stats_window_size": [0, True],
    "seed": [-1, 1.5, True, 2**32],
    "double_q": ["no", 1, None],
    "value_rescaling": ["yes", 0],
    "refresh_states": ["yes", 1],
    "optimize_memory_usage": ["no"],
    "state_init": ["Stored", None, True],
    "target_update_unit": ["step", 1],
}
#: in ``policy_kwargs``
WRONG_OF_POLICY: dict[str, list[Any]] = {
    "dueling": ["x", 1],
    "encoder_arch": [[0], [True], [2.5], "64", 64],
    "net_arch": [[-1], [True]],
    "memory_fusion": ["gates", 3],
}
RIGHT: dict[str, list[Any]] = {
    "gamma": [0, 1, np.float32(0.9)],
    "tau": [1, 0.0],
    "learning_rate": [0, 1e-3, lambda progress: 1e-3 * progress],
    "learning_starts": [0, 1e3],
    "exploration_fraction": [0, 1],
    "max_grad_norm": [INF, 1],
    "sequence_length": [np.int64(4)],
    "gradient_steps": [-1, 0],
    "train_freq": [(1, "episode"), 4, (2, "step")],
    "seed": [None, 0, np.int64(3), 2**32 - 1],
    "double_q": [np.bool_(False)],
}


def make(**kwargs: Any) -> RecurrentDQN:
    options: dict[str, Any] = dict(buffer_size=100, sequence_length=4, burn_in=2, n_steps=2, policy_kwargs=SMALL)
    return RecurrentDQN("MlpPolicy", World(), **{**options, **kwargs})


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("something was built before the argument was checked")

    monkeypatch.setattr(RecurrentDQNPolicy, "__init__", refuse)
    monkeypatch.setattr("sb3_attnmem.replay.SequenceReplayBuffer.__init__", refuse)


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_makes_no_sense_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        make(**{name: value})


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("name", "value"), [(n, value) for n, values in WRONG_OF_POLICY.items() for value in values])
def test_what_makes_no_sense_in_policy_kwargs_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        make(policy_kwargs={**SMALL, name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_what_makes_sense_is_taken(name: str, value: Any) -> None:
    make(**{name: value})


def test_every_number_of_the_constructor_is_in_the_table() -> None:
    """A parameter that is added later, of ours or of SB3's, gets a line as well."""
    model = make()
    numbers = {
        name
        for name, value in vars(model).items()
        if isinstance(value, (int, float)) and name.lstrip("_") in RecurrentDQN.__init__.__code__.co_varnames
    }
    of_the_program = {"verbose", "seed", "n_envs"}
    known = {*arguments.INTEGERS, *arguments.NUMBERS, *arguments.FLAGS, "train_freq"}
    assert numbers - of_the_program <= known


@pytest.mark.parametrize(
    "wrong", [dict(total_timesteps=NAN), dict(total_timesteps=-1), dict(log_interval=0), dict(log_interval=True)]
)
def test_what_makes_no_sense_for_learn_is_named(wrong: dict[str, Any]) -> None:
    model = make()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        model.learn(**{"total_timesteps": 8, **wrong})
    assert model.num_timesteps == 0
    model.learn(1e1, log_interval=None)  # type: ignore[arg-type]


# Numbers that go wrong later


def untouched(model: RecurrentDQN) -> Callable[[], bool]:
    """:return: whether weights, target network and moments are what they are now, and finite"""
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    moments = [value.clone() for state in model.policy.optimizer.state.values() for value in state.values()]

    def same() -> bool:
        now = model.policy.state_dict()
        then = [value for state in model.policy.optimizer.state.values() for value in state.values()]
        return all(th.equal(before[name], now[name]) and now[name].isfinite().all() for name in before) and all(
            th.equal(one, other) for one, other in zip(moments, then, strict=True)
        )

    return same


@pytest.mark.parametrize(
    ("name", "value"),
    [("tau", NAN), ("tau", 2), ("max_grad_norm", NAN), ("max_grad_norm", 0), ("gamma", NAN), ("learning_rate", INF)],
)
def test_a_number_that_is_set_later(name: str, value: float) -> None:
    model = make_learner(learning_starts=0, target_update_interval=2)
    model.learn(40)
    same = untouched(model)
    setattr(model, name, value)
    if name == "learning_rate":
        model._setup_lr_schedule()
    with pytest.raises(ValueError, match=name):
        model.train(1, 4)
    with pytest.raises(ValueError, match=name):
        model.learn(40, reset_num_timesteps=False)
    assert same()


@pytest.mark.parametrize("rate", [NAN, INF, -1.0])
def test_a_schedule_that_gives_nonsense_later(rate: float) -> None:
    seen: list[Callable[[], bool]] = []

    def schedule(progress: float) -> float:
        if progress > 0.5:
            return 1e-3
        seen.append(untouched(model))
        return rate

    model = make_learner(learning_rate=schedule, learning_starts=0)
    with pytest.raises(ValueError, match=r"learning_rate=.* the schedule gave"):
        model.learn(80)
    assert model._n_updates > 0 and seen[0]()


def test_a_linear_schedule_ends_at_zero_where_the_last_rollout_goes_beyond_the_total() -> None:
    rates: list[float] = []

    def schedule(progress: float) -> float:
        rates.append(1e-3 * progress)
        return rates[-1]

    model = make_learner(learning_rate=schedule, learning_starts=0)
    model.learn(20)
    assert model.num_timesteps == 32 and model._n_updates == 2
    assert rates[-1] == 0.0 == min(rates)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("reward", [1e15, 1e18, 1e30, 3e38, 1e300])
@pytest.mark.parametrize("value_rescaling", [False, True])
def test_huge_rewards_end_in_a_clear_error_or_in_finite_weights(reward: float, value_rescaling: bool) -> None:
    class Rich(World):
        def step(self, action: int) -> Any:
            observation, _, *others = super().step(action)
            return observation, reward, *others

    model = make_learner(Rich(spaces.Box(-1, 1, (3,), np.float32)), learning_starts=8, value_rescaling=value_rescaling)
    same = untouched(model)
    try:
        model.learn(12)
    except ValueError as error:
        assert any(word in str(error) for word in ("loss", "gradient", "reward"))
        assert "scale the rewards" in str(error) or "reward" in str(error)
        assert same()
    assert all(weight.isfinite().all() for weight in model.policy.parameters())


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_gradient_that_is_none(bad: float) -> None:
    model = make_learner(learning_starts=0)
    model.learn(40)
    same = untouched(model)
    weight = next(model.q_net.parameters())
    handle = weight.register_hook(lambda gradient: th.full_like(gradient, bad))
    with pytest.raises(ValueError, match=r"gradient's norm became .* updates; the weights are as they were"):
        model.train(1, 4)
    handle.remove()
    assert same()


def test_weights_that_are_spoiled_already_are_told_from_those_that_are_not() -> None:
    model = make_learner(learning_starts=0)
    model.learn(40)
    with th.no_grad():
        next(model.q_net.parameters()).fill_(NAN)
    with pytest.raises(ValueError, match=r"loss became nan .* They were not finite then"):
        model.train(1, 4)
