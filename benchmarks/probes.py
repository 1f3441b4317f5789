"""
What each memory learns to hold, and how fast, by plain supervision: no bootstrapping, no exploration, no replay.

- *delay*: repeat the token of 4 steps ago, at every step of 24;
- *recall*: a cue at the first of 100 steps, asked for once, 50 to 99 steps later;
- *far*: a cue at the first step, asked for 500 steps later;
- *reverse*: 52 cards of 4 suits are shown, then asked for in reverse order (popgym's AutoencodeEasy);
- *pairs*: 52 keys, each with one of 4 suits, are shown in random order, then the suit of each key is asked for, in
  another random order (associative recall).

Each figure is the number of updates (32 sequences, Adam 1e-3) until 98 % of the answers of the last ten were right, or
the share that was right after the last update. An encoder of 64 units before, a hidden layer of 64 after the memory.

    python benchmarks/probes.py [--only lstm lru] [--probes delay recall] [--updates 400] [--seeds 0 1]

About 5 minutes for *delay* and *recall* without `dnc` and the memories of 100, which take some minutes each; *far*,
*reverse* and *pairs* take a quarter of a minute to 2 minutes for each memory and seed.
"""

import argparse
from collections import deque
from collections.abc import Callable

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.memory import MEMORIES, BaseMemory

BATCH, WIDTH, N_TOKENS, N_CARDS = 32, 64, 4, 52
Batch = tuple[th.Tensor, th.Tensor, th.Tensor]

#: name -> memory and options; the transformers reach further than both tasks ask for, or not as far, on purpose
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in MEMORIES if MEMORIES[name].reads == "vector"},
    "lstm": ("lstm", dict(horizon=None)),
    "gru": ("gru", dict(horizon=None)),
    "lstm, horizon 100": ("lstm", dict(horizon=100.0, horizon_share=1.0)),
    "gru, horizon 100": ("gru", dict(horizon=100.0, horizon_share=1.0)),
    "min_gru, 3 layers": ("min_gru", dict(num_layers=3)),
    "lstm, horizon 500": ("lstm", dict(horizon=500.0, horizon_share=1.0)),
    "min_gru, 3 layers, no convolution": ("min_gru", dict(num_layers=3, conv_size=1)),
    "window of 100": ("window", dict(window=100)),
    "gtrxl of 100": ("gtrxl", dict(memory_length=100)),
    # For the tasks with 52 cards
    "lstm of 256": ("lstm", dict(hidden_size=256)),
    "lru of 256": ("lru", dict(hidden_size=256)),
    "shm without positions": ("shm", dict(positions="none")),
    "shm, no convolution": ("shm", dict(conv_size=1)),
    "shm, values of 32": ("shm", dict(value_size=32)),
    "deltanet without positions": ("deltanet", dict(positions="none")),
    "deltanet, no convolution": ("deltanet", dict(conv_size=1)),
    "deltanet, 4 heads": ("deltanet", dict(n_heads=4)),
    "window of 104": ("window", dict(window=104)),
    "window of 104 by step": ("window", dict(window=104, positions="episode")),
    "gtrxl of 104": ("gtrxl", dict(memory_length=104)),
    "gtrxl of 104 by step": ("gtrxl", dict(memory_length=104, positions="episode")),
}


def delay() -> Batch:
    """:return: inputs (B, T, N), what is right (B, T), where it is asked for (B, T) bool"""
    tokens = th.randint(N_TOKENS, (BATCH, 24))
    asked = (th.arange(24) >= 4).expand(BATCH, -1)
    return F.one_hot(tokens, N_TOKENS).float(), tokens.roll(4, dims=1), asked


def recall() -> Batch:
    """:return: as :func:`delay`"""
    rows, cue, when = th.arange(BATCH), th.randint(2, (BATCH,)), th.randint(50, 100, (BATCH,))
    inputs = th.zeros(BATCH, 100, N_TOKENS)
    inputs[rows, 0, cue] = 1.0
    inputs[rows, when, 3] = 1.0
    asked = th.zeros(BATCH, 100, dtype=th.bool)
    asked[rows, when] = True
    return inputs, cue.unsqueeze(1).expand(-1, 100), asked


