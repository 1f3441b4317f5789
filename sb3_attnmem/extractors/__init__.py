"""Floor 1: features extractors with attention, for any Stable-Baselines3 algorithm."""

import inspect
import sys
import warnings
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem.common.registry import find_class
from sb3_attnmem.extractors.base import AttentionExtractor, in_float32
from sb3_attnmem.extractors.channel import ChannelAttentionCNN
from sb3_attnmem.extractors.combined import AttentionCombinedExtractor
from sb3_attnmem.extractors.entities import EntityAttention
from sb3_attnmem.extractors.frames import FrameAttention
from sb3_attnmem.extractors.image import ImpalaCNN, PlainCNN, SpatialAttentionCNN
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
    Find a features extractor by its name.

    :param extractor_class: a registered name or a subclass of ``BaseFeaturesExtractor``
    :return: the class
    :raises ValueError: for an unknown name (the nearest known one is named) or another object
    """
    return find_class("features_extractor_class", extractor_class, EXTRACTORS, BaseFeaturesExtractor)


def extractors_for(observation_space: spaces.Space, normalized_image: bool = False) -> list[str]:
    """
    List the features extractors that read a space.

    :param observation_space: as Stable-Baselines3 hands it over
    :param normalized_image: whether to trust the values of images as they come
    :return: the registered names of the extractors that read it with their default options, for a message. Of an image
        those of images; they are built to find out, without memory for their weights
    """
    is_image = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 3
    fitting = []
    for name, extractor_class in (IMAGE_EXTRACTORS if is_image else EXTRACTORS).items():
        takes_it = "normalized_image" in inspect.signature(extractor_class).parameters
        options = dict(normalized_image=normalized_image) if takes_it else {}
        try:
            with th.device("meta"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                extractor_class(observation_space, **options)
        except (ValueError, TypeError):  # TypeError: it asks for an argument
            continue
        fitting.append(name)
    return fitting


def __getattr__(name: str) -> Any:
    if name == "attention_overlay":  # until 0.1.0
        warnings.warn("It has moved: from sb3_attnmem import attention_overlay.", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[__name__.partition(".")[0]], name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "EXTRACTORS",
    "IMAGE_EXTRACTORS",
    "AttentionCombinedExtractor",
    "AttentionExtractor",
    "ChannelAttentionCNN",
    "EntityAttention",
    "FrameAttention",
    "ImpalaCNN",
    "PatchTransformer",
    "PlainCNN",
    "PretrainedExtractor",
    "RelationalCNN",
    "SpatialAttentionCNN",
    "extractors_for",
    "get_extractor_class",
    "in_float32",
]
