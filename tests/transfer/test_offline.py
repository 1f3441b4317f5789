"""Data from elsewhere, updates without an environment, and old data in every batch."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.dqn_recurrent.offline import target_interval
from sb3_attnmem.dqn_recurrent.targets import conservative_gaps
from sb3_attnmem.replay import MixedSequenceReplayBuffer, PrioritizedSequenceReplayBuffer
from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.transfer import (
    Episode,
    fill_from_buffer,
    fill_from_episodes,
    fill_from_minari,
    keep_old_data,
    recompute_states,
)

SPACE = spaces.Box(-np.inf, np.inf, (2,), np.float32)


class Count(gym.Env):
    """Observation (episode, step). Odd episodes terminate after 3 steps, even ones are cut by a time limit after 5."""

    observation_space = SPACE
    action_space = spaces.Discrete(3)
    number = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.number, self.t = self.number + 1, 0
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        odd = self.number % 2 == 1
        return self._observation(), float(action == 1), odd and self.t == 3, not odd and self.t == 5, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.number, self.t], np.float32)


gym.register("CountToSome-v0", "tests.transfer.test_offline:Count")


def make(n_envs: int = 2, normalize: bool = False, **options: Any) -> RecurrentDQN:
    env: Any = DummyVecEnv([Count] * n_envs)
    if normalize:
        env = VecNormalize(env)
    policy_kwargs = dict(net_arch=[8], encoder_arch=[8], memory_class="gru", memory_kwargs=dict(hidden_size=8))
    settings: dict[str, Any] = dict(sequence_length=4, burn_in=2, n_steps=2, batch_size=8, learning_starts=8)
    settings |= dict(buffer_size=400, train_freq=2, target_update_interval=4, seed=0)
    return RecurrentDQN("MlpPolicy", env, policy_kwargs=policy_kwargs, **{**settings, **options})


def episode(number: int, n_steps: int, terminated: bool) -> Episode:
    observations = np.stack([np.full(n_steps + 1, number), np.arange(n_steps + 1)], axis=1).astype(np.float32)
    return Episode(observations, np.arange(n_steps) % 3, (np.arange(n_steps) % 3 == 1) * 1.0, terminated)


EPISODES = [episode(i, n, i % 2 == 1) for i, n in enumerate((5, 3, 11, 1, 5, 3, 2))]


def laid(model: RecurrentDQN) -> RecurrentDQN:
    assert fill_from_episodes(model, EPISODES, SPACE) == sum(len(e.actions) for e in EPISODES)
    return model


def contents(model: RecurrentDQN) -> set[tuple[float, ...]]:
    """:return: (episode, step, action, reward, kind, start) of all slots"""
    tapes = model.replay_buffer.tapes  # type: ignore[union-attr]
    assert tapes is not None
    found = []
    for row in tapes.rows:
        for slot in range(tapes.oldest[row], tapes.ends[row]):
            kind = int(tapes.kinds[row, slot])
            what = (tapes.actions[row, slot], tapes.rewards[row, slot]) if kind in (1, 2) else (0, 0)
            found.append((*tapes.observations[row, slot], *what, kind, tapes.starts[row, slot]))  # type: ignore[call-overload]
    assert len(found) == len(set(found))
    return {tuple(map(float, row)) for row in found}


def collect(model: RecurrentDQN, steps: int = 40) -> RecurrentDQN:
    model.learn(steps)
    return model


def test_episodes_lie_on_the_tapes_as_if_they_had_been_collected() -> None:
    expected = set()
    for data in EPISODES:
        for t in range(len(data.actions)):
            last = t + 1 == len(data.actions)
            kind = Slot.TERMINAL if last and data.terminated else Slot.TRANSITION
            expected.add((*data.observations[t], data.actions[t], data.rewards[t], kind, t == 0))
        if not data.terminated:
            expected.add((*data.observations[-1], 0, 0, Slot.FINAL, False))
    assert contents(laid(make())) == {tuple(map(float, row)) for row in expected}


def test_what_was_collected_and_saved_is_the_same_when_it_is_laid_anew(tmp_path: Path) -> None:
    theirs = collect(make(n_envs=1))
    theirs.save_replay_buffer(tmp_path / "buffer")
    ours = make(n_envs=1, sequence_length=6, burn_in=0)
    fill_from_buffer(ours, tmp_path / "buffer.pkl")
    assert contents(ours) == contents(theirs)


def test_sb3s_own_buffers_give_whole_episodes() -> None:
    dqn = DQN("MlpPolicy", Count(), learning_starts=1_000, buffer_size=100, seed=0)
    dqn.learn(30)
    dqn.learn(10, reset_num_timesteps=True)  # a reset without done
    ours = make(n_envs=1)
    assert fill_from_buffer(ours, dqn.replay_buffer) == dqn.replay_buffer.pos  # type: ignore[arg-type, union-attr]
    found = contents(ours)
    assert sum(row[4] == Slot.TERMINAL for row in found) == int(
        (dqn.replay_buffer.dones * (1 - dqn.replay_buffer.timeouts)).sum()  # type: ignore[union-attr]
    )
    for number, t, *_, kind, start in found:
        assert start == (t == 0), "a step was laid behind one of another episode"
        assert kind != Slot.TERMINAL or (number % 2 == 1 and t == 2)


@pytest.mark.parametrize("n_envs", [1, 3])
def test_stored_states_are_those_of_the_present_network(n_envs: int) -> None:
    model = laid(make(n_envs))
    buffer = model.replay_buffer
    assert buffer is not None and buffer.tapes is not None
    tapes, n_checked = buffer.tapes, 0
    with th.no_grad():
        for row in tapes.rows:
            state, start = model.q_net.memory.initial_state(1), th.ones(1, dtype=th.bool)
            for slot in range(int(tapes.ends[row])):
                if slot % tapes.block == 0 and tapes.kinds[row, slot] != Slot.FINAL:
                    np.testing.assert_allclose(tapes.states[0][row, slot // tapes.block], state[0][0], atol=1e-5)
                    n_checked += slot > 0
                observation = th.as_tensor(tapes.read(np.array([row]), np.array([slot])))
                start = th.as_tensor(tapes.starts[[row], [slot]])
                _, state = model.q_net.step(observation, state, start)
    assert n_checked > 5
    collect(model, 20)
    before = tapes.states[0].copy()
    recompute_states(model)
    assert not np.array_equal(tapes.states[0], before), "the network has changed, so must its states"


def test_zero_states_take_no_room() -> None:
    model = laid(make(state_init="zero"))
    assert model.replay_buffer.tapes.states == []  # type: ignore[union-attr]
    model.learn_offline(2)


def test_statistics_are_fitted_and_the_data_stay_raw() -> None:
    model = laid(make(normalize=True))
    assert contents(model) == contents(laid(make()))
    normalizer = model.get_vec_normalize_env()
    assert normalizer is not None
    everything = np.concatenate([data.observations for data in EPISODES])
    np.testing.assert_allclose(normalizer.obs_rms.mean, everything.mean(axis=0), atol=1e-3)  # type: ignore[union-attr]
    # Discounted returns by hand: rewards 0 1 0, 0 1 of each three steps
    returns: list[float] = []
    for data in EPISODES:
        running = 0.0
        for reward in data.rewards:
            running = 0.99 * running + reward
            returns.append(running)
    np.testing.assert_allclose(normalizer.ret_rms.var, np.var(returns), rtol=1e-2)
    batch = model.replay_buffer.sample(64, env=normalizer)  # type: ignore[union-attr]
    assert batch.window.observations.abs().max() < 10  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "wrong, complaint",
    [
        ([], "no episode"),
        ([episode(0, 3, True)._replace(actions=np.array([0, 1, 3]))], "from 0 to 3"),
        ([episode(0, 3, True)._replace(actions=np.zeros(3))], "type float64"),
        ([episode(0, 3, True)._replace(rewards=np.zeros(2))], "2 rewards"),
        ([episode(0, 3, True)._replace(rewards=np.array([0, np.nan, 0]))], "not finite"),
        ([episode(0, 500, True)], "Set buffer_size to at least"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_stored(wrong: list[Episode], complaint: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=complaint):
        fill_from_episodes(model, [*wrong, EPISODES[0]] if wrong else wrong, SPACE)
    assert model.replay_buffer.size() == 0  # type: ignore[union-attr]


def test_other_spaces_are_told() -> None:
    with pytest.raises(ValueError, match="observations of"):
        fill_from_episodes(make(), EPISODES, spaces.Box(-1, 1, (2,), np.float32))


def test_images_with_channels_last_are_transposed() -> None:
    class Pictures(gym.Env):
        observation_space = spaces.Box(0, 255, (36, 40, 3), np.uint8)
        action_space = spaces.Discrete(2)

    model = RecurrentDQN("MlpPolicy", Pictures(), sequence_length=4, burn_in=0, n_steps=1, buffer_size=50)
    pictures = np.random.default_rng(0).integers(0, 255, (4, 36, 40, 3), dtype=np.uint8)
    fill_from_episodes(model, [Episode(pictures, np.zeros(3, int), np.zeros(3), True)], Pictures.observation_space)
    stored = model.replay_buffer.tapes.observations[0, :3]  # type: ignore[union-attr, index]
    assert np.array_equal(stored, pictures[:3].transpose(0, 3, 1, 2))


def test_minari_datasets_recorded_by_its_own_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(gym.make("CountToSome-v0"), data_format="hdf5")
    rng = np.random.default_rng(0)
    steps = []
    for number in range(6):
        observation, _ = env.reset(seed=number)
        ended = False
        while not ended:
            action = int(rng.integers(3))
            following, reward, terminated, truncated, _ = env.step(action)
            kind = Slot.TERMINAL if terminated else Slot.TRANSITION
            steps.append((*observation, action, reward, kind, observation[1] == 0))
            observation, ended = following, terminated or truncated
        if truncated:
            steps.append((*observation, 0, 0, Slot.FINAL, False))
    dataset = env.create_dataset("count/random-v0")
    for source in (dataset, "count/random-v0", tmp_path / "count" / "random-v0"):
        model = make()
        fill_from_minari(model, source)
        assert contents(model) == {tuple(map(float, step)) for step in steps}
    with pytest.raises(FileNotFoundError, match="count/random-v0"):
        fill_from_minari(make(), "count/other-v0")
    with pytest.raises(ValueError, match="actions of Discrete"):
        other = make()
        other.action_space = spaces.Discrete(4)
        fill_from_minari(other, dataset)


# Updates


def test_the_conservative_term_by_hand() -> None:
    q_values = th.tensor([[[0.0, np.log(3.0)], [1.0, 1.0]]], dtype=th.float64)
    gaps = conservative_gaps(q_values, th.tensor([[1, 0]]))
    # log(1 + 3) - log 3, and log(2 e) - 1
    np.testing.assert_allclose(gaps, [[np.log(4 / 3), np.log(2)]], rtol=1e-6)


def test_the_conservative_term_counts_learning_steps_alone() -> None:
    model = laid(make())
    batch = model.replay_buffer.sample(16)  # type: ignore[union-attr]
    assert not batch.learning.all()
    *_, q_online = model._q_and_targets(batch)
    by_hand = []
    for row, column in batch.learning.nonzero().tolist():
        values = q_online[row, column]
        by_hand.append((values.exp().sum().log() - values[batch.actions[row, column]]).item())
    losses = {}
    for weight in (0.0, 2.0):
        told: dict[str, float] = {}
        other = laid(make())
        other.replay_buffer.sample = lambda *_, **__: batch  # type: ignore[union-attr, method-assign, assignment]
        other.learn_offline(1, Overhear(told), conservative_weight=weight)
        losses[weight] = told["train/loss"]
    assert losses[2.0] - losses[0.0] == pytest.approx(2.0 * np.mean(by_hand), rel=1e-4)


class Overhear(BaseCallback):
    """:param told: where the log's figures go"""

    def __init__(self, told: dict[str, float]) -> None:
        super().__init__()
        self.told = told

    def _on_training_start(self) -> None:
        dump = self.logger.dump

        def listen(step: int = 0) -> None:
            self.told.update(self.logger.name_to_value)  # type: ignore[arg-type]
            dump(step)

        self.logger.dump = listen  # type: ignore[method-assign]

    def _on_step(self) -> bool:
        return True


