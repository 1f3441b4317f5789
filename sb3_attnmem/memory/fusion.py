"""What the Q-head reads: what matters now, s, and what mattered before, h, joined."""

from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention import AttentionLayer
from sb3_attnmem.common.checks import check_flag, check_integer
from sb3_attnmem.common.registry import check_options, find_class


class NoFusion(nn.Module):
    """
    h alone: the head reads the memory's latents.

    :param features_dim: D of s
    :param latent_dim: H of h
    :raises ValueError: when one is not a positive integer
    """

    def __init__(self, features_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.features_dim = check_integer("features_dim", features_dim)
        #: the width of what comes out
        self.output_dim = check_integer("latent_dim", latent_dim)

    def forward(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        """
        :param features: s (..., D)
        :param latents: h (..., H)
        :return: (..., output_dim)
        """
        return latents


class ConcatFusion(NoFusion):
    """
    s and h side by side.

    :param features_dim: D of s
    :param latent_dim: H of h
    """

    def __init__(self, features_dim: int, latent_dim: int) -> None:
        super().__init__(features_dim, latent_dim)
        self.output_dim += self.features_dim

    def forward(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        return th.cat([features, latents], dim=-1)


class ResidualFusion(NoFusion):
    """
    h + V s: the memory's latents are added to the projected features.

    :param features_dim: D of s
    :param latent_dim: H of h
    """

    def __init__(self, features_dim: int, latent_dim: int) -> None:
        super().__init__(features_dim, latent_dim)
        self.project = nn.Linear(features_dim, latent_dim)

    def forward(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        return latents + self.project(features)


class GateFusion(NoFusion):
    """
    s' = α ⊙ V s + (1 − α) ⊙ h, with α = σ(W [s, h]): at α = 1 only the present counts, at 0 only the memory.
    Its layer ``alpha`` records α, (N, H) or (N, 1), N steps.

    :param features_dim: D of s
    :param latent_dim: H of h
    :param per_unit: whether each unit has an α of its own, or all share one
    :raises ValueError: when a dimension is not a positive integer, or ``per_unit`` is not True or False
    """

    def __init__(self, features_dim: int, latent_dim: int, per_unit: bool = True) -> None:
        super().__init__(features_dim, latent_dim)
        self.project = nn.Linear(features_dim, latent_dim)  # V
        self.gate = nn.Linear(features_dim + latent_dim, latent_dim if check_flag("per_unit", per_unit) else 1)  # W
        self.alpha = AttentionLayer()

    def forward(self, features: th.Tensor, latents: th.Tensor) -> th.Tensor:
        alpha = self.gate(th.cat([features, latents], dim=-1)).sigmoid()
        self.alpha.record(alpha.flatten(0, -2))
        present, alpha = self.project(features).to(latents.dtype), alpha.to(latents.dtype)  # which autocast mixes
        return th.lerp(latents, present, alpha.expand_as(latents))


FUSIONS: dict[str, type[NoFusion]] = {
    "none": NoFusion,
    "gate": GateFusion,
    "concat": ConcatFusion,
    "residual": ResidualFusion,
}


def check_fusion(memory_fusion: str, fusion_kwargs: dict[str, Any]) -> type[NoFusion]:
    """
    :param memory_fusion: a name of ``FUSIONS``
    :param fusion_kwargs: its options
    :return: the class
    :raises ValueError: for an unknown name, or an option that it does not take
    """
    fusion_class = find_class("memory_fusion", memory_fusion, FUSIONS, base=None)
    of = f"memory_fusion='{memory_fusion}'"
    check_options("memory_fusion_kwargs", fusion_kwargs, fusion_class, ["features_dim", "latent_dim"], of)
    return fusion_class
