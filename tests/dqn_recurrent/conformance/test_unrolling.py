"""
Conformance 3 (inside a sequence), 6 and 9: resets, burn-in and padding, against networks stepped one step at a time.

After the experience was made both networks are changed, each in its own way, so that the stored states, the online
network's and the target network's are three different things.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch as th
from torch.overrides import TorchFunctionMode

from sb3_attnmem import RecurrentDQN, RecurrentQRDQN, SequenceReplayBuffer
from sb3_attnmem.dqn_recurrent.q_network import RecurrentQNetwork
from sb3_attnmem.dqn_recurrent.quantile_loss import quantile_huber_loss
from sb3_attnmem.memory import MemoryState
from sb3_attnmem.replay import SequencePart, SequenceSamples
from tests.dqn_recurrent.conformance.reference import (
    check_rows,
    check_targets,
    check_update,
    every_window,
    experienced,
)
from tests.ledger import LSTM, MEMORY_KWARGS, Recorder, make_env, make_model, place_of

LENGTHS = ((5, 3), (17,), (1, 2, 30))
UPDATE = "sb3_attnmem.dqn_recurrent.update"


def make(
    model_class: type[RecurrentDQN] = RecurrentDQN, memory: str = "lstm", **kwargs: Any
) -> Callable[[], tuple[RecurrentDQN, Recorder]]:
    """:return: makes the model and its environment; the learning rate is 0, so that updates can be looked at"""

    def build() -> tuple[RecurrentDQN, Recorder]:
        env = make_env(LENGTHS)
        options = dict(sequence_length=8, burn_in=4, n_steps=3, learning_rate=0.0, policy_kwargs=MEMORY_KWARGS[memory])
        return make_model(env, model_class, **{**options, **kwargs}), env  # type: ignore[arg-type]

    return build


SHAPES: dict[str, dict[str, Any]] = {
    "burn-in and 3 steps": {},
    "no burn-in": dict(burn_in=0),
    "long burn-in": dict(sequence_length=4, burn_in=16),
    "full ring": dict(buffer_size=40 * 3, replay_buffer_kwargs=dict(state_interval=2)),
    "odd": dict(sequence_length=7, burn_in=3, n_steps=2, buffer_size=33 * 3),
    "one step": dict(sequence_length=1, burn_in=2, n_steps=1),
}


@pytest.mark.parametrize(
    ("shape", "memory", "model_class"),
    [
        *[(shape, memory, RecurrentDQN) for shape in SHAPES for memory in MEMORY_KWARGS],
        # Of quantiles, what differs is behind the memory
        ("burn-in and 3 steps", "lstm", RecurrentQRDQN),
        ("full ring", "gru", RecurrentQRDQN),
        ("odd", "none", RecurrentQRDQN),
        ("one step", "sum", RecurrentQRDQN),
    ],
)
def test_q_values_targets_loss_and_gradient(shape: str, memory: str, model_class: type[RecurrentDQN]) -> None:
    model, env, states = experienced(make(model_class, memory=memory, **SHAPES[shape]))
    batch = model.replay_buffer.sample(12)  # type: ignore[union-attr]
    check_rows(batch, env.episodes, model.sequence_length)
    check_targets(model, env.episodes, states, batch)
    check_update(model, batch, env.episodes, states)


def test_the_batches_above_hold_what_is_to_be_tested() -> None:
    """Padding, episodes that start inside the window and inside burn-in, windows that the ring's edge cuts."""
    model, _, _ = experienced(make(**SHAPES["full ring"]))
    batch = every_window(model)
    assert batch.burn_in is not None
    assert (~batch.window.present).any() and (~batch.burn_in.present).any()
    assert batch.window.episode_starts[:, 1:].any() and batch.burn_in.episode_starts.any()
    assert (batch.learning.sum(dim=1) < model.sequence_length).any()
    assert not batch.burn_in.present.any(dim=1).all(), "some rows have no burn-in"


# Planted mistakes: items 3 and 6


class DeafInTheWindow(SequenceReplayBuffer):
    """Planted: the memory runs on through an episode's start inside a window."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        batch = super().sample(*args, **kwargs)
        window = batch.window._replace(episode_starts=th.zeros_like(batch.window.episode_starts))
        return batch._replace(window=window)


class DeafInBurnIn(SequenceReplayBuffer):
    """Planted: the same in burn-in."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        batch = super().sample(*args, **kwargs)
        assert batch.burn_in is not None
        burn_in = batch.burn_in._replace(episode_starts=th.zeros_like(batch.burn_in.episode_starts))
        return batch._replace(burn_in=burn_in)