def test_conservative_learning_lowers_actions_that_the_data_do_not_show() -> None:
    def gap(weight: float) -> float:
        model = make(learning_rate=1e-2)
        only = [e._replace(actions=np.ones_like(e.actions), rewards=np.zeros(len(e.actions))) for e in EPISODES]
        fill_from_episodes(model, only, SPACE)
        model.learn_offline(60, conservative_weight=weight)
        batch = model.replay_buffer.sample(64)  # type: ignore[union-attr]
        *_, q_online = model._q_and_targets(batch)
        values = q_online[batch.learning].detach()
        return float((values[:, 1] - values[:, [0, 2]].amax(dim=1)).mean())

    assert gap(1.0) > gap(0.0) + 0.5


class Steps(BaseCallback):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.seen: list[int] = []

    def _on_step(self) -> bool:
        self.seen.append(self.num_timesteps)
        return self.num_timesteps != self.stop_at


def test_callbacks_see_updates_and_the_environment_is_left_alone() -> None:
    model = laid(make())
    model.env.step = None  # type: ignore[union-attr, assignment, method-assign]
    before = model.num_timesteps
    callback = Steps()
    model.learn_offline(7, callback)
    assert callback.seen == list(range(1, 8)) and model._n_updates == 7
    assert model.num_timesteps == before
    stopping = Steps(stop_at=3)
    model.learn_offline(7, stopping)
    assert stopping.seen == [1, 2, 3] and model._n_updates == 10


