"""Extractors of images by the names that users type."""

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem.extractors.channel import ChannelAttentionCNN
from sb3_attnmem.extractors.image import ImpalaCNN, PlainCNN, SpatialAttentionCNN
from sb3_attnmem.extractors.patches import PatchTransformer
from sb3_attnmem.extractors.relational import RelationalCNN

IMAGE_EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    "plain_cnn": PlainCNN,
    "impala_cnn": ImpalaCNN,
    "spatial_attention_cnn": SpatialAttentionCNN,
    "relational_cnn": RelationalCNN,
    "channel_attention_cnn": ChannelAttentionCNN,
    "patch_transformer": PatchTransformer,
}
