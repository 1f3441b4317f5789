"""Floor 1: features extractors with attention, for any Stable-Baselines3 algorithm."""

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem.common.registry import find_class
from sb3_attnmem.extractors.base import AttentionExtractor
from sb3_attnmem.extractors.channel import ChannelAttentionCNN
from sb3_attnmem.extractors.combined import AttentionCombinedExtractor
from sb3_attnmem.extractors.entities import EntityAttention
from sb3_attnmem.extractors.frames import FrameAttention
from sb3_attnmem.extractors.image import PlainCNN, SpatialAttentionCNN
from sb3_attnmem.extractors.patches import PatchTransformer
from sb3_attnmem.extractors.pretrained import PretrainedExtractor
from sb3_attnmem.extractors.registry import IMAGE_EXTRACTORS
from sb3_attnmem.extractors.relational import RelationalCNN

EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    **IMAGE_EXTRACTORS,
    "frame_attention": FrameAttention,
    "entity_attention": EntityAttention,
    "attention_combined": AttentionCombinedExtractor,
    "pretrained": PretrainedExtractor,
}


def get_extractor_class(extractor_class: str | type[BaseFeaturesExtractor]) -> type[BaseFeaturesExtractor]:
    """
    :param extractor_class: a registered name or a subclass of ``BaseFeaturesExtractor``
    :return: the class
    :raises ValueError: for an unknown name (the nearest known one is named) or another object
    """
    return find_class("features_extractor_class", extractor_class, EXTRACTORS, BaseFeaturesExtractor)


__all__ = [
    "EXTRACTORS",
    "IMAGE_EXTRACTORS",
    "AttentionCombinedExtractor",
    "AttentionExtractor",
    "ChannelAttentionCNN",
    "EntityAttention",
    "FrameAttention",
    "PatchTransformer",
    "PlainCNN",
    "PretrainedExtractor",
    "RelationalCNN",
    "SpatialAttentionCNN",
    "get_extractor_class",
]
