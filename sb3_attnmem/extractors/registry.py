"""Extractors of images by the names that users type, and the look-up."""

import difflib

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_attnmem.extractors.channel import ChannelAttentionCNN
from sb3_attnmem.extractors.image import PlainCNN, SpatialAttentionCNN
from sb3_attnmem.extractors.patches import PatchTransformer
from sb3_attnmem.extractors.relational import RelationalCNN

IMAGE_EXTRACTORS: dict[str, type[BaseFeaturesExtractor]] = {
    "plain_cnn": PlainCNN,
    "spatial_attention_cnn": SpatialAttentionCNN,
    "relational_cnn": RelationalCNN,
    "channel_attention_cnn": ChannelAttentionCNN,
    "patch_transformer": PatchTransformer,
}


def find_extractor(
    argument: str, choice: str | type[BaseFeaturesExtractor], known: dict[str, type[BaseFeaturesExtractor]]
) -> type[BaseFeaturesExtractor]:
    """
    :param argument: its name, for the message
    :param choice: a registered name, or a subclass of ``BaseFeaturesExtractor``
    :param known: name -> class
    :return: the class
    :raises ValueError: for an unknown name (the nearest known one is named), or another object
    """
    if isinstance(choice, str):
        if choice not in known:
            near = difflib.get_close_matches(choice.lower(), known, n=1, cutoff=0.4)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"Unknown {argument} '{choice}'.{hint} Known names: {', '.join(known)}.")
        return known[choice]
    if not (isinstance(choice, type) and issubclass(choice, BaseFeaturesExtractor)):
        raise ValueError(
            f"{argument} is {choice!r}; pass a subclass of BaseFeaturesExtractor (the class, not an instance) "
            f"or one of the names {', '.join(known)}."
        )
    return choice
