"""ΔQ: how far the states that replay begins from put the Q-values out."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_attnmem.dqn_recurrent import RecurrentDQN, RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.metrics import MAX_HISTORY, delta_q
from sb3_attnmem.inspection.memory.played import Moment, PlayedEpisode, burnt_in, draw_moments
from sb3_attnmem.replay import SequenceSamples

#: Sequences that are unrolled at once
BATCH = 32


class StateGap(NamedTuple):
    """
    What one kind of state costs.

    :param state: what the sequences begin from
    :param meaning: of that, in a sentence
    :param first: mean ΔQ at the first learning step
    :param last: mean ΔQ at the last
    """

    state: str
    meaning: str
    first: float
    last: float


class StateGaps(NamedTuple):
    """
    What the states that sequences begin from cost.

    :param gaps: by what the sequences begin from
    :param source: where the sequences come from
    :param n_sequences: their number
    """

    gaps: list[StateGap]
    source: str
    n_sequences: int


def state_gaps(
    model: RecurrentDQN, env: VecEnv, episodes: Sequence[PlayedEpisode], n_sequences: int, rng: np.random.Generator
) -> StateGaps:
    """
    ΔQ of the R2D2 paper, see :func:`sb3_attnmem.dqn_recurrent.metrics.delta_q`: of the replay buffer's sequences, whose
    states are as old as they are, if the model has any; else of sequences of the episodes just played.

    :param model: the agent
    :param env: whose ``VecNormalize``, if it has one, replayed observations pass
    :param episodes: episodes that it played
    :param n_sequences: at most
    :param rng: that draws them
    :return: means over the sequences, an empty list where there are none with a history
    """
    buffer = model.replay_buffer
    if buffer is not None and not buffer.is_empty:
        return _of_buffer(model, env, n_sequences)
    moments = draw_moments(episodes, n_sequences, rng, with_history=True)
    source = "the episodes played for this report"
    if not moments or not model.q_net.memory.initial_state(1):
        return StateGaps([], source, len(moments))
    return StateGaps(_of_episodes(model, episodes, moments), source, len(moments))


def _burnt(state: str, steps: int) -> str:
    return f"{state}, then {steps} steps of burn-in" if steps else state


STORED = "the state that the acting network had, as old as it is in the replay buffer"
ACTING = "the state that acting had: exact, since this agent no longer learns"
ZERO = "the initial state, as if the episode began here"
BURNT = "the initial state, warmed up over the steps before"


def _of_episodes(model: RecurrentDQN, episodes: Sequence[PlayedEpisode], moments: list[Moment]) -> list[StateGap]:
    """:return: stored, zero and burnt-in states; burn-in as in training, or as long as a quarter of a sequence"""
    q_net, steps = model.q_net, model.burn_in or max(model.sequence_length // 4, 1)
    history = max(len(episode.starts) for episode in episodes)
    kinds = {
        "stored state": (ACTING, history),
        "zero state": (ZERO, 0),
        _burnt("zero state", steps): (BURNT, steps),
    }
    found: dict[str, list[th.Tensor]] = {name: [] for name in kinds}
    for begin in range(0, len(moments), BATCH):
        chunk = moments[begin : begin + BATCH]
        features, starts, learning = _sequences(episodes, chunk, model.sequence_length)
        truth = th.zeros(*learning.shape, episodes[0].q_values.shape[1], device=features.device)
        for row, (number, step) in enumerate(chunk):
            n = int(learning[row].sum())
            truth[row, :n] = th.as_tensor(episodes[number].q_values[step : step + n], device=features.device)
        for name, (_, n_steps) in kinds.items():
            state = burnt_in(q_net.memory, episodes, chunk, n_steps)
            latents = q_net.memory.unroll(features, state, starts)
            gaps = delta_q(q_net.head(features, latents), truth, learning)
            found[name].append(th.stack(gaps))
    means = {name: th.cat(parts, dim=1).mean(dim=1).tolist() for name, parts in found.items()}
    return [StateGap(name, meaning, *means[name]) for name, (meaning, _) in kinds.items()]


def _sequences(
    episodes: Sequence[PlayedEpisode], moments: list[Moment], length: int
) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
    """:return: features (N, L, ...), episode starts (N, L) and which steps exist (N, L), from each moment on"""
    spans = [(number, step, min(step + length, len(episodes[number].starts))) for number, step in moments]
    longest = max(end - begin for _, begin, end in spans)
    like = episodes[0].features
    features = like.new_zeros(len(spans), longest, *like.shape[1:])
    starts, present = (th.zeros(len(spans), longest, dtype=th.bool, device=like.device) for _ in range(2))
    for row, (number, begin, end) in enumerate(spans):
        features[row, : end - begin] = episodes[number].features[begin:end]
        starts[row, : end - begin] = th.as_tensor(episodes[number].starts[begin:end])
        present[row, : end - begin] = True
    return features, starts, present


def _of_buffer(model: RecurrentDQN, env: VecEnv, n_sequences: int) -> StateGaps:
    """:return: what replay really begins from, and what it could begin from"""
    buffer = model.replay_buffer
    assert buffer is not None
    q_net, normalize = model.q_net, unwrap_vec_normalize(env) or model.get_vec_normalize_env()
    found: dict[str, list[th.Tensor]] = {}
    meanings: dict[str, str] = {}
    n = 0
    generators = [deepcopy(part.rng) for part in buffer.parts]
    try:
        while n < n_sequences:
            batch = buffer.sample(BATCH, env=normalize)
            truth = buffer.read_with_history(batch.drawn, MAX_HISTORY, normalize)
            zero = q_net.memory.initial_state(BATCH)
            kinds = {_burnt("zero state", model.burn_in): (BURNT, zero, batch.burn_in)} if model.burn_in else {}
            kinds["zero state"] = (ZERO, zero, None)
            begin = zero
            if model.state_init == "stored":
                begin = truth.state
                kinds = {_burnt("stored state", model.burn_in): (STORED, batch.state, batch.burn_in), **kinds}
            q_true = _unroll(q_net, truth, begin, truth.burn_in)
            # A window may hold no more than an episode's final observation
            there = batch.learning.any(dim=1)
            for name, (meaning, state, burn_in) in kinds.items():
                q_values = _unroll(q_net, batch, state, burn_in)
                gaps = delta_q(q_values[there], q_true[there], batch.learning[there])
                found.setdefault(name, []).append(th.stack(gaps))
                meanings[name] = meaning
            n += BATCH
    finally:
        for part, generator in zip(buffer.parts, generators, strict=True):
            part.rng = generator
    means = {name: th.cat(parts, dim=1).mean(dim=1).tolist() for name, parts in found.items()}
    return StateGaps([StateGap(name, meanings[name], *means[name]) for name in means], "the replay buffer", n)


def _unroll(
    q_net: RecurrentQNetwork, batch: SequenceSamples, state: tuple[th.Tensor, ...], burn_in: object
) -> th.Tensor:
    return q_net.unroll(batch.window, q_net.burn_in(burn_in, state))  # type: ignore[arg-type]
