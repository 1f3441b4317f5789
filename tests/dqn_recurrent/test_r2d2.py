"""What R2D2 adds: a ladder of exploration rates, targets counted in updates, fresh states, ΔQ, figures."""

from typing import Any

import numpy as np
import pytest
import torch as th

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN, SequenceReplayBuffer
from sb3_attnmem.dqn_recurrent.metrics import delta_q
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.update import StepResult
from sb3_attnmem.replay import SequenceSamples
from tests.dqn_recurrent.conformance.reference import every_window, places, unroll, watch_acting
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.ledger import MEMORY_KWARGS, make_env, make_model

# Exploration


@pytest.mark.parametrize(("ladder", "n_envs"), [(0.0, 4), (7.0, 1), (7.0, 4)])
def test_episodes_explore_at_their_rates(ladder: float, n_envs: int) -> None:
    model = make_learner(
        make_world(n_envs=n_envs),
        exploration_initial_eps=0.6,
        exploration_final_eps=0.6,
        exploration_ladder=ladder,
        learning_starts=0,
        gradient_steps=0,
    )
    greedy: list[np.ndarray] = []
    taken: list[np.ndarray] = []
    step, explore = model.q_net.step, model._explore

    def watched_step(*args: Any) -> Any:
        q_values, state = step(*args)
        greedy.append(q_values.argmax(dim=1).numpy())
        return q_values, state

    def watched_explore(*args: Any) -> np.ndarray:
        taken.append(explore(*args))
        return taken[-1]

    model.q_net.step, model._explore = watched_step, watched_explore  # type: ignore[method-assign]
    n_steps = 3000
    model.learn(n_steps * n_envs)
    differs = (np.stack(greedy) != np.stack(taken)).mean(axis=0)  # of each environment, over 428 episodes
    # One random action of three is the greedy one
    expected = (0.6 ** (1 + ladder * np.linspace(0, 1, 1000))).mean() * 2 / 3
    assert (abs(differs - expected) < 5 * np.sqrt(expected * (1 - expected) / n_steps)).all(), (differs, expected)


# Target network


@pytest.mark.parametrize(("unit", "interval"), [("updates", 3), ("steps", 16)])
def test_the_target_moves_when_its_unit_says(unit: str, interval: int) -> None:
    model = make_learner(target_update_unit=unit, target_update_interval=interval, learning_starts=0, train_freq=2)
    moved: list[tuple[int, int]] = []
    before = [parameter.clone() for parameter in model.q_net_target.parameters()]

    def look(*_: Any) -> bool:
        now = list(model.q_net_target.parameters())
        if any(not th.equal(old, new) for old, new in zip(before, now, strict=True)):
            moved.append((model._n_updates, model.num_timesteps))
            before[:] = [parameter.clone() for parameter in now]
        return True

    model.learn(100, callback=look)
    assert len(moved) >= 3
    if unit == "updates":
        # Two environments, an update every two calls: the callback comes a step after the update
        assert [updates for updates, _ in moved] == list(range(3, 3 * len(moved) + 1, 3))
    else:
        assert {steps % 16 for _, steps in moved} == {2}


# State refresh


def refreshed(burn_in: int = 8, buffer_class: type[SequenceReplayBuffer] = SequenceReplayBuffer, **kwargs: Any) -> Any:
    """:return: a model that acted in a ring that turned, with time limits, cuts and episodes of many lengths"""
    env = make_env(((40, 3), (7,), (1, 2, 60)))
    model = make_model(
        env,
        buffer_size=64 * 3,
        sequence_length=8,
        burn_in=burn_in,
        policy_kwargs=MEMORY_KWARGS["lstm"],
        refresh_states=True,
        replay_buffer_class=buffer_class,
        **kwargs,
    )
    states = watch_acting(model)
    model.learn(3 * 100)
    model.learn(3 * 31)
    return model, env, states


def stored_states(model: RecurrentDQN) -> list[np.ndarray]:
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    return [array.copy() for array in model.replay_buffer.tapes.states]


class OneBlockLate(SequenceReplayBuffer):
    """Planted: refreshed states are stored where the next window begins."""

    def refresh_states(self, drawn: Any, states: Any, which: np.ndarray) -> None:
        rows, windows = drawn
        super().refresh_states((rows, windows + 1), states, which)


class AllRows(SequenceReplayBuffer):
    """Planted: rows without burn-in are stored too, with whatever state they began from."""

    def refresh_states(self, drawn: Any, states: Any, which: np.ndarray) -> None:
        super().refresh_states(drawn, [state + 1.0 for state in states], np.ones_like(which))


