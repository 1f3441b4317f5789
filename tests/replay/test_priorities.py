"""Prioritised replay against the distribution it promises, whatever was added and overwritten in between."""

import warnings

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN
from sb3_attnmem.dqn_recurrent.targets import sequence_priorities
from tests.ledger import make_env, make_model

SPACE = spaces.Box(-1, 1, (1,), np.float32)
N_ENVS = 3


def make(**kwargs: object) -> PrioritizedSequenceReplayBuffer:
    options = dict(sequence_length=8, burn_in=4, n_steps=2, priority_exponent=0.7) | kwargs
    buffer = PrioritizedSequenceReplayBuffer(N_ENVS * 40, SPACE, spaces.Discrete(2), "cpu", N_ENVS, **options)  # type: ignore[arg-type]
    buffer.seed(0)
    return buffer


def fill(buffer: PrioritizedSequenceReplayBuffer, n_steps: int, episode: int = 7) -> None:
    obs = np.zeros((N_ENVS, 1), np.float32)
    for i in range(n_steps):
        done = np.array([(i + row) % episode == 0 for row in range(N_ENVS)])
        buffer.add(obs, obs, np.zeros(N_ENVS, int), np.zeros(N_ENVS), done, [{"TimeLimit.truncated": True}] * N_ENVS)


def all_windows(buffer: PrioritizedSequenceReplayBuffer) -> list[tuple[int, int]]:
    first, last = buffer.window_range()
    return [(row, m) for row in range(N_ENVS) for m in range(first[row], last[row] + 1)]


def chances(buffer: PrioritizedSequenceReplayBuffer, n_draws: int = 40_000) -> dict[tuple[int, int], int]:
    rows, windows = buffer._draw_windows(n_draws)
    counts = dict.fromkeys(all_windows(buffer), 0)
    for window in zip(rows.tolist(), windows.tolist(), strict=True):
        counts[window] += 1  # a KeyError would be a window that does not live
    return counts


def check_distribution(buffer: PrioritizedSequenceReplayBuffer, priorities: dict[tuple[int, int], float]) -> None:
    """Chi-square of drawn counts against the exact distribution, at a fixed seed."""
    counts = chances(buffer)
    assert counts.keys() == priorities.keys()
    weights = np.array([priorities[window] ** buffer.priority_exponent for window in counts])
    expected = weights / weights.sum() * sum(counts.values())
    observed = np.array(list(counts.values()))
    assert observed[weights == 0].sum() == 0
    chi_square = ((observed - expected) ** 2 / expected).sum()
    # Wilson and Hilferty (1931): the cube root of a chi-square variable is nearly normal; 4 sigma
    spread = 2 / (9 * (len(expected) - 1))
    deviations = (np.cbrt(chi_square / (len(expected) - 1)) - (1 - spread)) / np.sqrt(spread)
    assert deviations < 4, (chi_square, len(expected) - 1)


def set_random_priorities(buffer: PrioritizedSequenceReplayBuffer, seed: int = 0) -> dict[tuple[int, int], float]:
    rng = np.random.default_rng(seed)
    windows = all_windows(buffer)
    priorities = rng.random(len(windows)) * 10 ** rng.uniform(-1, 1, len(windows))
    rows, ids = (np.array(column) for column in zip(*windows, strict=True))
    buffer.update_priorities((rows, ids), priorities)
    return dict(zip(windows, priorities.tolist(), strict=True))


@pytest.mark.parametrize("n_steps", [1, 20, 39, 300])
def test_new_windows_are_equally_likely(n_steps: int) -> None:
    buffer = make()
    fill(buffer, n_steps)
    check_distribution(buffer, dict.fromkeys(all_windows(buffer), 1.0))


@pytest.mark.parametrize("n_steps", [20, 300])
def test_draws_follow_the_priorities(n_steps: int) -> None:
    buffer = make()
    fill(buffer, n_steps)
    check_distribution(buffer, set_random_priorities(buffer))


@pytest.mark.parametrize("n_more", [1, 5, 17, 500])
def test_what_is_new_has_the_highest_priority_and_what_is_old_keeps_its_own(n_more: int) -> None:
    buffer = make()
    fill(buffer, 111)
    priorities = set_random_priorities(buffer)
    heads = buffer.tapes.heads.copy()  # type: ignore[union-attr]
    fill(buffer, n_more)
    reach = buffer.burn_in + buffer.sequence_length
    expected = {
        (row, m): priorities[row, m] if m * buffer.state_interval + reach <= heads[row] else buffer.max_priority
        for row, m in all_windows(buffer)
    }
    assert buffer.max_priority == max(1.0, *priorities.values())
    check_distribution(buffer, expected)


def test_overwritten_windows_never_receive_an_update_meant_for_the_old_ones() -> None:
    buffer = make()
    fill(buffer, 100)
    drawn = buffer._draw_windows(64)
    fill(buffer, 400)
    before = buffer._tree.nodes.copy() if buffer._tree is not None else None
    buffer._keep_up()
    assert buffer._tree is not None and before is not None and not np.array_equal(before, buffer._tree.nodes)
    before = buffer._tree.nodes.copy()
    buffer.update_priorities(drawn, np.full(64, 123.0))
    assert np.array_equal(buffer._tree.nodes, before) and buffer.max_priority == 1.0


