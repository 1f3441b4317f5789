"""
Conformance 7, 8, 10 and 11: how episodes end, n-step returns, double Q-learning and priorities, against targets worked
out in plain Python from what the environments told.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, SequenceReplayBuffer
from sb3_attnmem.dqn_recurrent.targets import NStepReturns, bootstrap_values, n_step_returns, sequence_priorities
from sb3_attnmem.replay import SequenceSamples
from tests.dqn_recurrent.conformance.reference import check_rows, check_targets, every_window, experienced, rows
from tests.ledger import MEMORY_KWARGS, Recorder, make_env, make_model

UPDATE = "sb3_attnmem.dqn_recurrent.update"


def make(
    ends: tuple[str, ...] = ("terminated", "truncated"),
    model_class: type[RecurrentDQN] = RecurrentDQN,
    memory: str = "lstm",
    **kwargs: Any,
) -> Callable[[], tuple[RecurrentDQN, Recorder]]:
    def build() -> tuple[RecurrentDQN, Recorder]:
        env = make_env(((5, 3), (17,), (1, 2, 9)), ends)
        options = dict(burn_in=4, policy_kwargs=MEMORY_KWARGS[memory], replay_buffer_kwargs=dict(state_interval=2))
        return make_model(env, model_class, **{**options, **kwargs}), env  # type: ignore[arg-type]

    return build


def check(build: Callable[[], tuple[RecurrentDQN, Recorder]]) -> None:
    """Every transition's target, over every window."""
    model, env, states = experienced(build, n_steps=40)
    batch = every_window(model)
    check_rows(batch, env.episodes, model.sequence_length)
    check_targets(model, env.episodes, states, batch)


@pytest.mark.parametrize("n_steps", [1, 3, 8])
@pytest.mark.parametrize("ends", [("terminated",), ("truncated",), ("terminated", "truncated")])
def test_targets(n_steps: int, ends: tuple[str, ...]) -> None:
    check(make(ends, n_steps=n_steps))


@pytest.mark.parametrize("tolerance", [0.0, 0.2])
@pytest.mark.parametrize("ends", [("terminated",), ("truncated",)])
def test_targets_that_stop_at_actions_the_network_would_not_take(ends: tuple[str, ...], tolerance: float) -> None:
    check(make(ends, n_steps=4, watkins_tolerance=tolerance))


