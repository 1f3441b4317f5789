"""What is shown of a memory at work: against its own equations; and ΔQ."""

import numpy as np
import pytest
import torch as th
from torch.nn import functional as F

from sb3_attnmem import RecurrentDQN
from sb3_attnmem.inspection.common import undisturbed
from sb3_attnmem.inspection.memory.gates import gates_of
from sb3_attnmem.inspection.memory.played import PlayedEpisode
from sb3_attnmem.inspection.memory.state_gap import state_gaps
from sb3_attnmem.inspection.memory.trace import EpisodeTrace, mean_by_age, trace_episode
from sb3_attnmem.memory import BaseMemory, MemoryState
from sb3_attnmem.transfer import keep_old_data
from tests.dqn_recurrent.worlds import make_learner, make_world
from tests.inspection.memory_toys import Repeat, plain

T = 12


def agent(memory: str, fusion: str = "none", **memory_kwargs: object) -> RecurrentDQN:
    model = plain(Repeat(), memory, memory_fusion=fusion, memory_kwargs=dict(hidden_size=8, **memory_kwargs))
    model.policy.set_training_mode(False)
    return model


def episode_of(model: RecurrentDQN, starts: tuple[int, ...] = (0,)) -> PlayedEpisode:
    """:return: random features, and the Q-values that the agent has on them"""
    flags = np.zeros(T, bool)
    flags[list(starts)] = True
    features = th.randn(T, 3, generator=th.Generator().manual_seed(1))
    memory = model.q_net.memory
    with th.no_grad():
        latents, _ = memory(features.unsqueeze(0), memory.initial_state(1), th.as_tensor(flags).unsqueeze(0))
        q_values = model.q_net.head(features.unsqueeze(0), latents)[0].numpy()
    return PlayedEpisode(features, flags, q_values.argmax(axis=1), np.zeros(T), q_values, list(features.numpy()))


def stepped(memory: BaseMemory, features: th.Tensor) -> tuple[list[MemoryState], list[MemoryState]]:
    state, before, after = memory.initial_state(1), [], []
    start = th.ones(1, 1, dtype=th.bool)
    with th.no_grad():
        for t in range(features.shape[1]):
            before.append(state)
            _, state = memory(features[:, t : t + 1], state, start & (t == 0))
            after.append(state)
    return before, after


def gates_and_states(
    memory: BaseMemory,
) -> tuple[th.Tensor, dict[str, th.Tensor], list[th.Tensor], list[th.Tensor]]:
    features = th.randn(1, T, 3)
    starts = th.zeros(1, T, dtype=th.bool)
    starts[:, 0] = True
    before, after = stepped(memory, features)
    with th.no_grad():
        gates = gates_of(memory, features, starts, before, after)
    assert all(((gate >= 0) & (gate <= 1)).all() and gate.shape[0] == T for gate in gates.values())
    return features, gates, *([th.cat(x) for x in zip(*states, strict=True)] for states in (before, after))


@pytest.mark.parametrize("options", [{}, dict(num_layers=2, layer_norm=True, residual=True)])
def test_the_gates_of_an_lstm_lead_from_state_to_state(options: dict) -> None:
    memory = agent("lstm", **options).q_net.memory
    features, gates, (_, c_before), (h, c) = gates_and_states(memory)
    layers = range(memory.num_layers)
    inputs = features[0]
    for layer, prefix in zip(layers, ["layer 1 ", "layer 2 "] if len(layers) > 1 else [""], strict=True):
        i, f, o = (gates[f"{prefix}{name}"] for name in ("input gate i", "forget gate f", "output gate o"))
        weight_ih, weight_hh, bias_ih, bias_hh = (weight.detach() for weight in memory.rnn.all_weights[layer])
        read = inputs if memory.norms is None else memory.norms[layer](inputs).detach()
        h_before = F.pad(h[:-1, layer], (0, 0, 1, 0))
        g = (read @ weight_ih.T + bias_ih + h_before @ weight_hh.T + bias_hh).chunk(4, dim=1)[2].tanh()
        th.testing.assert_close(c[:, layer], f * c_before[:, layer] + i * g, atol=1e-5, rtol=1e-4)
        th.testing.assert_close(h[:, layer], o * c[:, layer].tanh(), atol=1e-5, rtol=1e-4)
        inputs = inputs + h[:, layer] if layer and memory.residual else h[:, layer]