class WritesToWhateverIsThere(PrioritizedSequenceReplayBuffer):
    """Planted: the update goes to the leaf, whoever lives there by now."""

    def update_priorities(self, drawn: tuple[np.ndarray, np.ndarray], priorities: np.ndarray) -> None:
        self._keep_up()
        assert self._tree is not None
        self._tree.set(self._leaves(*drawn), priorities)


def test_a_planted_stale_update_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrioritizedSequenceReplayBuffer, "update_priorities", WritesToWhateverIsThere.update_priorities)
    with pytest.raises(AssertionError):
        test_overwritten_windows_never_receive_an_update_meant_for_the_old_ones()


def test_importance_weights_by_hand() -> None:
    buffer = make(importance_exponent=0.5, priority_exponent=1.0)
    fill(buffer, 30)
    rows, windows = (np.array(column) for column in zip(*all_windows(buffer)[:3], strict=True))
    buffer.update_priorities((rows, windows), np.array([1.0, 4.0, 16.0]))
    weights = buffer._importance_weights(rows, windows)
    # (1, 4, 16) ** -0.5, divided by the largest
    assert weights is not None and weights.tolist() == [1.0, 0.5, 0.25]
    assert make()._importance_weights(rows, windows) is None


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("priority_exponent", -0.1),
        ("priority_exponent", np.inf),
        ("priority_exponent", np.nan),
        ("priority_eta", 1.5),
        ("priority_eta", True),
        ("priority_eta", "much"),
        ("importance_exponent", -1.0),
        ("importance_exponent", np.nan),
        ("final_importance_exponent", 1.1),
    ],
)
def test_bad_options(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        make(**{option: value})


@pytest.mark.parametrize(("priority", "exponent"), [(-1.0, 0.7), (np.nan, 0.7), (np.inf, 0.7), (1e18, 20.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_priorities_that_make_no_sense_are_refused_and_change_nothing(
    priority: float, exponent: float, dtype: type
) -> None:
    buffer = make(priority_exponent=exponent)
    fill(buffer, 30)
    drawn = buffer._draw_windows(4)
    before = buffer._tree.nodes.copy()  # type: ignore[union-attr]
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"Priorities.*TD errors"):
        warnings.simplefilter("error")
        buffer.update_priorities(drawn, np.array([1, 2, priority, 3], dtype))
    assert np.array_equal(buffer._tree.nodes, before) and buffer.max_priority == 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_priorities_of_very_different_sizes_are_drawn_and_weighed(dtype: type) -> None:
    buffer = make(importance_exponent=1.0)
    fill(buffer, 300)
    rows, ids = (np.array(column) for column in zip(*all_windows(buffer), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer.update_priorities((rows, ids), np.geomspace(1e-18, 1e18, len(rows)).astype(dtype))
        fill(buffer, 1)
        batch = buffer.sample(32)
    assert batch.weights is not None and th.isfinite(batch.weights).all() and batch.weights.max() == 1


@pytest.mark.parametrize("importance_exponent", [0.0, 0.6])
def test_training_writes_the_priorities_of_the_paper(importance_exponent: float) -> None:
    env = make_env(((5, 3), (17,), (1, 2, 9)))
    model = make_model(
        env,
        RecurrentDQN,
        replay_buffer_class=PrioritizedSequenceReplayBuffer,
        replay_buffer_kwargs=dict(importance_exponent=importance_exponent, priority_eta=0.3),
        n_steps=2,
        learning_rate=0.0,
    )
    model.learn(60 * env.num_envs)
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
    batch = buffer.sample(16)
    q_taken, targets, _ = model._q_and_targets(batch)
    errors = (targets - q_taken).detach()
    buffer.sample = lambda *_, **__: batch  # type: ignore[method-assign]
    model.train(1, batch_size=16)
    assert buffer._tree is not None and batch.drawn is not None
    written = buffer._tree.get(buffer._leaves(*batch.drawn))
    expected = np.maximum(sequence_priorities(errors, batch.learning, eta=0.3).numpy(), 1e-6) ** 0.9
    np.testing.assert_allclose(written, expected, rtol=1e-4)
    weights = np.ones(16) if batch.weights is None else batch.weights.numpy()
    learning = batch.learning.numpy()
    loss = 0.5 * (errors.numpy() ** 2 * weights[:, None])[learning].mean()
    np.testing.assert_allclose(model.logger.name_to_value["train/loss"], loss, rtol=1e-4)


def test_a_saved_buffer_keeps_its_priorities(tmp_path) -> None:  # type: ignore[no-untyped-def]
    env = make_env(((5, 3), (17,)))
    model = make_model(env, RecurrentDQN, replay_buffer_class=PrioritizedSequenceReplayBuffer)
    model.learn(50 * env.num_envs)
    buffer = model.replay_buffer
    assert isinstance(buffer, PrioritizedSequenceReplayBuffer)
    drawn = buffer._draw_windows(30)
    buffer.update_priorities(drawn, np.linspace(0.1, 5.0, 30))
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    again = model.replay_buffer
    assert isinstance(again, PrioritizedSequenceReplayBuffer) and again is not buffer
    assert buffer._tree is not None and again._tree is not None
    assert np.array_equal(again._tree.nodes, buffer._tree.nodes) and again.max_priority == buffer.max_priority == 5.0


def test_a_planted_wrong_distribution_is_caught() -> None:
    buffer = make()
    fill(buffer, 300)
    priorities = set_random_priorities(buffer)
    buffer.priority_exponent = 1.0  # planted: what was written with 0.7 is taken for the priorities themselves
    with pytest.raises(AssertionError):
        check_distribution(buffer, priorities)
