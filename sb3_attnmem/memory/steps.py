"""Which step of its episode a step is, and a code of it."""

import math

import torch as th
from torch import nn

from sb3_attnmem.common.checks import check_choice, check_integer, check_number


def steps_of(count: th.Tensor, episode_starts: th.Tensor) -> th.Tensor:
    """
    Number the steps of a tape within their episodes.

    :param count: (B, 1), steps of the episode before this tape; 0 where its first step starts one
    :param episode_starts: (B, T) bool
    :return: (B, T), in the dtype of ``count``; 0 at the first step of an episode
    """
    n_steps = episode_starts.shape[1]
    if n_steps == 1:
        return count
    steps = th.arange(n_steps, device=count.device)
    first = steps.masked_fill(~episode_starts, -1).cummax(dim=1).values  # (B, T), the last start up to each step
    return th.where(first >= 0, (steps - first).to(count.dtype), count + steps)


class StepCode(nn.Module):
    """
    Sines and cosines of the step within an episode (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762), F waves
    with periods from 2 steps to ``longest``, spread evenly on a logarithmic scale. Any step so many steps ago, or so
    many behind the first, is a linear function of such a code away.

    :param n_waves: F
    :param longest: steps; beyond it no wave tells steps apart that are further from one another
    :raises ValueError: when ``n_waves`` is no integer of at least 1, or ``longest`` is not above 2
    """

    frequencies: th.Tensor

    def __init__(self, n_waves: int, longest: float) -> None:
        super().__init__()
        n_waves = check_integer("n_waves", n_waves)
        longest = check_number("longest", longest, above=2.0, hint="It is a number of steps.")
        # Just above 2: at 2 the sine is zero at every step
        periods = 2.1 * th.logspace(0.0, 1.0, n_waves, base=longest / 2.1)
        self.register_buffer("frequencies", 2.0 * math.pi / periods, persistent=False)  # (F,)
        #: numbers in the code
        self.width = 2 * n_waves

    def forward(self, steps: th.Tensor) -> th.Tensor:
        """
        Write steps as codes.

        :param steps: (B, T), in the dtype that the code shall have
        :return: (B, T, 2 F), each in [-1, 1]
        """
        angles = steps.unsqueeze(-1) * self.frequencies
        return th.cat([angles.sin(), angles.cos()], dim=-1)


def step_code(positions: str, otherwise: str = "none") -> StepCode | None:
    """
    Choose what a memory is told of a step's place in its episode.

    :param positions: "episode": a code of 32 waves up to 1,000 steps; or ``otherwise``: nothing
    :param otherwise: what the memory calls that
    :return: the code; None: nothing
    :raises ValueError: when ``positions`` is another word
    """
    return StepCode(32, 1000.0) if check_choice("positions", positions, ("episode", otherwise)) == "episode" else None
