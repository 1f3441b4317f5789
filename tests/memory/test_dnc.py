"""The differentiable neural computer: its parts by hand, one step by the paper, and what it records."""

import pytest
import torch as th

from sb3_attnmem.attention import record_attention
from sb3_attnmem.memory import DNCMemory
from sb3_attnmem.memory import dnc as module
from sb3_attnmem.memory.dnc import DNCState, allocation, by_similarity

N, W, R, H, D = 4, 3, 2, 5, 2


@pytest.fixture(name="memory")
def _memory() -> DNCMemory:
    th.manual_seed(0)
    return DNCMemory(D, H, n_slots=N, slot_size=W, n_reads=R).double()


def test_allocation_by_hand() -> None:
    # Slot 2 is free: it gets all. Then the emptiest, slot 1, gets 1 - 0.25 and slot 0 0.25 * (1 - 0.5)
    got = allocation(th.tensor([[0.5, 0.25, 0.0], [0.5, 0.25, 1.0]]))
    th.testing.assert_close(got, th.tensor([[0.0, 0.0, 1.0], [0.125, 0.75, 0.0]]), atol=2e-3, rtol=0)


def test_equal_slots_are_taken_in_order_whatever_the_rounding() -> None:
    noise = 1e-7 * th.rand(50, N)
    assert (allocation(0.2 + noise).argmax(dim=1) == 0).all()
    assert allocation(th.zeros(1, N)).argmax() == 0


def test_similarity_finds_the_slot_that_resembles_the_key() -> None:
    slots = th.tensor([[[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, 0.0]]])
    weights = by_similarity(slots, th.tensor([[[0.0, 0.1]]]), th.tensor([[[50.0]]]))
    assert weights.argmax() == 1 and weights[0, 0, 1] > 0.99


def one_step_by_the_paper(memory: DNCMemory, x: th.Tensor, old: DNCState) -> DNCState:
    """Graves et al. (2016), Methods, for one environment (no batch), slot by slot."""
    reads = old.read @ old.memory
    h, c = memory.controller(th.cat([x, reads.flatten()])[None], (old.h[None], old.c[None]))
    h, c = h[0], c[0]
    keys, write_key, erase, vector, strengths, gates, modes = memory.to_interface(h).split(memory.interface_sizes)
    keys, modes = keys.view(R, W), modes.view(R, 3).softmax(-1)
    strengths = 1 + th.log1p(strengths.exp())
    gates = gates.sigmoid()
    free, g_a, g_w = gates[:R], gates[R], gates[R + 1]

    def content(m: th.Tensor, key: th.Tensor, strength: th.Tensor) -> th.Tensor:
        eps = module.SOFTENING
        cosines = [(row @ key) / ((row @ row + eps).sqrt() * (key @ key + eps).sqrt()) for row in m]
        return (strength * th.stack(cosines)).softmax(-1)

    psi = th.stack([th.prod(th.stack([1 - free[r] * old.read[r, i] for r in range(R)])) for i in range(N)])
    usage = (old.usage + old.written - old.usage * old.written) * psi
    raised = usage * (1 - module.SOFTENING) + module.SOFTENING
    order = sorted(range(N), key=lambda i: (round(usage[i].item() / module.COARSE), i))
    a = th.zeros(N, dtype=x.dtype)
    for place, slot in enumerate(order):
        a[slot] = (1 - raised[slot]) * th.prod(raised[order[:place]])
    written = g_w * (g_a * a + (1 - g_a) * content(old.memory, write_key, strengths[R]))
    new = old.memory * (1 - th.outer(written, erase.sigmoid())) + th.outer(written, vector)

    links = th.zeros(N, N, dtype=x.dtype)
    for i in range(N):
        for j in range(N):
            if i != j:
                links[i, j] = (1 - written[i] - written[j]) * old.links[i, j] + written[i] * old.precedence[j]
    precedence = (1 - written.sum()) * old.precedence + written
    read = th.stack(
        [
            modes[r, 0] * (links.T @ old.read[r])
            + modes[r, 1] * content(new, keys[r], strengths[r])
            + modes[r, 2] * (links @ old.read[r])
            for r in range(R)
        ]
    )
    return DNCState(h, c, new, usage, links, precedence, written, read)


def check_steps(memory: DNCMemory) -> None:
    features = th.randn(1, 6, D, dtype=th.float64)
    state = memory.initial_state(1)
    expected = DNCState(*(tensor[0] for tensor in state))
    for x in features.unbind(1):
        _, state = memory(x.unsqueeze(1), state, th.zeros(1, 1, dtype=th.bool))
        expected = one_step_by_the_paper(memory, x[0], expected)
        for name, got, wanted in zip(DNCState._fields, state, expected, strict=True):
            th.testing.assert_close(got[0], wanted, msg=lambda text, name=name: f"{name}: {text}")


def test_steps_are_those_of_the_paper(memory: DNCMemory) -> None:
    check_steps(memory)


def test_links_turned_round_are_caught(memory: DNCMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    class Swapped(DNCState):
        @property
        def links(self) -> th.Tensor:  # type: ignore[override]
            return self[4].transpose(1, 2)

    monkeypatch.setattr(module, "DNCState", Swapped)
    with pytest.raises(AssertionError, match=r"links|read"):
        check_steps(memory)


def test_weights_never_exceed_one(memory: DNCMemory) -> None:
    features = 10.0 * th.randn(3, 40, D, dtype=th.float64)
    _, state = memory(features, memory.initial_state(3), th.rand(3, 40) < 0.1)
    now = DNCState(*state)
    for weights in (now.written, now.read, now.usage, now.precedence, now.links):
        assert (weights >= 0).all() and (weights <= 1 + 1e-9).all()
    assert (now.read.sum(-1) <= 1 + 1e-9).all() and (now.written.sum(-1) <= 1 + 1e-9).all()


@pytest.mark.parametrize("n_steps", [1, 7])
def test_reads_and_writes_are_recorded(memory: DNCMemory, n_steps: int) -> None:
    features = th.randn(3, n_steps, D, dtype=th.float64)
    with record_attention(memory) as record:
        _, state = memory(features, memory.initial_state(3), th.zeros(3, n_steps, dtype=th.bool))
    assert record["reading"].shape == (3, R, n_steps, N) and record["writing"].shape == (3, 1, n_steps, N)
    th.testing.assert_close(record["reading"][:, :, -1], DNCState(*state).read)
    th.testing.assert_close(record["writing"][:, 0, -1], DNCState(*state).written)