class ZeroStates(SequenceReplayBuffer):
    """Planted: windows begin from zero states, as in DRQN's "random updates"."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        batch = super().sample(*args, **kwargs)
        return batch._replace(state=tuple(th.zeros_like(tensor) for tensor in batch.state))


class NeighboursStates(SequenceReplayBuffer):
    """Planted: the environments' states are mixed up."""

    def stage_state(self, state: MemoryState) -> None:
        super().stage_state(tuple(tensor.roll(1, dims=0) for tensor in state))


class BurnInForgotten(SequenceReplayBuffer):
    """Planted: the window begins from the state that is stored for the beginning of burn-in."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        return super().sample(*args, **kwargs)._replace(burn_in=None)


@pytest.mark.parametrize("planted", [DeafInTheWindow, DeafInBurnIn, ZeroStates, NeighboursStates, BurnInForgotten])
def test_wrong_states_and_resets_are_caught(planted: type[SequenceReplayBuffer]) -> None:
    model, env, states = experienced(make(replay_buffer_class=planted))
    with pytest.raises(AssertionError):
        check_targets(model, env.episodes, states, every_window(model))


def burns_in_with_the_online_network(model: RecurrentDQN) -> None:
    """Planted: the online network's burnt-in state also starts the target network."""
    model.q_net_target.burn_in = model.q_net.burn_in  # type: ignore[method-assign]


def target_starts_from_the_stored_state(model: RecurrentDQN) -> None:
    """Planted: only the online network burns in."""
    model.q_net_target.burn_in = lambda part, state: state  # type: ignore[method-assign]


def target_sees_single_steps(model: RecurrentDQN) -> None:
    """Planted: the target network gets each observation as if it were an episode's first."""
    unroll = model.q_net_target.unroll
    model.q_net_target.unroll = lambda part, state: unroll(  # type: ignore[method-assign]
        part._replace(episode_starts=th.ones_like(part.episode_starts)), state
    )


def rows_without_burn_in_are_burnt(model: RecurrentDQN) -> None:
    """Planted: a row without burn-in gets the state that a run over its padding leaves."""

    def burn_in(part: SequencePart | None, state: MemoryState) -> MemoryState:
        if part is None:
            return state
        with th.no_grad():
            return model.q_net.memory.advance(model.q_net._lay_out(part), state, part.episode_starts)

    model.q_net.burn_in = burn_in  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "plant",
    [
        burns_in_with_the_online_network,
        target_starts_from_the_stored_state,
        target_sees_single_steps,
        rows_without_burn_in_are_burnt,
    ],
)
def test_wrong_burn_in_is_caught(plant: Callable[[RecurrentDQN], None]) -> None:
    model, env, states = experienced(make(**SHAPES["full ring"]))
    plant(model)
    with pytest.raises(AssertionError):
        check_targets(model, env.episodes, states, every_window(model))


@pytest.mark.parametrize("memory", ["lstm", "sum"])
def test_a_gradient_through_burn_in_is_caught(memory: str) -> None:
    model, env, states = experienced(make(memory=memory))

    def burn_in(part: SequencePart | None, state: MemoryState) -> MemoryState:
        """Planted: burn-in without ``no_grad``."""
        assert part is not None
        burnt = model.q_net.memory.advance(model.q_net._lay_out(part), state, part.episode_starts)
        warmed = part.present.any(dim=1)
        return tuple(
            th.where(warmed.view(-1, *[1] * (old.dim() - 1)), new, old) for new, old in zip(burnt, state, strict=True)
        )

    model.q_net.burn_in = burn_in  # type: ignore[method-assign]
    batch = every_window(model)
    check_targets(model, env.episodes, states, batch)  # the values are right, the gradient is not
    with pytest.raises(AssertionError):
        check_update(model, batch, env.episodes, states)


# Item 9: padding


