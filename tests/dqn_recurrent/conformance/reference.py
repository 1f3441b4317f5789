"""
What a batch of replayed windows must mean, worked out one step at a time from what the environments told.

Nothing here reads the replay buffer's layout: frames say where they belong, the recorder knows what happened there.
Values are N quantiles each, of which an agent that learns means has one. Letters: A actions.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch as th

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN
from sb3_attnmem.dqn_recurrent import RecurrentQNetwork, RecurrentQuantileNetwork
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequencePart, SequenceSamples
from tests.ledger import Episode, Place, Recorder, place_of

Episodes = dict[tuple[int, int], Episode]
States = dict[Place, MemoryState]


def watch_acting(model: RecurrentDQN, states: States | None = None) -> States:
    """
    Write down the state that the acting network has before each observation.

    :param states: where to
    :return: filled as the model acts
    """
    states = {} if states is None else states
    step = model.q_net.step

    def watched(observations: Any, state: MemoryState, starts: th.Tensor) -> Any:
        for row, frame in enumerate(observations):
            states[place_of(frame)] = tuple(tensor[row].clone() for tensor in state)
        return step(observations, state, starts)

    model.q_net.step = watched  # type: ignore[method-assign]
    return states


class EveryWindow:
    """Stands in for the buffer's generator: where that draws one of n windows, this hands out each of the n once."""

    def integers(self, high: int, size: int) -> np.ndarray:
        return np.arange(high)


def every_window(model: RecurrentDQN) -> SequenceSamples:
    """:return: a batch that holds each of the equally likely windows once"""
    buffer = model.replay_buffer
    assert buffer is not None
    generator, buffer.rng = buffer.rng, EveryWindow()  # type: ignore[assignment]
    try:
        return buffer.sample(1)
    finally:
        buffer.rng = generator


def places(part: SequencePart | None, n_rows: int) -> list[list[Place | None]]:
    """:return: (B, T) where each frame of a batch was made, None where there is none"""
    if part is None:
        return [[] for _ in range(n_rows)]
    flat: list[Place | None] = [None] * part.present.numel()
    for position, frame in zip(part.position.tolist(), part.observations, strict=True):
        flat[position] = place_of(frame)
    width = part.present.shape[1]
    table = [flat[row * width : (row + 1) * width] for row in range(part.present.shape[0])]
    assert [[place is not None for place in row] for row in table] == part.present.tolist()
    return table


def rows(batch: SequenceSamples) -> Iterator[tuple[list[Place], list[Place | None]]]:
    """:return: for each row the frames of its burn-in, and its window column by column"""
    n_rows = len(batch.learning)
    for burnt, window in zip(places(batch.burn_in, n_rows), places(batch.window, n_rows), strict=True):
        yield [place for place in burnt if place is not None], window


def pieces(burnt: list[Place], window: list[Place | None]) -> list[list[Place]]:
    """:return: what a row holds of each episode, in order"""
    result: list[list[Place]] = []
    for place in [*burnt, *window]:
        if place is None:
            continue
        if result and result[-1][-1][:2] == place[:2]:
            result[-1].append(place)
        else:
            result.append([place])
    return result


def learned(batch: SequenceSamples) -> Counter[Place]:
    """:return: how often each transition is in the learning part"""
    counts: Counter[Place] = Counter()
    for row, (_, window) in enumerate(rows(batch)):
        counts.update(place for c, place in enumerate(window) if place is not None and batch.learning[row, c])
    return counts


def check_rows(batch: SequenceSamples, episodes: Episodes, sequence_length: int) -> None:
    """
    Rows are made of consecutive frames; all but a row's first episode begin at their beginning; flags, actions and
    rewards are what happened; nothing learns beyond ``sequence_length`` columns.
    """
    for row, (burnt, window) in enumerate(rows(batch)):
        for number, piece in enumerate(pieces(burnt, window)):
            steps = [place.step for place in piece]
            assert steps == list(range(steps[0], steps[0] + len(steps))), f"frames {piece} are not consecutive"
            assert number == 0 or steps[0] == 0, f"an episode begins in the middle: {piece}"
        assert not batch.learning[row, sequence_length:].any()
        for column, place in enumerate(window):
            acted = place is not None and place.step < len(episodes[place[:2]].actions)
            assert bool(batch.transitions[row, column]) == acted
            assert not batch.learning[row, column] or acted
            if not acted or place is None:
                continue
            episode = episodes[place[:2]]
            assert int(batch.actions[row, column]) == episode.actions[place.step]
            np.testing.assert_allclose(float(batch.rewards[row, column]), episode.rewards[place.step], rtol=1e-6)
            last = place.step == len(episode.actions) - 1
            assert bool(batch.terminals[row, column]) == (last and episode.end == "terminated")
            assert bool(batch.window.episode_starts[row, column]) == (place.step == 0)