def refresh(model: RecurrentDQN, batch: SequenceSamples) -> None:
    """Write back what an update would, without moving the weights."""
    states = model._gradient_step().warm_up(model.q_net, batch)
    model._write_back(batch, StepResult({}, 0, None, states))


@pytest.mark.parametrize("burn_in", [4, 8, 16])
def test_refreshing_with_unchanged_weights_changes_nothing(burn_in: int) -> None:
    model, _, _ = refreshed(burn_in)
    before = stored_states(model)
    refresh(model, every_window(model))
    for old, new in zip(before, stored_states(model), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5)


@pytest.mark.parametrize("planted", [OneBlockLate, AllRows])
def test_refreshing_the_wrong_slots_is_caught(planted: type[SequenceReplayBuffer]) -> None:
    model, _, _ = refreshed(buffer_class=planted)
    before = stored_states(model)
    refresh(model, every_window(model))
    with pytest.raises(AssertionError):
        for old, new in zip(before, stored_states(model), strict=True):
            np.testing.assert_allclose(new, old, atol=1e-5)


def test_refreshed_states_are_those_of_the_present_weights() -> None:
    model, env, states = refreshed()
    with th.no_grad():
        for parameter in model.q_net.parameters():
            parameter.add_(0.3 * th.randn_like(parameter))
    buffer = model.replay_buffer
    tapes = buffer.tapes
    batch = every_window(model)
    n_rows = len(batch.learning)
    refresh(model, batch)
    rows, windows = batch.drawn
    slots = windows * buffer.state_interval + buffer.burn_in
    n_checked = 0
    burnt, window = places(batch.burn_in, n_rows), places(batch.window, n_rows)
    for row in range(n_rows):
        frames = [place for place in burnt[row] if place is not None]
        first = window[row][0]
        if not frames or first is None or not batch.transitions[row, 0]:
            continue
        episode = env.episodes[first[:2]]
        state = model.q_net.memory.initial_state(1)
        if frames[0].step > 0:
            state = tuple(tensor.unsqueeze(0) for tensor in states[frames[0]])
        for place in frames:
            frame = th.as_tensor(episode.frames[place.step]).unsqueeze(0)
            with th.no_grad():
                _, state = RecurrentQNetwork.step(model.q_net, frame, state, th.zeros(1, dtype=th.bool))
        block = slots[row] // tapes.block % tapes.n_blocks
        for array, tensor in zip(tapes.states, state, strict=True):
            np.testing.assert_allclose(array[rows[row], block], tensor[0].numpy(), atol=1e-5)
        n_checked += 1
    assert n_checked > 20


def test_a_slot_that_was_overwritten_since_is_left_alone() -> None:
    model, _, _ = refreshed()
    batch = every_window(model)
    assert model.replay_buffer is not None
    model.learn(3 * 64, reset_num_timesteps=False)  # a whole lap
    before = stored_states(model)
    model.replay_buffer.refresh_states(
        batch.drawn,
        tuple(th.full((len(batch.learning), *x.shape[2:]), 99.0) for x in before),  # type: ignore[arg-type]
        np.ones(len(batch.learning), bool),
    )
    first, _ = model.replay_buffer.window_range()
    gone = batch.drawn[1] * 8 + 8 < model.replay_buffer.tapes.oldest[batch.drawn[0]]  # type: ignore[union-attr]
    assert gone.any() and first.min() > 0
    for old, new in zip(before, stored_states(model), strict=True):
        assert (new == 99.0).any(axis=-1).sum() <= (~gone).sum()
        np.testing.assert_array_equal(old, np.where(new == 99.0, old, new))


# ΔQ