def far() -> Batch:
    """:return: as :func:`delay`"""
    cue, inputs = th.randint(2, (BATCH,)), th.zeros(BATCH, 501, N_TOKENS)
    inputs[th.arange(BATCH), 0, cue] = 1.0
    inputs[:, -1, 3] = 1.0
    asked = (th.arange(501) == 500).expand(BATCH, -1)
    return inputs, cue.unsqueeze(1).expand(-1, 501), asked


def reverse() -> Batch:
    """:return: as :func:`delay`"""
    cards = th.randint(N_TOKENS, (BATCH, N_CARDS))
    inputs = th.zeros(BATCH, 2 * N_CARDS - 1, N_TOKENS + 1)
    inputs[:, :N_CARDS, :N_TOKENS] = F.one_hot(cards, N_TOKENS).float()
    inputs[:, N_CARDS - 1 :, N_TOKENS] = 1.0  # the last card is asked for as it is shown
    asked = (th.arange(2 * N_CARDS - 1) >= N_CARDS - 1).expand(BATCH, -1)
    return inputs, th.cat([cards[:, :-1], cards.flip(1)], dim=1), asked


def pairs() -> Batch:
    """:return: as :func:`delay`"""
    suits = th.randint(N_TOKENS, (BATCH, N_CARDS))  # of each key
    shown, asked_for = (th.rand(BATCH, N_CARDS).argsort(dim=1) for _ in range(2))
    keys = F.one_hot(th.cat([shown, asked_for], dim=1), N_CARDS).float()  # (B, 2 N, N)
    answers = th.cat([suits.gather(1, shown), suits.gather(1, asked_for)], dim=1)
    asked = (th.arange(2 * N_CARDS) >= N_CARDS).expand(BATCH, -1)
    values = F.one_hot(answers, N_TOKENS).float().masked_fill(asked.unsqueeze(-1), 0.0)
    return th.cat([keys, values], dim=-1), answers, asked


#: name -> what draws a batch, heading of its column
PROBES: dict[str, tuple[Callable[[], Batch], str]] = {
    "delay": (delay, "delay of 4"),
    "recall": (recall, "recall after 50 to 99"),
    "far": (far, "recall after 500"),
    "reverse": (reverse, "52 cards in reverse"),
    "pairs": (pairs, "52 pairs"),
}


class Net(nn.Module):
    """Encoder, memory, head."""

    def __init__(self, n_inputs: int, name: str, options: dict[str, object]) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_inputs, WIDTH), nn.ReLU())
        memory_class: Callable[..., BaseMemory] = MEMORIES[name]
        self.memory = memory_class(WIDTH, **options)
        self.head = nn.Sequential(nn.Linear(self.memory.latent_dim, WIDTH), nn.ReLU(), nn.Linear(WIDTH, N_TOKENS))

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        starts = (th.arange(inputs.shape[1]) == 0).expand(BATCH, -1)
        return self.head(self.memory.unroll(self.encoder(inputs), self.memory.initial_state(BATCH), starts))


def learn(net: Net, draw: Callable[[], Batch], n_updates: int) -> str:
    """:return: the updates it took, or how much was right in the end"""
    optimizer = th.optim.Adam(net.parameters(), lr=1e-3)
    right: deque[float] = deque(maxlen=10)
    for update in range(1, n_updates + 1):
        inputs, answers, asked = draw()
        given = net(inputs)[asked]
        loss = F.cross_entropy(given, answers[asked])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        right.append((given.argmax(dim=-1) == answers[asked]).float().mean().item())
        if len(right) == right.maxlen and sum(right) / len(right) >= 0.98:
            return str(update)
    return f"({sum(right) / len(right):.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--probes", nargs="+", choices=list(PROBES), default=["delay", "recall"])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    th.set_num_threads(1)
    print(f"| memory | {' | '.join(PROBES[probe][1] for probe in args.probes)} |", flush=True)
    print("|---" * (1 + len(args.probes)) + "|", flush=True)
    for name in args.only:
        cells = []
        for probe in args.probes:
            draw = PROBES[probe][0]
            results = []
            for seed in args.seeds:
                th.manual_seed(seed)
                n_inputs = draw()[0].shape[-1]
                th.manual_seed(seed)
                results.append(learn(Net(n_inputs, *VARIANTS[name]), draw, args.updates))
            cells.append(", ".join(results))
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
