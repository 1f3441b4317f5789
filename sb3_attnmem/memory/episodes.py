"""The episodes of a batch of tapes, and whether the short ones are better run apart from the others."""

from typing import NamedTuple

import torch as th

#: Share of a batch's steps that must be saved: taking a tape apart and joining it again costs that much
#: (docs/performance.md). An episode of S steps saves one of them in S, so that longer ones than two never pay.
WORTH = 0.45
CANDIDATES = (1, 2)


class Episodes(NamedTuple):
    """
    The (parts of) episodes that a batch of B tapes of T steps holds, E in all, tape by tape.

    :param begins: (B, T) bool, the first step of each, those at the tapes' beginnings included
    :param of_step: (B * T,), the episode of each step
    :param age: (B * T,), steps since its first one
    :param length: (E,) steps
    :param row: (E,), its tape
    """

    begins: th.Tensor
    of_step: th.Tensor
    age: th.Tensor
    length: th.Tensor
    row: th.Tensor

    @classmethod
    def of(cls, episode_starts: th.Tensor) -> "Episodes":
        """
        :param episode_starts: (B, T) bool
        :return: its episodes
        """
        begins = episode_starts.clone()
        begins[:, 0] = True
        of_step = begins.flatten().cumsum(dim=0) - 1
        first = begins.flatten().nonzero().squeeze(1)
        steps = th.arange(begins.numel(), device=begins.device)
        length = th.diff(first, append=first.new_tensor([begins.numel()]))
        return cls(begins, of_step, steps - first[of_step], length, first // begins.shape[1])


def length_of_short_episodes(episode_starts: th.Tensor) -> int:
    """
    Which episodes an RNN should run in rows of their own. Together, with a step more before each start inside a tape,
    a batch takes ``rows * (steps + most starts in a row)`` steps of the kernel, padding included; an episode in a row
    of its own takes no step more. A step costs about the same in either.

    :param episode_starts: (B, T) bool
    :return: S, the length up to which episodes are run in rows of their own; 0: all are run together
    """
    n_rows, n_steps = episode_starts.shape
    most = int(episode_starts[:, 1:].sum(dim=1).max())
    if most < WORTH * n_steps:
        return 0
    episodes = Episodes.of(episode_starts)
    best, fewest = 0, n_rows * (n_steps + most - WORTH * n_steps)
    for longest in CANDIDATES:
        others = episodes.length > longest
        # The others' steps, and one more before each but the first of a row
        columns = th.bincount(episodes.row[others], episodes.length[others] + 1.0, n_rows) - 1.0
        steps = int((~others).sum()) * longest + int((columns > 0).sum()) * max(int(columns.max()), 0)
        if steps <= fewest:
            best, fewest = longest, steps
    return best
