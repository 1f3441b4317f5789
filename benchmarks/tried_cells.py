"""
Which memory learns a set: which of 64 cells were tried before, from rewards alone, as popgym's BattleshipEasy asks for.

Random shots, one-hot, 64 a sequence; a shot at a new cell hits with probability 0.19; rewards are of BattleshipEasy
after normalisation, and the loss is that of Q-learning with gamma 0: of the cell that is shot at, nothing else. The
figure is the share of greedy choices that were tried already (after at least 16 shots, means of 100 updates; without
memory 0.45).

    python benchmarks/tried_cells.py [--updates 600] [--only "sums, linear"]

A quarter of a minute a row.
"""

import argparse
import statistics
from collections import deque
from typing import Any, NamedTuple

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.dqn_recurrent.heads import DuelingHead
from sb3_attnmem.memory import MEMORIES

CELLS, BATCH, HIT = 64, 32, 0.19
#: rewards of a hit and of a miss, over their deviation
HIT_REWARD, MISS_REWARD = 2.0, -0.45
SUMS = dict(hidden_size=128, max_phase=0.01, min_radius=0.99, max_radius=0.9999)


class Variant(NamedTuple):
    """
    :param memory: a registered name
    :param kwargs: of the memory
    :param hidden: layers of 128 before the memory, and in the head
    :param learning_rate: falls to 0
    """

    memory: str
    kwargs: dict[str, Any]
    hidden: tuple[bool, bool] = (True, True)
    learning_rate: float = 1e-3


VARIANTS = {
    "lstm": Variant("lstm", {}),
    "deltanet": Variant("deltanet", dict(conv_size=1)),
    "lru": Variant("lru", dict(hidden_size=128)),
    "sums": Variant("lru", SUMS),
    "sums, no layer before": Variant("lru", SUMS, (False, True)),
    "sums, no layer before or after": Variant("lru", SUMS, (False, False)),
    "sums, linear": Variant("lru", dict(**SUMS, glu=False), (False, False)),
    "sums, linear, 3e-3": Variant("lru", dict(**SUMS, glu=False), (False, False), 3e-3),
    "lru, linear, 3e-3": Variant("lru", dict(hidden_size=128, glu=False), (False, False), 3e-3),
}


def tried_again(variant: Variant, updates: int) -> list[float]:
    """:return: the share of greedy choices that were tried already, after each fifth of the updates"""
    th.manual_seed(0)
    before, after = variant.hidden
    encoder: nn.Module = nn.Sequential(nn.Linear(CELLS, 128), nn.ReLU()) if before else nn.Identity()
    memory = MEMORIES[variant.memory](128 if before else CELLS, **variant.kwargs)
    net = nn.ModuleList([encoder, memory, DuelingHead(memory.latent_dim, CELLS, [128] if after else [], nn.ReLU)])
    optimizer = th.optim.Adam(net.parameters(), lr=variant.learning_rate)
    schedule = th.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    starts = (th.arange(CELLS) == 0).expand(BATCH, -1)
    recent: deque[float] = deque(maxlen=100)
    found = []
    for update in range(1, updates + 1):
        shots = th.randint(CELLS, (BATCH, CELLS + 1))
        inputs, actions = F.one_hot(shots[:, :-1], CELLS).float(), shots[:, 1:].unsqueeze(2)
        tried = inputs.cumsum(1).clamp(max=1)
        hits = (th.rand(BATCH, CELLS, 1) < HIT) & (tried.gather(2, actions) == 0)
        rewards = th.where(hits, HIT_REWARD, MISS_REWARD)
        whitened = (inputs - 1 / CELLS) * CELLS**0.5
        q_values = net[2](memory.unroll(encoder(whitened), memory.initial_state(BATCH), starts))
        loss = (q_values.gather(2, actions) - rewards).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        recent.append(tried.gather(2, q_values.argmax(2, keepdim=True))[:, 16:].mean().item())
        if update % max(updates // 5, 1) == 0:
            found.append(statistics.mean(recent))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=600)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    args = parser.parse_args()
    th.set_num_threads(1)
    print(f"| memory | tried already, after each fifth of {args.updates} updates |\n|---|---|")
    for name in args.only:
        shares = ", ".join(f"{share:.2f}" for share in tried_again(VARIANTS[name], args.updates))
        print(f"| {name} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
