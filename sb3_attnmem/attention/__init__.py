"""Floor 0: attention in plain torch, and what it looked at."""

import warnings
from typing import Any

from sb3_attnmem.attention.band import Band
from sb3_attnmem.attention.blocks import FeedForward, GatedTransformerBlock, GRUGate, TransformerBlock
from sb3_attnmem.attention.channel import CBAM, ChannelGate, PlaceGate, SqueezeExcitation
from sb3_attnmem.attention.kernel import attend, attention_weights
from sb3_attnmem.attention.layout import KeyList, Layout, PlaceGrid
from sb3_attnmem.attention.multi_head import MultiHeadAttention
from sb3_attnmem.attention.places import LocatedPlaces
from sb3_attnmem.attention.pool import POOLINGS, AttentionPool, MaxPool, MeanPool, make_pool
from sb3_attnmem.attention.positions import LearnedPositions, RotaryPositions, spatial_basis
from sb3_attnmem.attention.record import AttentionLayer, AttentionRecord, record_attention, set_layout
from sb3_attnmem.attention.relative import RelativeAttention
from sb3_attnmem.attention.spatial import SpatialAttention


def __getattr__(name: str) -> Any:
    if name == "lay_over":  # until 0.1.0
        warnings.warn("It is called set_layout now.", DeprecationWarning, stacklevel=2)
        return set_layout
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CBAM",
    "POOLINGS",
    "AttentionLayer",
    "AttentionPool",
    "AttentionRecord",
    "Band",
    "ChannelGate",
    "FeedForward",
    "GRUGate",
    "GatedTransformerBlock",
    "KeyList",
    "Layout",
    "LearnedPositions",
    "LocatedPlaces",
    "MaxPool",
    "MeanPool",
    "MultiHeadAttention",
    "PlaceGate",
    "PlaceGrid",
    "RelativeAttention",
    "RotaryPositions",
    "SpatialAttention",
    "SqueezeExcitation",
    "TransformerBlock",
    "attend",
    "attention_weights",
    "make_pool",
    "record_attention",
    "set_layout",
    "spatial_basis",
]