def goes_through_every_action(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: nothing stops a return."""
    return n_step_returns(rewards, transitions, terminals, gamma, n_steps)


def looks_at_the_first_action(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: the stop is a step early."""
    assert on_policy is not None
    early = th.cat([on_policy[:, 1:], on_policy[:, :1]], dim=1)
    return n_step_returns(rewards, transitions, terminals, gamma, n_steps, early)


@pytest.mark.parametrize("planted", [goes_through_every_action, looks_at_the_first_action])
def test_returns_that_stop_elsewhere_are_caught(monkeypatch: pytest.MonkeyPatch, planted: Any) -> None:
    monkeypatch.setattr(f"{UPDATE}.n_step_returns", planted)
    with pytest.raises(AssertionError):
        check(make(n_steps=4, watkins_tolerance=0.2))


@pytest.mark.parametrize("memory", ["none", "gru", "sum"])
@pytest.mark.parametrize("double_q", [True, False])
@pytest.mark.parametrize("value_rescaling", [True, False])
def test_targets_of_every_kind(memory: str, double_q: bool, value_rescaling: bool) -> None:
    check(make(memory=memory, n_steps=3, double_q=double_q, value_rescaling=value_rescaling))


@pytest.mark.parametrize(
    ("double_q", "value_rescaling", "n_steps"), [(True, False, 1), (True, True, 3), (False, True, 3)]
)
def test_targets_of_quantiles(double_q: bool, value_rescaling: bool, n_steps: int) -> None:
    options = dict(n_steps=n_steps, double_q=double_q, value_rescaling=value_rescaling)
    check(make(model_class=RecurrentQRDQN, memory="gru", **options))


@pytest.mark.parametrize("memory", MEMORY_KWARGS)
def test_greedy_actions_differ_between_steps_and_between_the_networks(memory: str) -> None:
    """Without that, the checks here could not tell which network picks, nor at which step."""
    model, _, _ = experienced(make(memory=memory))
    batch = every_window(model)
    online, target = (
        q_net.unroll(batch.window, q_net.burn_in(batch.burn_in, batch.state))[batch.window.present].argmax(dim=1)
        for q_net in (model.q_net, model.q_net_target)
    )
    assert len(online.unique()) > 1 and len(target.unique()) > 1
    assert 0.1 < (online != target).float().mean() < 0.9


# Planted mistakes: item 7


class BootstrapsFromTheReset(RecurrentDQN):
    """Planted: the successor of an episode's last step is the first observation of the next episode."""

    def _store_transition(self, *args: Any) -> None:
        watched = self._watched()
        watched.raw_finals = {i: watched.raw_observations[i] for i in watched.raw_finals}
        super()._store_transition(*args)


TIME_LIMITS: dict[str, dict[str, Any]] = {
    "the first observation of the next episode": dict(model_class=BootstrapsFromTheReset),
    "a time limit taken for a termination": dict(replay_buffer_kwargs=dict(handle_timeout_termination=False)),
}


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("planted", TIME_LIMITS.values(), ids=TIME_LIMITS)
def test_wrong_time_limits_are_caught(planted: dict[str, Any], n_steps: int) -> None:
    with pytest.raises(AssertionError):
        check(make(n_steps=n_steps, **planted))


class TerminationsAreTimeLimits(SequenceReplayBuffer):
    """Planted: terminations bootstrap."""

    def add(self, *args: Any) -> None:
        *others, infos = args
        super().add(*others, [{**info, "TimeLimit.truncated": True} for info in infos])


@pytest.mark.parametrize("n_steps", [1, 3])
def test_bootstrapping_terminations_are_caught(n_steps: int) -> None:
    with pytest.raises(AssertionError):
        check(make(n_steps=n_steps, replay_buffer_class=TerminationsAreTimeLimits))


def check_final_observations_are_read_after_the_episode(model: RecurrentDQN, env: Recorder) -> None:
    """
    The memory advances onto a time limit's final observation: ``SumMemory`` under a head that hands on its first
    latents gives their sum, the final observation included.
    """
    with th.no_grad():
        for q_net in (model.q_net, model.q_net_target):
            q_net.q_net[0].weight.copy_(th.eye(3, 4))  # type: ignore[union-attr, operator]
            q_net.q_net[0].bias.zero_()  # type: ignore[union-attr, operator]
    model.double_q = False
    batch = every_window(model)
    _, targets, _ = model._q_and_targets(batch)
    n_checked = 0
    for row, (_, window) in enumerate(rows(batch)):
        for column, place in enumerate(window):
            if place is None or not batch.learning[row, column]:
                continue
            episode = env.episodes[place[:2]]
            if episode.end == "truncated" and place.step == len(episode.actions) - 1:
                value = np.sum(episode.frames, axis=0)[:3].max()
                expected = episode.rewards[-1] + model.gamma * value
                np.testing.assert_allclose(targets[row, column].item(), expected, rtol=1e-5)
                n_checked += 1
    assert n_checked > 10


def bare() -> tuple[RecurrentDQN, Recorder]:
    env = make_env(((5, 3), (7,), (1, 2, 9)), ("truncated",))
    model = make_model(env)
    model.learn(120)
    return model, env


def test_final_observations_are_read_after_the_whole_episode() -> None:
    check_final_observations_are_read_after_the_episode(*bare())


def test_final_observations_read_alone_are_caught() -> None:
    model, env = bare()
    unroll = model.q_net_target.unroll

    def planted(part: Any, state: Any) -> th.Tensor:
        """Planted: the final observation is read with a fresh memory."""
        final = part.present & ~model_batch.transitions
        return unroll(part._replace(episode_starts=part.episode_starts | final), state)

    model_batch = every_window(model)
    model.q_net_target.unroll = planted  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        check_final_observations_are_read_after_the_episode(model, env)


# Planted mistakes: item 8

Planted = Callable[[th.Tensor, th.Tensor, th.Tensor, float, int], NStepReturns]


def always_gamma_to_the_n(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: gamma^n although an episode's end left fewer than n steps."""
    result = n_step_returns(rewards, transitions, terminals, gamma, n_steps)
    return result._replace(discounts=th.where(result.discounts > 0, gamma**n_steps, 0.0))


def sums_into_the_next_episode(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: rewards of the next episode are summed."""
    through = n_step_returns(rewards, th.ones_like(transitions), th.zeros_like(terminals), gamma, n_steps)
    result = n_step_returns(rewards, transitions, terminals, gamma, n_steps)
    return result._replace(returns=through.returns)


def forgets_terminations(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: only a termination at the first of the n steps ends the return."""
    result = n_step_returns(rewards, transitions, th.zeros_like(terminals), gamma, n_steps)
    return result._replace(discounts=result.discounts.masked_fill(terminals, 0.0))


def bootstraps_one_early(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: the value of step t + n - 1."""
    result = n_step_returns(rewards, transitions, terminals, gamma, n_steps)
    return result._replace(bootstrap=(result.bootstrap - 1).clamp(min=0))


def one_step_only(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: ``n_steps`` is ignored."""
    return n_step_returns(rewards, transitions, terminals, gamma, 1)


def undiscounted_rewards(
    rewards: th.Tensor,
    transitions: th.Tensor,
    terminals: th.Tensor,
    gamma: float,
    n_steps: int,
    on_policy: th.Tensor | None = None,
) -> NStepReturns:
    """Planted: the n rewards are summed without gamma."""
    result = n_step_returns(rewards, transitions, terminals, gamma, n_steps)
    return result._replace(returns=n_step_returns(rewards, transitions, terminals, 1.0, n_steps).returns)


@pytest.mark.parametrize(
    "planted",
    [
        always_gamma_to_the_n,
        sums_into_the_next_episode,
        forgets_terminations,
        bootstraps_one_early,
        one_step_only,
        undiscounted_rewards,
    ],
)
def test_wrong_n_step_returns_are_caught(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{UPDATE}.n_step_returns", planted)
    with pytest.raises(AssertionError):
        check(make(n_steps=3))


# Planted mistakes: item 10


def online_scores(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: the roles are swapped."""
    return q_online.gather(-1, q_target.argmax(dim=-1, keepdim=True)).squeeze(-1)


def target_picks(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: the target network picks as well, as without double Q-learning."""
    return q_target.max(dim=-1).values


def online_only(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: no target network."""
    return q_online.max(dim=-1).values


def picks_at_the_step_before(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: the action comes from the inputs of step t - 1."""
    return q_target.gather(-1, q_online.roll(1, dims=1).argmax(dim=-1, keepdim=True)).squeeze(-1)


@pytest.mark.parametrize("planted", [online_scores, target_picks, online_only, picks_at_the_step_before])
def test_wrong_double_q_is_caught(planted: Callable[..., th.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{UPDATE}.bootstrap_values", planted)
    with pytest.raises(AssertionError):
        check(make())


def target_means_pick(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: the target network's means pick as well, as without double Q-learning."""
    return bootstrap_values(q_online, q_target, False)


def each_quantile_picks(q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None) -> th.Tensor:
    """Planted: the largest of each quantile, whatever action it belongs to."""
    return q_target.max(dim=-1).values


def quantiles_in_another_order(
    q_online: th.Tensor, q_target: th.Tensor, double_q: bool, valid: Any = None
) -> th.Tensor:
    """Planted: (N, A) is read as (A, N)."""
    return bootstrap_values(q_online, q_target.reshape(*q_target.shape[:2], *q_target.shape[:1:-1]).mT, double_q)


@pytest.mark.parametrize("planted", [target_means_pick, each_quantile_picks, quantiles_in_another_order])
def test_wrong_quantiles_of_targets_are_caught(
    planted: Callable[..., th.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{UPDATE}.bootstrap_values", planted)
    with pytest.raises(AssertionError):
        check(make(model_class=RecurrentQRDQN))


class PicksWithoutMemory(RecurrentDQN):
    """Planted: the online network picks at each observation as if it were an episode's first."""

    def _q_and_targets(self, batch: SequenceSamples) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        q_taken, _, q_online = super()._q_and_targets(batch)
        unroll = self.q_net.unroll
        self.q_net.unroll = lambda part, state: unroll(  # type: ignore[method-assign]
            part._replace(episode_starts=th.ones_like(part.episode_starts)), state
        )
        _, targets, _ = super()._q_and_targets(batch)
        del self.q_net.unroll
        return q_taken, targets, q_online


def test_picking_on_other_inputs_than_scoring_is_caught() -> None:
    with pytest.raises(AssertionError):
        check(make(model_class=PicksWithoutMemory))


# Item 11


def check_priorities(function: Callable[[th.Tensor, th.Tensor, float], th.Tensor]) -> None:
    """eta * max |delta| + (1 - eta) * mean |delta| over the learning steps, in plain Python."""
    generator = np.random.default_rng(0)
    errors = generator.normal(size=(20, 9)) * 10
    learning = generator.random((20, 9)) < 0.6
    learning[0] = True
    learning[1] = np.arange(9) == 4
    for eta in (0.0, 0.5, 0.9, 1.0):
        priorities = function(th.as_tensor(errors), th.as_tensor(learning), eta)
        for row, got in enumerate(priorities.tolist()):
            deltas = [abs(error) for error, learns in zip(errors[row], learning[row], strict=True) if learns]
            np.testing.assert_allclose(got, eta * max(deltas) + (1 - eta) * sum(deltas) / len(deltas))


def test_priorities() -> None:
    check_priorities(sequence_priorities)


WRONG_PRIORITIES: dict[str, Callable[[th.Tensor, th.Tensor, float], th.Tensor]] = {
    "signed errors": lambda errors, learning, eta: (
        eta * errors.masked_fill(~learning, -th.inf).amax(dim=1)
        + (1 - eta) * errors.masked_fill(~learning, 0.0).sum(dim=1) / learning.sum(dim=1)
    ),
    "padding in the maximum": lambda errors, learning, eta: (
        eta * errors.abs().amax(dim=1)
        + (1 - eta) * errors.abs().masked_fill(~learning, 0.0).sum(dim=1) / learning.sum(dim=1)
    ),
    "padding in the mean": lambda errors, learning, eta: (
        eta * errors.abs().masked_fill(~learning, 0.0).amax(dim=1)
        + (1 - eta) * errors.abs().masked_fill(~learning, 0.0).mean(dim=1)
    ),
    "weights swapped": lambda errors, learning, eta: sequence_priorities(errors, learning, 1 - eta),
}


@pytest.mark.parametrize("planted", WRONG_PRIORITIES.values(), ids=WRONG_PRIORITIES)
def test_wrong_priorities_are_caught(planted: Callable[[th.Tensor, th.Tensor, float], th.Tensor]) -> None:
    with pytest.raises(AssertionError):
        check_priorities(planted)