def unroll(
    q_net: RecurrentQNetwork, episode: Episode, first: Place, last_step: int, n_burn: int, states: States
) -> dict[int, th.Tensor]:
    """
    :param n_burn: steps that carry no gradient
    :param states: the acting network's, for a ``first`` that is not the beginning of its episode
    :return: where gradients are asked for, with them, the values of each step from ``first`` to ``last_step``, (N, A)
    """
    state = q_net.memory.initial_state(1)
    if first.step > 0:
        state = tuple(tensor.unsqueeze(0) for tensor in states[first])
    values = {}
    wanted = th.is_grad_enabled()
    for step in range(first.step, last_step + 1):
        with th.set_grad_enabled(wanted and step - first.step >= n_burn):
            frame = th.as_tensor(episode.frames[step]).unsqueeze(0)
            start = th.zeros(1, dtype=th.bool)
            if isinstance(q_net, RecurrentQuantileNetwork):
                q_values, state = q_net.step_quantiles(frame, state, start)
            else:  # not the method of this network: acting is watched there
                q_values, state = RecurrentQNetwork.step(q_net, frame, state, start)
        values[step] = q_values[0].reshape(-1, q_values.shape[-1])
    return values


def rescale(x: float) -> float:
    return float(np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x)


def unscale(x: float) -> float:
    return float(np.sign(x) * (((np.sqrt(1 + 4e-3 * (abs(x) + 1 + 1e-3)) - 1) / 2e-3) ** 2 - 1))


def reference(
    model: RecurrentDQN,
    batch: SequenceSamples,
    episodes: Episodes,
    states: States,
    valid_at: Callable[[Place], np.ndarray] | None = None,
) -> dict[tuple[int, int], tuple[th.Tensor, list[float]]]:
    """
    :param valid_at: (A,) bool, the valid actions at a place; None: all are everywhere
    :return: for each (row, column) that learns, the value of the action taken, (N,), and its N targets
    """
    answers: dict[tuple[int, int], tuple[th.Tensor, list[float]]] = {}
    unrolled: dict[tuple[Place, int, int], list[dict[int, th.Tensor]]] = {}
    for row, (burnt, window) in enumerate(rows(batch)):
        columns = {place: column for column, place in enumerate(window) if place is not None}
        for number, piece in enumerate(pieces(burnt, window)):
            assert number == 0 or piece[0].step == 0, f"an episode begins in the middle: {piece}"
            learning = [place for place in piece if place in columns and batch.learning[row, columns[place]]]
            if not learning:
                continue
            episode = episodes[piece[0][:2]]
            n_acted = len(episode.actions)
            last_step = min(learning[-1].step + model.n_steps, n_acted)
            n_burn = sum(place not in columns for place in piece)
            stretch = piece[0], last_step, n_burn
            if stretch not in unrolled:  # many rows go through the same short episode
                unrolled[stretch] = [
                    unroll(q_net, episode, *stretch, states) for q_net in (model.q_net, model.q_net_target)
                ]
            q_online, q_target = unrolled[stretch]
            means = {step: values.detach().mean(dim=0) for step, values in q_online.items()}
            picking_means = means if model.double_q else {step: values.mean(dim=0) for step, values in q_target.items()}
            for place in learning:
                result, k = 0.0, 0
                while k < model.n_steps and place.step + k < n_acted:
                    there = means[place.step + k]
                    if k > 0 and there[episode.actions[place.step + k]] < there.max() - model.watkins_tolerance:
                        break
                    result += model.gamma**k * episode.rewards[place.step + k]
                    k += 1
                end = place.step + k
                samples = [0.0] * len(q_target[end])
                if not (episode.end == "terminated" and end == n_acted):
                    picking = picking_means[end]
                    if valid_at is not None:
                        picking = th.where(th.as_tensor(valid_at(Place(*place[:2], end))), picking, -th.inf)
                    best = picking.argmax()
                    samples = q_target[end][:, best].tolist()
                if model.value_rescaling:
                    targets = [rescale(result + model.gamma**k * unscale(sample)) for sample in samples]
                else:
                    targets = [result + model.gamma**k * sample for sample in samples]
                answers[row, columns[place]] = q_online[place.step][:, episode.actions[place.step]], targets
    return answers


