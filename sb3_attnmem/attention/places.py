"""Places of a map, each with where it is."""

from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention.positions import spatial_basis
from sb3_attnmem.common.weights_files import bring_up_to_date

#: mean square below which a map is silence, and stays so
QUIET = 1e-6


class LocatedPlaces(nn.Module):
    """
    Puts a fixed spatial basis beside what lies at the places of a map, so that attention can look for "what" and for
    "where" (Mott et al., 2019, https://arxiv.org/abs/1906.02500).

    What lies there is scaled to a mean square of 1 over the whole map: beside the basis, of ones and cosines, a trunk's
    first maps are else too faint for a small thing to be looked for.

    Letters: B batch, P = height * width places, C channels, S = n_frequencies² − 1.

    :param height: places along a column
    :param width: places along a row
    :param channels: C
    :param n_frequencies: of the spatial basis along each side, at least 2
    :raises ValueError: when a size is no integer of at least 1, or ``n_frequencies`` below 2
    """

    basis: th.Tensor
    map_scaling: th.Tensor

    def __init__(self, height: int, width: int, channels: int, n_frequencies: int = 4) -> None:
        super().__init__()
        basis = spatial_basis(height, width, n_frequencies)
        self.register_buffer("basis", basis, persistent=False)  # (P, S)
        # 0 in agents that were saved before maps were scaled
        self.register_buffer("map_scaling", th.ones(()))
        self.output_dim = channels + basis.shape[1]

    def forward(self, places: th.Tensor) -> th.Tensor:
        """
        Scale the map, and say of each place where it is.

        :param places: (B, P, C)
        :return: (B, P, C + S)
        """
        return th.cat([places * self.scaling(places), self.basis.expand(places.shape[0], -1, -1)], dim=-1)

    def scaling(self, places: th.Tensor) -> th.Tensor:
        """
        Find what each map is multiplied with.

        :param places: (B, P, C)
        :return: (B, 1, 1)
        """
        louder = (places.square().mean(dim=(1, 2), keepdim=True) + QUIET).rsqrt()
        return 1 + self.map_scaling * (louder - 1)

    def _load_from_state_dict(self, state_dict: dict[str, th.Tensor], prefix: str, *rest: Any) -> None:
        bring_up_to_date(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *rest)
