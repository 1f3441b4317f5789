"""Soft attention over the places of a feature map."""

from typing import Any

import torch as th
from torch import nn

from sb3_attnmem.attention.layout import PlaceGrid
from sb3_attnmem.attention.places import LocatedPlaces
from sb3_attnmem.attention.record import AttentionLayer
from sb3_attnmem.common.checks import check_integer, check_integers
from sb3_attnmem.common.weights_files import bring_up_to_date


class SpatialAttention(AttentionLayer):
    """
    Each head picks a soft place of an H×W map and reads its channels *and* where it is.

    Every place carries its C channels and the S numbers of a fixed spatial basis, in its key and in its value alike,
    so that a head can look for "what" and for "where" and report both. The queries are learned (the feed-forward half
    of Sorokin et al., 2015, https://arxiv.org/abs/1512.01693) or come from a state (the top-down attention of
    Mott et al., 2019, https://arxiv.org/abs/1906.02500, whose spatial basis this is).
    What lies at the places is scaled, see :class:`~sb3_attnmem.attention.LocatedPlaces`. All heads share one set of
    keys. Records (B, heads, H, W).

    Letters: B batch, P = H * W places, C channels, S = n_frequencies² − 1, K key_dim.

    :param channels: C
    :param grid: H, W and how they lie over the image
    :param n_heads: places that are picked
    :param key_dim: K
    :param query_dim: features of the state that asks; None for learned queries
    :param n_frequencies: of the spatial basis along each side
    :raises ValueError: when a size is no integer of at least 1, or ``n_frequencies`` below 2
    """

    def __init__(
        self,
        channels: int,
        grid: PlaceGrid,
        n_heads: int = 4,
        key_dim: int = 64,
        query_dim: int | None = None,
        n_frequencies: int = 4,
    ) -> None:
        super().__init__()
        channels, n_heads, key_dim = check_integers(channels=channels, n_heads=n_heads, key_dim=key_dim)
        query_dim = None if query_dim is None else check_integer("query_dim", query_dim)
        self.layout = self.grid = grid
        self.n_heads = n_heads
        self.located = LocatedPlaces(grid.height, grid.width, channels, n_frequencies)
        self.value_dim = self.located.output_dim
        self.output_dim = n_heads * self.value_dim
        self.to_keys = nn.Linear(self.value_dim, key_dim, bias=False)
        self.queries: nn.Parameter | nn.Linear
        if query_dim is None:
            # Spreads the first weights, so that the heads differ and learn to pick rather than to average
            self.queries = nn.Parameter(3.0 * th.randn(n_heads, key_dim))
        else:
            self.queries = nn.Linear(query_dim, n_heads * key_dim)

    def forward(self, places: th.Tensor, state: th.Tensor | None = None) -> th.Tensor:
        """
        Let each head pick a place, and read what is there and where it is.

        :param places: (B, P, C)
        :param state: (B, query_dim), exactly when the module was built with one
        :return: (B, n_heads * (C + S)): what each head found and where
        """
        # q · (W v) = (Wᵀ q) · v, and v is the scaled map beside the basis: neither the keys of all places nor these
        # values are ever put together, which takes a quarter of the time
        queries = self._queries(state)  # ([B,] heads, K)
        asked = (queries @ self.to_keys.weight).transpose(-2, -1)  # ([B,] C + S, heads)
        what, where = asked.split([places.shape[-1], self.located.basis.shape[1]], dim=-2)
        scaling, basis = self.located.scaling(places), self.located.basis  # (B, 1, 1), (P, S)
        scores = scaling * (places @ what) + basis @ where  # (B, P, heads)
        weights = (scores / queries.shape[-1] ** 0.5).transpose(1, 2).softmax(dim=-1)  # (B, heads, P)
        if self.recording:
            self.record(weights.unflatten(-1, (self.grid.height, self.grid.width)))
        return th.cat([scaling * (weights @ places), weights @ basis], dim=-1).flatten(1)

    def _load_from_state_dict(self, state_dict: dict[str, th.Tensor], prefix: str, *rest: Any) -> None:
        bring_up_to_date(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _queries(self, state: th.Tensor | None) -> th.Tensor:
        """:return: (heads, key_dim), those that were learned, or (B, heads, key_dim), those of the states"""
        if isinstance(self.queries, nn.Linear):
            if state is None:
                raise ValueError("This SpatialAttention was built with query_dim: pass the state that asks.")
            return self.queries(state).unflatten(-1, (self.n_heads, -1))
        if state is not None:
            raise ValueError("This SpatialAttention asks with learned queries; build it with query_dim to ask a state.")
        return self.queries
