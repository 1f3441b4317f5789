"""What is saved comes back, whatever the number of environments, the size of the buffer or the memory."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_attnmem import BaseMemory, MemoryState, RecurrentDQN, RecurrentDQNPolicy, SequenceReplayBuffer
from tests.dqn_recurrent.worlds import SMALL, make_learner, make_world
from tests.toys import SumMemory


class LearnedStart(BaseMemory):
    """
    A user's own memory: a decaying trace whose initial value is learned.

    :param input_dim: D
    :param decay: how much of the trace stays
    """

    def __init__(self, input_dim: int, decay: float = 0.5) -> None:
        super().__init__(input_dim, latent_dim=input_dim)
        self.decay = decay
        self.start = th.nn.Parameter(th.ones(input_dim))

    def initial_state(self, batch_size: int) -> MemoryState:
        return (self.start.expand(batch_size, -1),)

    def forward(
        self, features: th.Tensor, state: MemoryState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, MemoryState]:
        latents = []
        for step in range(features.shape[1]):
            (trace,) = self.reset_where(episode_starts[:, step], state)
            state = (self.decay * trace + features[:, step],)
            latents.append(state[0])
        return th.stack(latents, dim=1), state


MEMORIES = {
    "lstm": dict(memory_class="lstm", memory_kwargs=dict(hidden_size=8, num_layers=2)),
    "gru": dict(memory_class="gru", memory_kwargs=dict(hidden_size=8), dueling=False),
    "none": dict(memory_class="none"),
    "toy": dict(memory_class=SumMemory, encoder_arch=[5]),
    "a user's own": dict(memory_class=LearnedStart, memory_kwargs=dict(decay=0.8), encoder_arch=[5], net_arch=[]),
}


def play(agent: RecurrentDQN | RecurrentDQNPolicy, n_steps: int = 12) -> tuple[list[list[int]], list[np.ndarray]]:
    """:return: greedy actions and states over some steps"""
    generator = np.random.default_rng(0)
    actions, states = [], []
    state, starts = None, np.ones(3, bool)
    for _ in range(n_steps):
        observations = generator.uniform(-1, 1, (3, 3)).astype(np.float32)
        action, state = agent.predict(observations, state, starts, deterministic=True)
        starts = generator.random(3) < 0.2
        actions.append(action.tolist())
        assert state is not None
        states.append(np.concatenate([array.ravel() for array in state]) if state else np.zeros(0))
    return actions, states


def assert_plays_alike(one: RecurrentDQN | RecurrentDQNPolicy, other: RecurrentDQN | RecurrentDQNPolicy) -> None:
    for mine, theirs in zip(play(one), play(other), strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("memory", MEMORIES)
def test_model_and_policy_predict_the_same_when_loaded(memory: str, tmp_path: Path) -> None:
    model = make_learner(policy_kwargs=MEMORIES[memory], train_freq=2).learn(60)
    assert model._n_updates > 0
    model.save(tmp_path / "model")
    loaded = RecurrentDQN.load(tmp_path / "model")
    assert_plays_alike(model, loaded)
    model.policy.save(tmp_path / "policy")
    policy = RecurrentDQNPolicy.load(tmp_path / "policy")
    assert_plays_alike(model, policy)
    assert policy.architecture == model.policy.architecture and type(policy.q_net.memory) is type(model.q_net.memory)


def test_a_learned_initial_state_is_learned() -> None:
    model = make_learner(policy_kwargs=MEMORIES["a user's own"], train_freq=2)
    model.learn(40)
    model.learn(40)
    assert isinstance(model.q_net.memory, LearnedStart)
    assert not th.equal(model.q_net.memory.start, th.ones(5)), "it gets a gradient from the first steps of episodes"


@pytest.mark.parametrize("n_envs", [1, 3, 5])
@pytest.mark.parametrize("with_buffer", [True, False])
def test_another_number_of_environments(n_envs: int, with_buffer: bool, tmp_path: Path) -> None:
    model = make_learner(make_world(n_envs=3), buffer_size=300).learn(3 * 32)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = RecurrentDQN.load(tmp_path / "model", env=make_world(n_envs=n_envs))
    assert loaded.n_envs == n_envs
    assert loaded.replay_buffer is not None and loaded.replay_buffer.n_envs == n_envs
    if with_buffer:
        loaded.load_replay_buffer(tmp_path / "buffer")
        assert loaded.replay_buffer is not None and loaded.replay_buffer.tapes is not None
        assert loaded.replay_buffer.n_envs == loaded.replay_buffer.tapes.n_envs == n_envs
        assert loaded.replay_buffer.buffer_size == 300 // n_envs
        assert loaded.replay_buffer.tapes.n_transitions() == 96
    before = loaded._n_updates
    loaded.learn(40 * n_envs, reset_num_timesteps=False)
    assert loaded._n_updates > before
    assert loaded._memory_state is not None and loaded._memory_state[0].shape[0] == n_envs


def test_many_environments_share_few_tapes_and_the_newest_stays(tmp_path: Path) -> None:
    """Where the new buffer is too small for everything."""
    model = make_learner(make_world(n_envs=4), buffer_size=4 * 40).learn(4 * 60)
    model.save_replay_buffer(tmp_path / "buffer")
    other = make_learner(make_world(n_envs=1), buffer_size=160)
    other.load_replay_buffer(tmp_path / "buffer")
    assert other.replay_buffer is not None and other.replay_buffer.tapes is not None
    assert 100 < other.replay_buffer.tapes.n_transitions() <= 200
    other.learn(300)
    batch = other.replay_buffer.sample(50)
    assert batch.learning.any()


@pytest.mark.parametrize("buffer_size", [1, 10**12])
def test_loading_to_predict_takes_no_memory_for_the_buffer(buffer_size: int, tmp_path: Path) -> None:
    """As the RL Zoo's ``enjoy`` does: with ``buffer_size=1``, or with the size it was trained with."""
    model = make_learner().learn(40)
    model.save(tmp_path / "model")
    loaded = RecurrentDQN.load(tmp_path / "model", env=make_world(n_envs=3), buffer_size=buffer_size)
    assert loaded.replay_buffer is not None and loaded.replay_buffer.tapes is None
    assert_plays_alike(model, loaded)
    with pytest.raises(ValueError, match="buffer_size"):
        loaded.learn(10)