def test_the_gates_of_a_gru_lead_from_state_to_state() -> None:
    memory = agent("gru").q_net.memory
    features, gates, (h_before,), (h,) = gates_and_states(memory)
    weight_ih, weight_hh, bias_ih, bias_hh = (weight.detach() for weight in memory.rnn.all_weights[0])
    r, z = gates["reset gate r"], gates["update gate z"]
    of_input = (features[0] @ weight_ih.T + bias_ih).chunk(3, dim=1)[2]
    of_state = (h_before[:, 0] @ weight_hh.T + bias_hh).chunk(3, dim=1)[2]
    n = (of_input + r * of_state).tanh()
    th.testing.assert_close(h[:, 0], (1 - z) * n + z * h_before[:, 0], atol=1e-5, rtol=1e-4)


def test_the_gate_of_a_minimal_gru_leads_from_state_to_state() -> None:
    memory = agent("min_gru", conv_size=1, layer_norm=False).q_net.memory
    features, gates, (h_before,), (h,) = gates_and_states(memory)
    candidate = memory.layers[0].linear(features[0]).chunk(2, dim=1)[1].detach()
    z = gates["update gate z"]
    th.testing.assert_close(h, (1 - z) * h_before + z * candidate, atol=1e-5, rtol=1e-4)


def test_the_gates_of_the_controller_beside_external_memory() -> None:
    memory = agent("dnc").q_net.memory
    _, gates, _, after = gates_and_states(memory)
    th.testing.assert_close(after[0], gates["output gate o"] * after[1].tanh(), atol=1e-5, rtol=1e-4)


def test_the_gates_of_a_gated_transformer_begin_nearly_shut() -> None:
    _, gates, _, _ = gates_and_states(agent("gtrxl", gate_bias=4.0).q_net.memory)
    names = [f"layer {layer} {part} gate z" for layer in (1, 2) for part in ("attention", "feed-forward")]
    assert list(gates) == names and all(gate.mean() < 0.1 for gate in gates.values())


@pytest.mark.parametrize(
    ("memory", "names"), [("shm", ["write strength η"]), ("deltanet", ["write strength β", "kept α"])]
)
def test_what_a_matrix_takes_in_and_which_steps_it_is_read_from(memory: str, names: list[str]) -> None:
    model = agent(memory, key_size=5, value_size=3)
    trace = trace_episode(model, episode_of(model, (0, 5)), 100)
    assert list(trace.gates) == names and list(trace.state_norms) == ["matrices", "steps", "recent"]
    shares = trace.past["memory.layers.0"]
    np.testing.assert_allclose(np.nansum(shares, axis=2), 1.0, atol=1e-5)
    assert np.isnan(shares[:, np.triu(np.ones((T, T), bool), 1)]).all() and np.nansum(shares[:, 5:, :5]) == 0.0
    np.testing.assert_array_equal(trace.state_norms["steps"], [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6, 7])


@pytest.mark.parametrize("memory", ["none", "lru", "ffm", "window"])
def test_memories_without_gates(memory: str) -> None:
    model = plain(Repeat(), memory)
    trace = trace_episode(model, episode_of(model), 100)
    assert trace.gates == {} and trace.n_steps == T
    assert len(trace.state_norms) == len(model.q_net.memory.initial_state(1))


def test_looking_leaves_no_hooks_and_changes_no_output() -> None:
    model = agent("gtrxl", fusion="gate")
    episode = episode_of(model)
    trace_episode(model, episode, 100)
    hooks = [len(module._forward_hooks) for module in model.policy.modules()]
    assert sum(hooks) == 0
    np.testing.assert_array_equal(episode_of(model).q_values, episode.q_values)


@pytest.mark.parametrize("starts", [(0,), (0, 5)])
def test_attention_over_the_past_lies_where_it_looks(starts: tuple[int, ...]) -> None:
    model = agent("window", window=4)
    trace = trace_episode(model, episode_of(model, starts), 100)
    weights = trace.past["memory.blocks.0.attention"]  # (heads, T, T)
    assert len(trace.past) == 2 and weights.shape == (4, T, T)
    np.testing.assert_allclose(np.nansum(weights, axis=2), 1.0, atol=1e-5)
    later, too_old = np.triu(np.ones((T, T), bool), 1), np.tril(np.ones((T, T), bool), -4)
    assert np.isnan(weights[:, later | too_old]).all() and np.isfinite(weights[:, ~(later | too_old)]).all()
    if len(starts) > 1:
        assert np.nansum(weights[:, 5:, :5]) == 0.0
    by_age = mean_by_age(weights)
    assert by_age.shape == (4, 4)
    np.testing.assert_allclose(by_age[:, 0], np.diagonal(weights, axis1=1, axis2=2).mean(axis=1))