def loss_of(model: RecurrentDQN, values: th.Tensor, targets: list[float]) -> th.Tensor:
    """:return: half the squared error, or the quantile Huber loss: each quantile against each target"""
    if not isinstance(model, RecurrentQRDQN):
        return 0.5 * (values[0] - targets[0]).square()
    errors = th.tensor(targets) - values.unsqueeze(1)  # row i: of quantile i
    huber = th.where(errors.abs() <= 1, 0.5 * errors.square(), errors.abs() - 0.5)
    tau = ((th.arange(len(values)) + 0.5) / len(values)).unsqueeze(1)
    return (th.where(errors < 0, 1 - tau, tau) * huber).mean(dim=1).sum()


def check_targets(
    model: RecurrentDQN,
    episodes: Episodes,
    states: States,
    batch: SequenceSamples | None = None,
    valid_at: Callable[[Place], np.ndarray] | None = None,
) -> None:
    """The Q-values and targets of a batch are those worked out one step at a time."""
    assert model.replay_buffer is not None
    batch = batch or model.replay_buffer.sample(24)
    with th.no_grad():
        answers = reference(model, batch, episodes, states, valid_at)
    assert answers and set(answers) == {(row, column) for row, column in batch.learning.nonzero().tolist()}
    q_taken, targets, _ = model._q_and_targets(batch)
    for (row, column), (q_value, target) in answers.items():
        np.testing.assert_allclose(q_taken[row, column].detach().view(-1), q_value.detach(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(targets[row, column].view(-1), target, rtol=1e-4, atol=1e-5)


def check_update(model: RecurrentDQN, batch: SequenceSamples, episodes: Episodes, states: States) -> None:
    """
    The loss of a padded batch, its gradient and the logged figures are those of its transitions one by one.
    The model's learning rate must be 0.
    """
    pairs = list(reference(model, batch, episodes, states).values())
    expected = th.stack([loss_of(model, q_value, target) for q_value, target in pairs]).mean()
    parameters = dict(model.q_net.named_parameters())
    gradients = th.autograd.grad(expected, list(parameters.values()), allow_unused=True)

    buffer = model.replay_buffer
    assert buffer is not None
    buffer.sample = lambda *_, **__: batch  # type: ignore[method-assign]
    model.train(1, batch_size=len(batch.learning))
    del buffer.sample
    logged = model.logger.name_to_value
    q_values = np.array([q_value.mean().item() for q_value, _ in pairs])
    targets = np.array([np.mean(target) for _, target in pairs])
    np.testing.assert_allclose(logged["train/loss"], expected.item(), rtol=1e-4)
    np.testing.assert_allclose(logged["train/td_error"], np.abs(targets - q_values).mean(), rtol=1e-4)
    np.testing.assert_allclose(logged["train/q_mean"], q_values.mean(), rtol=1e-4, atol=1e-5)
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        assert parameter.grad is not None, name
        expected_gradient = th.zeros_like(parameter) if gradient is None else gradient
        np.testing.assert_allclose(parameter.grad, expected_gradient, rtol=1e-3, atol=1e-5, err_msg=name)


def disturb(model: RecurrentDQN, seed: int = 7) -> None:
    """
    Change both networks, each in its own way, after the experience was made: now neither is the one that acted.
    """
    generator = th.Generator().manual_seed(seed)
    with th.no_grad():
        for parameter in [*model.q_net.parameters(), *model.q_net_target.parameters()]:
            # Small biases: greedy actions must differ from step to step and between the networks
            parameter += (0.8 if parameter.dim() > 1 else 0.1) * th.randn(parameter.shape, generator=generator)


def experienced(
    make: Callable[[], tuple[RecurrentDQN, Recorder]], n_steps: int = 60
) -> tuple[RecurrentDQN, Recorder, States]:
    """
    :param make: makes the model and its environment
    :param n_steps: steps of each environment
    :return: a model with some experience, what really happened, and the states it acted with
    """
    model, env = make()
    states = watch_acting(model)
    model.learn(n_steps * env.num_envs)
    disturb(model)
    return model, env, states
