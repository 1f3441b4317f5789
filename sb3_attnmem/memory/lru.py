"""Linear recurrent unit."""

import math

import torch as th
from torch import nn
from torch.nn import functional as F

from sb3_attnmem.common.checks import check_flag, check_integer, check_number
from sb3_attnmem.memory.scan import decay_with_starts, linear_scan_pairs
from sb3_attnmem.memory.stack import RecurrentLayer, StackedMemory


class LRULayer(RecurrentLayer):
    """
    u = norm(x), s_t = λ ⊙ s_{t−1} + γ ⊙ B u_t, y = Re(C s) + d ⊙ u, x' = x + GLU(W gelu(y)).

    λ = exp(−exp ν + i exp θ) is complex and stays inside the unit circle whatever is learned; γ begins as √(1 − |λ|²),
    so that all states begin with variances alike.

    :param hidden_size: H, of inputs and latents
    :param state_size: N complex numbers
    :param radii: |λ| begins spread between these two, evenly over the ring's area
    :param max_phase: the angles of λ begin spread evenly between 0 and this
    :param layer_norm: whether there is the norm
    :param glu: whether there is the gated linear unit; without it x' = x + y
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int,
        radii: tuple[float, float],
        max_phase: float,
        layer_norm: bool,
        glu: bool,
    ) -> None:
        super().__init__((state_size, 2))
        squares = th.empty(state_size).uniform_(radii[0] ** 2, radii[1] ** 2)
        phases = th.empty(state_size).uniform_(0.0, max_phase).clamp(min=1e-4)
        self.nu = nn.Parameter((-0.5 * squares.clamp(min=1e-8).log()).log())
        self.theta = nn.Parameter(phases.log())
        self.gamma = nn.Parameter(0.5 * (1.0 - squares).log())  # log γ
        self.norm = nn.LayerNorm(hidden_size) if layer_norm else nn.Identity()
        # Complex matrices as real ones, real and imaginary parts in turns; a unit of input makes a unit of state
        self.to_state = nn.Linear(hidden_size, 2 * state_size, bias=False)  # B
        self.from_state = nn.Linear(2 * state_size, hidden_size, bias=False)  # C
        nn.init.normal_(self.to_state.weight, std=(2 * hidden_size) ** -0.5)
        nn.init.normal_(self.from_state.weight, std=state_size**-0.5)
        self.skip = nn.Parameter(th.randn(hidden_size))  # d
        self.glu = nn.Linear(hidden_size, 2 * hidden_size) if glu else None

    def decay(self) -> th.Tensor:
        """:return: λ, (N, 2)"""
        phase = self.theta.exp()
        return (-self.nu.exp()).exp().unsqueeze(-1) * th.stack([phase.cos(), phase.sin()], dim=-1)

    def forward(self, inputs: th.Tensor, state: th.Tensor, episode_starts: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        normed = self.norm(inputs)
        scaled = self.to_state.weight * self.gamma.exp().repeat_interleave(2).unsqueeze(-1)  # γ B
        driven = F.linear(normed, scaled).unflatten(-1, self.state_shape)  # (B, T, N, 2)
        decay = decay_with_starts(self.decay().expand_as(driven), episode_starts)
        states = linear_scan_pairs(decay, driven, state)
        outputs = self.from_state(states.flatten(2)) + self.skip * normed  # (B, T, H)
        if self.glu is not None:
            outputs = F.glu(self.glu(F.gelu(outputs)))
        return inputs + outputs, states[:, -1]


class LRUMemory(StackedMemory):
    """
    Linear recurrent unit (Orvieto et al., 2023, https://arxiv.org/abs/2303.06349): a diagonal linear recurrence over
    complex numbers, computed over time by a parallel scan, in residual blocks with a norm and a gated linear unit.
    The nonlinearities stand between the layers, not in the recurrence.

    State: one tensor a block, (B, N, 2), complex numbers as real pairs.
    Reach: unlimited for information, the length of the unroll for gradients. A state forgets all but 1 % in
    log(0.01) / log |λ| steps: with |λ| = 0.9 in 44, with 0.99 in 458. (With min_radius = 0, recalling a cue after up to
    100 steps was not learned within 300 updates, with 0.9 after 205; repeating the input of 4 steps ago after 25 each.)

    :param input_dim: D
    :param hidden_size: H, the width of the latents
    :param num_layers: stacked blocks
    :param state_size: N complex numbers a block; H / 2 by default, as many real numbers as a GRU's state has
    :param layer_norm: whether each block normalises its inputs
    :param glu: whether each block ends with a gated linear unit
    :param min_radius: least |λ| at the start
    :param max_radius: greatest |λ| at the start
    :param max_phase: greatest angle of λ at the start
    :raises ValueError: when a size is not a positive integer, a flag is not True or False, ``max_phase`` is not above
        0, or the radii are not 0 <= min < max < 1
    """

    def __init__(
        self,
        input_dim: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        state_size: int | None = None,
        layer_norm: bool = True,
        glu: bool = True,
        min_radius: float = 0.9,
        max_radius: float = 0.999,
        max_phase: float = 2 * math.pi,
    ) -> None:
        hidden_size = check_integer("hidden_size", hidden_size)
        state_size = max(hidden_size // 2, 1) if state_size is None else check_integer("state_size", state_size)
        layer_norm, glu = check_flag("layer_norm", layer_norm), check_flag("glu", glu)
        min_radius, max_radius = check_number("min_radius", min_radius), check_number("max_radius", max_radius)
        max_phase = check_number("max_phase", max_phase, above=0.0)
        if not 0.0 <= min_radius < max_radius < 1.0:
            raise ValueError(
                f"LRUMemory got min_radius={min_radius!r} and max_radius={max_radius!r}; a stable recurrence needs "
                "0 <= min_radius < max_radius < 1."
            )
        layers = [
            LRULayer(hidden_size, state_size, (min_radius, max_radius), max_phase, layer_norm, glu)
            for _ in range(check_integer("num_layers", num_layers))
        ]
        super().__init__(input_dim, hidden_size, layers)
        same_width = self.input_dim == hidden_size
        self.embed = nn.Identity() if same_width else nn.Linear(self.input_dim, hidden_size)

    def _embed(self, features: th.Tensor) -> th.Tensor:
        return self.embed(features)