def test_going_on_online() -> None:
    model = laid(make())
    n_before = model.replay_buffer.tapes.n_transitions()  # type: ignore[union-attr]
    model.learn_offline(3)
    collect(model, 20)
    assert model.num_timesteps == 20
    assert model.replay_buffer.tapes.n_transitions() == n_before + 20  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "options, interval",
    [
        (dict(target_update_unit="updates", target_update_interval=5), 5),
        (dict(train_freq=2, target_update_interval=12), 3),  # 2 environments, 4 steps an update
        (dict(train_freq=8, target_update_interval=4), 1),
        (dict(train_freq=2, gradient_steps=2, target_update_interval=12), 6),
        (dict(train_freq=2, gradient_steps=-1, target_update_interval=12), 12),
    ],
)
def test_the_target_network_keeps_its_pace(options: dict[str, Any], interval: int) -> None:
    model = laid(make(tau=1.0, **options))
    assert target_interval(model) == interval
    targets = []
    old = [weight.clone() for weight in model.q_net_target.parameters()]

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            now = list(self.model.q_net_target.parameters())  # type: ignore[attr-defined]
            targets.append(any(not th.equal(a, b) for a, b in zip(old, now, strict=True)))
            old[:] = [weight.clone() for weight in now]
            return True

    model.learn_offline(2 * interval, Watch())
    assert [i + 1 for i, changed in enumerate(targets) if changed] == [interval, 2 * interval]