def weights(seed: int | None, **kwargs: object) -> list[th.Tensor]:
    model = make_learner(make_world(), seed=seed, train_freq=2, learning_rate=1e-2, **kwargs).learn(80)
    return [weight.detach().clone() for weight in model.policy.parameters()]


@pytest.mark.parametrize("memory", ["lstm", "gru", "none"])
def test_the_same_seed_gives_the_same_weights(memory: str) -> None:
    kwargs = dict(policy_kwargs=dict(memory_class=memory))
    one, other, third = (weights(seed, **kwargs) for seed in (1, 1, 2))
    assert all(map(th.equal, one, other))
    assert not any(map(th.equal, one, third))


def test_without_a_seed_runs_differ() -> None:
    assert not all(map(th.equal, weights(None), weights(None)))


# The replay buffer's own file


def sampled(buffer: SequenceReplayBuffer) -> list[th.Tensor]:
    buffer.seed(5)
    batch = buffer.sample(16)
    assert batch.burn_in is not None
    tensors = [*batch.state, *batch[3:], *batch.window, *batch.burn_in]
    return [tensor for tensor in tensors if isinstance(tensor, th.Tensor)]


@pytest.mark.parametrize("n_steps", [1, 30, 400])
def test_replay_buffer_round_trip(n_steps: int, tmp_path: Path) -> None:
    """Young, half full, and after the ring has turned; then it goes on."""
    model = make_learner(buffer_size=200, learning_starts=10**6).learn(2 * n_steps)
    model.save_replay_buffer(tmp_path / "buffer")
    twin = make_learner(buffer_size=200, learning_starts=10**6)
    twin.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer is not None and twin.replay_buffer is not None
    assert twin.replay_buffer.size() == model.replay_buffer.size()
    assert (twin.replay_buffer.pos, twin.replay_buffer.full) == (model.replay_buffer.pos, model.replay_buffer.full)
    if n_steps > 1:
        for one, other in zip(sampled(model.replay_buffer), sampled(twin.replay_buffer), strict=True):
            assert th.equal(one, other)
    twin.learn(500)
    assert twin.replay_buffer.size() >= 80


def test_a_young_replay_buffer_makes_a_small_file(tmp_path: Path) -> None:
    model = make_learner(make_world("image"), "CnnPolicy", buffer_size=20_000, learning_starts=10**6).learn(20)
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer is not None and model.replay_buffer.tapes is not None
    assert model.replay_buffer.tapes.nbytes > 50e6 > 100 * (tmp_path / "buffer.pkl").stat().st_size > 0
    before = model.replay_buffer.size()
    model.learn(20)
    assert model.replay_buffer.size() > before, "saving leaves the buffer as it was"


def test_a_stored_transition_takes_little_more_than_its_frame() -> None:
    """84 x 84 frames, LSTM of 128, states at every eighth step."""
    space = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    buffer = SequenceReplayBuffer(100_000, space, spaces.Discrete(6), n_envs=4, sequence_length=32)
    buffer.allocate((th.zeros(4, 1, 128), th.zeros(4, 1, 128)))
    assert buffer.tapes is not None
    assert buffer.tapes.nbytes / 100_000 <= 1.03 * 84 * 84


def test_an_empty_replay_buffer_can_be_saved(tmp_path: Path) -> None:
    model = make_learner()
    model.save_replay_buffer(tmp_path / "buffer")
    twin = make_learner()
    twin.load_replay_buffer(tmp_path / "buffer")
    twin.learn(40)
    assert twin._n_updates > 0


def test_an_empty_replay_buffer_says_so() -> None:
    model = make_learner()
    assert model.replay_buffer is not None and model.replay_buffer.size() == 0
    with pytest.raises(ValueError, match="empty"):
        model.replay_buffer.sample(4)


def test_reset_empties_the_replay_buffer() -> None:
    model = make_learner(policy_kwargs=SMALL).learn(40)
    assert model.replay_buffer is not None and model.replay_buffer.size() > 0
    model.replay_buffer.reset()
    assert model.replay_buffer.size() == 0 and model.replay_buffer.pos == 0 and not model.replay_buffer.full
    model.learn(40)
    assert model.replay_buffer.size() == 24, "three rollouts of eight steps"