def mean_over_padding(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """Planted: padding and look-ahead count in the denominator."""
    return values.masked_fill(~mask, 0.0).mean()


def mean_with_padding(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """Planted: padding and look-ahead enter the loss and the logs."""
    return values.mean()


def mean_of_row_means(values: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """Planted: a transition weighs more in a row that has few."""
    return (values.masked_fill(~mask, 0.0).sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()


@pytest.mark.parametrize("model_class", [RecurrentDQN, RecurrentQRDQN])
@pytest.mark.parametrize("planted", [mean_over_padding, mean_with_padding, mean_of_row_means])
def test_padding_in_the_loss_is_caught(
    planted: Callable[..., th.Tensor], model_class: type[RecurrentDQN], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, env, states = experienced(make(model_class, **SHAPES["full ring"]))
    monkeypatch.setattr(f"{UPDATE}.masked_mean", planted)
    with pytest.raises(AssertionError):
        check_update(model, every_window(model), env.episodes, states)


def swapped_sides(quantiles: th.Tensor, samples: th.Tensor, kappa: float) -> th.Tensor:
    """Planted: quantile i belongs to 1 - τ_i."""
    return quantile_huber_loss(quantiles.flip(1), samples, kappa)


def sum_over_samples(quantiles: th.Tensor, samples: th.Tensor, kappa: float) -> th.Tensor:
    """Planted: the samples are summed instead of averaged."""
    return quantile_huber_loss(quantiles, samples, kappa) * samples.shape[1]


def first_sample_only(quantiles: th.Tensor, samples: th.Tensor, kappa: float) -> th.Tensor:
    """Planted: all quantiles see the first sample only."""
    return quantile_huber_loss(quantiles, samples[:, :1], kappa)


def without_end(quantiles: th.Tensor, samples: th.Tensor, kappa: float) -> th.Tensor:
    """Planted: the loss is squared everywhere."""
    return quantile_huber_loss(quantiles, samples, float("inf"))


@pytest.mark.parametrize("planted", [swapped_sides, sum_over_samples, first_sample_only, without_end])
def test_wrong_quantile_losses_are_caught(planted: Callable[..., th.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    model, env, states = experienced(make(RecurrentQRDQN))
    monkeypatch.setattr(f"{UPDATE}.quantile_huber_loss", planted)
    with pytest.raises(AssertionError):
        check_update(model, every_window(model), env.episodes, states)


class LearnsFromLookAhead(SequenceReplayBuffer):
    """Planted: the steps that targets look ahead to learn as well."""

    def sample(self, *args: Any, **kwargs: Any) -> SequenceSamples:
        batch = super().sample(*args, **kwargs)
        return batch._replace(learning=batch.transitions)


def test_learning_outside_the_learning_part_is_caught() -> None:
    model, env, _ = experienced(make(replay_buffer_class=LearnsFromLookAhead))
    with pytest.raises(AssertionError):
        check_rows(every_window(model), env.episodes, model.sequence_length)


def check_frames(model: RecurrentDQN) -> None:
    """Each network encodes each frame of burn-in and window once, and no padding."""
    batch = every_window(model)
    assert batch.burn_in is not None
    n_frames = int(batch.burn_in.present.sum() + batch.window.present.sum())
    assert n_frames < batch.burn_in.present.numel() + batch.window.present.numel()
    seen: dict[RecurrentQNetwork, int] = {model.q_net: 0, model.q_net_target: 0}
    handles = []
    for q_net in seen:

        def count(_: Any, inputs: tuple[th.Tensor], q_net: RecurrentQNetwork = q_net) -> None:
            for frame in inputs[0]:
                place_of(frame)  # asserts that it is one of the ledger's
            seen[q_net] += len(inputs[0])

        handles.append(q_net.features_extractor.register_forward_pre_hook(count))
    model._q_and_targets(batch)
    for handle in handles:
        handle.remove()
    assert list(seen.values()) == [n_frames, n_frames]


@pytest.mark.parametrize("memory", ["lstm", "none"])
def test_padding_is_not_encoded(memory: str) -> None:
    model, _, _ = experienced(make(memory=memory))
    check_frames(model)


def test_encoded_padding_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lay_out(self: RecurrentQNetwork, part: SequencePart) -> th.Tensor:
        """Planted: zeros are laid out first, and encoded like frames."""
        assert isinstance(part.observations, th.Tensor)
        frames = part.observations.new_zeros(part.present.numel(), 4).index_copy(0, part.position, part.observations)
        return self.encode(frames).view(*part.present.shape, -1)

    model, env, states = experienced(make())
    monkeypatch.setattr(RecurrentQNetwork, "_lay_out", lay_out)
    check_targets(model, env.episodes, states)  # the values are right, the work is not
    with pytest.raises(AssertionError):
        check_frames(model)


class CountKernels(TorchFunctionMode):
    """Counts the calls of recurrent kernels and cells."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.startswith(("lstm", "gru")):
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("shape", ["burn-in and 3 steps", "long burn-in", "full ring"])
def test_a_few_kernel_calls_whatever_the_length(shape: str) -> None:
    """
    Never a Python loop over time, also where episodes are short or end inside the window: per network one call for
    the window, and for burn-in one for the rows that an episode's start interrupts and one for the others.
    """
    model, _, _ = experienced(make(policy_kwargs=LSTM, **SHAPES[shape]))
    batch = every_window(model)
    with CountKernels() as burn_in:
        model.q_net.burn_in(batch.burn_in, batch.state)
    with CountKernels() as window:
        model.q_net.unroll(batch.window, batch.state)
    with CountKernels() as both:
        model._q_and_targets(batch)
    assert burn_in.calls in (["lstm"], ["lstm"] * 2)
    assert window.calls == ["lstm"]
    assert both.calls == 2 * [*burn_in.calls, *window.calls]