def test_wrong_numbers_and_an_empty_buffer_are_told() -> None:
    with pytest.raises(ValueError, match="empty"):
        make().learn_offline(3)
    model = laid(make())
    for wrong in (dict(updates=0), dict(updates=3, conservative_weight=-1.0), dict(updates=3, log_interval=0)):
        with pytest.raises(ValueError, match="must be"):
            model.learn_offline(**wrong)  # type: ignore[arg-type]


# Old data


def shares(model: RecurrentDQN, batch_size: int = 8) -> list[int]:
    """:return: sequences of a batch from the new buffer and from each old one"""
    buffer: Any = model.replay_buffer
    batch = buffer.sample(batch_size)
    counts = {id(owner): len(places) for owner, _, places in buffer.owners(batch.drawn)}
    *olds, new = buffer.parts
    return [counts.get(id(part), 0) for part in (new, *olds)]


@pytest.mark.parametrize("buffer_class", [None, PrioritizedSequenceReplayBuffer])
def test_every_batch_has_its_share_of_old_data(buffer_class: Any, tmp_path: Path) -> None:
    model = laid(make(replay_buffer_class=buffer_class, refresh_states=True, delta_q_interval=1))
    keep_old_data(model, 0.25)
    assert shares(model) == [0, 8], "all is old as long as nothing is new"
    model.learn_offline(2)
    old = contents_of_old(model)
    collect(model)
    assert all(shares(model) == [6, 2] for _ in range(5))
    assert contents_of_old(model) == old, "nothing is added to old data"
    keep_old_data(model, 0.5)
    collect(model)
    assert all(shares(model) == [4, 2, 2] for _ in range(5))
    model.save_replay_buffer(tmp_path / "buffer")
    other = make(replay_buffer_class=buffer_class)
    other.load_replay_buffer(tmp_path / "buffer")
    assert shares(other) == [4, 2, 2]
    collect(other, 20)
    assert isinstance(other.replay_buffer, MixedSequenceReplayBuffer) and len(other.replay_buffer.parts) == 3