def replayed_and_true(model: RecurrentDQN, batch: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
    assert model.replay_buffer is not None
    longer = model.replay_buffer.read_with_history(batch.drawn, 512)
    q_values = []
    with th.no_grad():
        for x in (batch, longer):
            q_values.append(model.q_net.unroll(x.window, model._gradient_step().warm_up(model.q_net, x)))
    return q_values[0], q_values[1]


@pytest.mark.parametrize("state_init", ["stored", "zero"])
def test_delta_q_against_episodes_stepped_from_their_beginnings(state_init: str) -> None:
    env = make_env(((40, 3), (7,), (1, 2, 60)))
    kwargs = dict(sequence_length=8, burn_in=4, policy_kwargs=MEMORY_KWARGS["lstm"], state_init=state_init)
    model = make_model(env, buffer_size=3 * 200, **kwargs)
    states = watch_acting(model)
    model.learn(3 * 150)
    with th.no_grad():  # what is stored is stale now
        for parameter in model.q_net.parameters():
            parameter.add_(0.3 * th.randn_like(parameter))
    batch = every_window(model)
    q_replayed, q_true = replayed_and_true(model, batch)
    first, last = delta_q(q_replayed, q_true, batch.learning)
    n_checked = 0
    for row, window in enumerate(places(batch.window, len(batch.learning))):
        columns = batch.learning[row].nonzero().flatten().tolist()
        if not columns:
            continue
        truth: dict[int, th.Tensor] = {}
        for column in columns:
            place = window[column]
            assert place is not None
            begin = place._replace(step=0)
            with th.no_grad():
                values = unroll(model.q_net, env.episodes[place[:2]], begin, place.step, 0, states)
            truth[column] = values[place.step][0].detach()
            np.testing.assert_allclose(q_true[row, column], truth[column], rtol=1e-4, atol=1e-5)
        largest = max(values.max().item() for values in truth.values())
        for column, given in ((columns[0], first[row]), (columns[-1], last[row])):
            gap = (truth[column] - q_replayed[row, column]).norm().item()
            np.testing.assert_allclose(given.item(), gap / abs(largest), rtol=1e-3, atol=1e-4)
        n_checked += 1
    assert n_checked > 50 and first.max() > 1e-3


def test_delta_q_is_zero_where_states_are_fresh_and_logged_at_its_interval() -> None:
    model = make_learner(delta_q_interval=2, learning_rate=0.0, learning_starts=0, train_freq=2, burn_in=4)
    seen: list[tuple[int, float]] = []
    record = model._record_delta_q

    def watched(batch: SequenceSamples) -> None:
        record(batch)
        seen.append((model._n_updates, model.logger.name_to_value["train/delta_q_last"]))

    model._record_delta_q = watched  # type: ignore[method-assign]
    model.learn(60)
    assert [updates for updates, _ in seen] == list(range(0, model._n_updates, 2))
    assert max(figure for _, figure in seen) < 1e-4


# Figures


def test_figures_that_training_logs() -> None:
    model = make_learner(learning_starts=0, train_freq=2, replay_buffer_class=PrioritizedSequenceReplayBuffer)
    trained: list[int] = []
    write_back = model._write_back

    def watched(batch: SequenceSamples, result: StepResult) -> None:
        trained.append(int(batch.learning.sum()))
        write_back(batch, result)

    model._write_back = watched  # type: ignore[method-assign]
    model.learn(60, log_interval=None)  # type: ignore[arg-type]
    logged = model.logger.name_to_value
    names = ["loss", "td_error", "td_error_max", "q_mean", "padded_share", "grad_norm", "priority_max_over_mean"]
    assert all(np.isfinite(logged[f"train/{name}"]) for name in names)
    assert logged["train/td_error_max"] >= logged["train/td_error"] > 0
    assert 0 <= logged["train/padded_share"] < 1 and logged["train/priority_max_over_mean"] >= 1
    np.testing.assert_allclose(logged["train/replay_ratio"], sum(trained) / 60, rtol=0.1)
    assert logged["time/updates_per_second"] > 0


# Importance weights


def test_the_importance_exponent_is_annealed_over_learn() -> None:
    model = make_learner(
        learning_starts=0,
        replay_buffer_class=PrioritizedSequenceReplayBuffer,
        replay_buffer_kwargs=dict(importance_exponent=0.4, final_importance_exponent=1.0),
    )
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
    seen: list[float] = []

    def look(*_: Any) -> bool:
        seen.append(buffer.importance_exponent)
        return True

    model.learn(400, callback=look)
    assert seen[0] == 0.4 and seen == sorted(seen) and 0.95 < seen[-1] <= 1.0
    np.testing.assert_allclose(seen[len(seen) // 2], 0.7, atol=0.03)


# Bad input


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (dict(target_update_unit="frames"), ["target_update_unit='frames'", "'updates'"]),
        (dict(exploration_ladder=-1.0), ["exploration_ladder=-1.0", "at least 0"]),
        (dict(delta_q_interval=-5), ["delta_q_interval=-5"]),
        (dict(refresh_states=True, burn_in=0), ["refresh_states", "burn_in=0"]),
        (dict(refresh_states=True, burn_in=4, state_init="zero"), ["refresh_states", "'zero'"]),
    ],
)
def test_bad_input(kwargs: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        make_learner(**kwargs)
    assert all(word in str(error.value) for word in words), error.value