def test_alpha_and_the_slots_of_external_memory() -> None:
    model = agent("dnc", fusion="gate", n_slots=6, n_reads=2)
    trace = trace_episode(model, episode_of(model), 10)
    assert trace.alpha.shape == (10, 8) and (trace.alpha > 0).all() and (trace.alpha < 1).all()
    read, written = trace.slots["memory.reading"], trace.slots["memory.writing"]
    assert read.shape == (2, 10, 6) and written.shape == (1, 10, 6)
    before, after = stepped(model.q_net.memory, episode_of(model).features[:10].unsqueeze(0))
    np.testing.assert_allclose(written[0], np.concatenate([state[6] for state in after]), atol=1e-6)
    assert list(trace.state_norms)[:3] == ["h", "c", "memory"] and len(before) == 10


def test_norms_are_those_of_the_states_and_start_anew() -> None:
    model = agent("lstm")
    trace = trace_episode(model, episode_of(model, (0, 5)), 100)
    fresh = episode_of(model)._replace(features=episode_of(model).features[5:], starts=np.arange(T - 5) == 0)
    alone: EpisodeTrace = trace_episode(model, fresh, 100)
    np.testing.assert_allclose(trace.state_norms["h"][5:], alone.state_norms["h"], rtol=1e-5)
    _, after = stepped(model.q_net.memory, episode_of(model).features[:5].unsqueeze(0))
    np.testing.assert_allclose(trace.state_norms["c"][:5], [float(state[1].norm()) for state in after], rtol=1e-5)


def test_gaps_of_episodes_that_were_played() -> None:
    model = agent("lstm")
    model.burn_in = T  # as long as the whole past: nothing is missing
    episodes = [episode_of(model), episode_of(model, (0, 5))]
    with th.no_grad():
        gaps = state_gaps(model, model.get_env(), episodes, 100, np.random.default_rng(0))
    stored, zero, burnt = gaps.gaps
    assert gaps.n_sequences == 2 * T - 3 and gaps.source == "the episodes played for this report"
    assert max(stored.first, stored.last, burnt.first, burnt.last) < 1e-5 < 1e-2 < zero.first
    model.burn_in = 2
    with th.no_grad():
        *_, less = state_gaps(model, model.get_env(), episodes, 100, np.random.default_rng(0)).gaps
    assert less.state == "zero state, then 2 steps of burn-in" and 0 < less.first < zero.first


@pytest.mark.parametrize("state_init", ["stored", "zero"])
def test_gaps_of_the_replay_buffer_are_what_training_logs(state_init: str) -> None:
    model = make_learner(learning_rate=0.05, state_init=state_init)
    model.learn(200)
    env = make_world()
    with undisturbed(model, env), th.no_grad():
        gaps = state_gaps(model, env, [], 32, np.random.default_rng(0))
        again = state_gaps(model, env, [], 32, np.random.default_rng(0))
        batch = model.replay_buffer.sample(32)  # the generator stands where it stood
        model._record_delta_q(batch)
    logged = model.logger.name_to_value
    assert gaps == again and gaps.source == "the replay buffer" and gaps.n_sequences == 32
    in_training = gaps.gaps[0]
    assert in_training.state == f"{state_init} state, then 2 steps of burn-in"
    assert in_training.first == pytest.approx(logged["train/delta_q_first"], rel=1e-5)
    assert in_training.last == pytest.approx(logged["train/delta_q_last"], rel=1e-5)
    assert len(gaps.gaps) == (3 if state_init == "stored" else 2) and gaps.gaps[-1].state == "zero state"
    assert gaps.gaps[-1].first > in_training.first > 0


def test_gaps_of_windows_of_one_step_some_of_which_hold_a_final_observation_alone() -> None:
    model = make_learner(sequence_length=1, burn_in=0, n_steps=1, learning_starts=10**9)
    model.learn(200)
    assert not model.replay_buffer.sample(64).learning.any(dim=1).all()
    with th.no_grad():
        gaps = state_gaps(model, make_world(), [], 640, np.random.default_rng(0))
    assert all(np.isfinite([gap.first, gap.last]).all() for gap in gaps.gaps)


def test_gaps_leave_the_draws_of_older_data_as_they_were() -> None:
    model = make_learner(learning_starts=10**9)
    model.learn(60)
    keep_old_data(model, 0.5)
    model.learn(60)
    before = [part.rng.bit_generator.state for part in model.replay_buffer.parts]
    with th.no_grad():
        state_gaps(model, make_world(), [], 32, np.random.default_rng(0))
    assert [part.rng.bit_generator.state for part in model.replay_buffer.parts] == before