def contents_of_old(model: RecurrentDQN) -> list[np.ndarray]:
    old, _ = model.replay_buffer.parts  # type: ignore[union-attr]
    return [old.tapes.actions.tolist(), old.tapes.kinds.tolist(), old.tapes.ends.tolist()]


def test_a_mixed_batch_is_the_batches_it_is_made_of() -> None:
    model = laid(make())
    keep_old_data(model, 0.5)
    collect(model)
    buffer: Any = model.replay_buffer
    batch = buffer.sample(12)
    mixed = [tensor.detach() for tensor in model._q_and_targets(batch)]
    for part, drawn, places in buffer.owners(batch.drawn):
        alone = part._read_windows(*drawn, part.burn_in, None)
        width = alone.actions.shape[1]
        there = alone.learning
        assert th.equal(batch.learning[places][:, :width], there) and not batch.learning[places][:, width:].any()
        for ours, theirs in zip(mixed, model._q_and_targets(alone), strict=True):
            th.testing.assert_close(ours[places][:, :width][there], theirs.detach()[there], rtol=1e-5, atol=1e-5)


def test_new_priorities_reach_the_buffer_they_belong_to() -> None:
    model = laid(make(replay_buffer_class=PrioritizedSequenceReplayBuffer))
    keep_old_data(model, 0.5)
    collect(model)
    buffer: Any = model.replay_buffer
    batch = buffer.sample(8)
    for i, (part, drawn, places) in enumerate(buffer.owners(batch.drawn)):
        priorities = np.full(8, 1.0)
        priorities[places] = 100.0 + i
        buffer.update_priorities(batch.drawn, priorities)
        np.testing.assert_allclose(part._tree.get(part._leaves(*drawn)), (100.0 + i) ** part.priority_exponent)


@pytest.mark.parametrize("share", [1.0, -0.1, 1.5])
def test_a_share_that_is_none_is_told(share: float) -> None:
    with pytest.raises(ValueError, match="old_share"):
        keep_old_data(laid(make()), share)


def test_no_old_data_at_all() -> None:
    with pytest.raises(ValueError, match="empty"):
        keep_old_data(make())
    model = laid(make())
    keep_old_data(model, 0)
    assert model.replay_buffer.size() == 0  # type: ignore[union-attr]
    collect(model)
