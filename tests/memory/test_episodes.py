"""Short episodes are run in rows of their own where that saves enough steps, and give the same."""

import pytest
import torch as th

from sb3_attnmem.memory import GRUMemory, LSTMMemory, rnn
from sb3_attnmem.memory.episodes import Episodes, length_of_short_episodes
from sb3_attnmem.memory.rnn import RNNMemory

B, T, D, H = 4, 20, 3, 5


def starts_of(*lengths: list[int]) -> th.Tensor:
    """:return: (B, T) bool, of rows with episodes of these lengths, the last one repeated"""
    starts = th.zeros(len(lengths), T, dtype=th.bool)
    for row, of_row in enumerate(lengths):
        t = 0
        for i in range(T):
            if t < T:
                starts[row, t] = True
            t += of_row[min(i, len(of_row) - 1)]
    return starts


ONE, TWO, THREE, WHOLE, HALF = [1], [2], [3], [T], [*[1] * 10, 10]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([ONE] * 4, 1),  # 4 * 20 steps instead of 4 * 39
        ([TWO] * 4, 2),  # 4 * 20 instead of 4 * 29
        ([THREE] * 4, 0),  # 4 * 26 are not worth it
        ([WHOLE] * 4, 0),
        ([ONE, ONE, WHOLE, WHOLE], 1),  # 2 * 20 and 2 * 20 instead of 4 * 39
        ([HALF] * 4, 1),  # 4 * 10 and 4 * 10 instead of 4 * 30
        ([[1, 2, 4]] * 4, 0),
    ],
)
def test_the_way_with_fewer_steps_is_chosen(rows: list[list[int]], expected: int) -> None:
    assert length_of_short_episodes(starts_of(*rows)) == expected


def test_the_episodes_of_tapes() -> None:
    starts = th.tensor([[False, True, False], [True, True, True]])
    episodes = Episodes.of(starts)
    assert episodes.begins.tolist() == [[True, True, False], [True, True, True]]
    assert episodes.of_step.tolist() == [0, 1, 1, 2, 3, 4] and episodes.age.tolist() == [0, 0, 1, 0, 0, 0]
    assert episodes.length.tolist() == [1, 2, 1, 1, 1] and episodes.row.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("kind", [LSTMMemory, GRUMemory])
@pytest.mark.parametrize("short", [1, 2, 3, T])
def test_latents_and_gradients_are_the_same_either_way(
    kind: type[RNNMemory], short: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    th.manual_seed(0)
    memory = kind(D, H, num_layers=2, layer_norm=True).double()
    features = th.randn(B, T, D, dtype=th.float64, requires_grad=True)
    state = tuple(th.randn_like(tensor).requires_grad_() for tensor in memory.initial_state(B))
    starts = starts_of(ONE, HALF, [2, 1, 3], WHOLE)
    starts[1:, 0] = False  # these go on from the state
    found = []
    for longest in (0, short):
        monkeypatch.setattr(rnn, "length_of_short_episodes", lambda _, longest=longest: longest)
        latents = memory.unroll(features, state, starts)
        loss = (latents * th.linspace(0, 1, latents.numel(), dtype=th.float64).view_as(latents)).sum()
        found.append([latents, *th.autograd.grad(loss, [features, *state, *memory.parameters()])])
    for got, expected in zip(*found, strict=True):
        th.testing.assert_close(got, expected)
