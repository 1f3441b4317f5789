"""
Noise on a network's weights that is learned, in place of random actions (NoisyNet: Fortunato et al., 2018,
https://arxiv.org/abs/1706.10295).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch as th
from torch import nn
from torch.nn import functional

#: the option that keeps the noise of an environment for an episode
NOISE_OF_EPISODES = "episode"
#: σ0 of the paper: how large the noise is at first, in units of the weights' own range
INITIAL_SIGMA = 0.5


class NoisyLinear(nn.Linear):
    """
    A linear layer with factorised Gaussian noise: y = (W + σ_W ∘ ε_out ε_inᵀ) x + b + σ_b ∘ ε_out. Between draws it is
    the layer of the means W and b, whatever the mode: noise is there where somebody asks for it (:func:`noise`).

    :param layer: whose weights become the means; torch draws them as the paper does
    :ivar noise: ε_in (in,) and ε_out (out,) for all rows, or (B, in) and (B, out), one for each; None: none
    """

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        sigma = INITIAL_SIGMA / math.sqrt(layer.in_features)
        self.weight_sigma = nn.Parameter(th.full_like(layer.weight, sigma))
        self.bias_sigma = nn.Parameter(th.full_like(layer.bias, sigma))
        self.noise: tuple[th.Tensor, th.Tensor] | None = None
        self._kept: np.ndarray | None = None

    def draw(self, generator: np.random.Generator, n_rows: int | None = None, fresh: np.ndarray | None = None) -> None:
        """
        Draw new noise.

        :param generator: draws it
        :param n_rows: B, the rows that get noise of their own; None: all share one draw
        :param fresh: (B,) bool, the rows that get new noise, while the others keep that of the last draw with ``fresh``
            for as many rows; None: all get new noise, which is not kept
        """
        n_numbers = self.in_features + self.out_features
        shape = (n_numbers,) if n_rows is None else (n_rows, n_numbers)
        if fresh is None or self._kept is None or self._kept.shape != shape:
            drawn = generator.standard_normal(shape, dtype=np.float32)
        else:
            drawn = self._kept.copy()
            drawn[fresh] = generator.standard_normal((np.count_nonzero(fresh), n_numbers), dtype=np.float32)
        if fresh is not None:
            self._kept = drawn
        normal = th.as_tensor(drawn, device=self.weight.device)
        noise_in, noise_out = (normal.sign() * normal.abs().sqrt()).split([self.in_features, self.out_features], -1)
        self.noise = noise_in, noise_out

    def forward(self, input: th.Tensor) -> th.Tensor:
        """
        :param input: (..., in), or (B, in) where rows have noise of their own
        :return: (..., out)
        """
        if self.noise is None:
            return super().forward(input)
        noise_in, noise_out = self.noise
        if noise_in.dim() == 1:
            # One matrix for all rows: cheaper than a second product, and the same numbers
            weight = th.addcmul(self.weight, self.weight_sigma, th.outer(noise_out, noise_in))
            return functional.linear(input, weight, th.addcmul(self.bias, self.bias_sigma, noise_out))
        noisy = functional.linear(input * noise_in, self.weight_sigma, self.bias_sigma)
        return super().forward(input) + noise_out * noisy


def make_noisy(module: nn.Module) -> list[NoisyLinear]:
    """
    Put a noisy layer in the place of each linear one.

    :param module: in which they are replaced
    :return: the noisy layers
    """
    found = []
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear:
            child = NoisyLinear(child)
            setattr(module, name, child)
        found += [child] if isinstance(child, NoisyLinear) else make_noisy(child)
    return found


@contextmanager
def noise(
    layers: Sequence[NoisyLinear],
    generator: np.random.Generator | None,
    n_rows: int | None = None,
    fresh: np.ndarray | None = None,
) -> Iterator[None]:
    """
    Let layers be noisy inside the ``with``, with one draw.

    :param layers: that become noisy
    :param generator: draws the noise; None leaves the layers as they are
    :param n_rows: B, the rows that get noise of their own; None: all share one draw
    :param fresh: see :meth:`NoisyLinear.draw`
    """
    if generator is None or not layers:
        yield
        return
    try:
        for layer in layers:
            layer.draw(generator, n_rows, fresh)
        yield
    finally:
        for layer in layers:
            layer.noise = None
