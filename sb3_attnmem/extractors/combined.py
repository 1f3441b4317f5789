"""Dict observations: an extractor for each key, then attention across the keys."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TensorDict
from torch import nn

from sb3_attnmem.attention import KeyList, LearnedPositions, TransformerBlock, set_layout
from sb3_attnmem.common.checks import check_flag, check_integers
from sb3_attnmem.common.registry import check_options, find_class
from sb3_attnmem.extractors.base import AttentionExtractor, Dense
from sb3_attnmem.extractors.entities import EntityAttention
from sb3_attnmem.extractors.registry import IMAGE_EXTRACTORS

#: what a key's extractor is built with beside the user's options
FILLED_IN = ("observation_space", "features_dim", "entities_key", "mask_key")


class AttentionCombinedExtractor(AttentionExtractor):
    """
    Attention over the keys of a Dict observation. Each key becomes one token: an image through ``image_class``, a set
    of entities (a Box of 2 dimensions) through ``EntityAttention``, anything else through two dense layers. The tokens
    attend to each other, and a dense layer reads them all.

    Its layers ``blocks.<i>.attention`` record (B, heads, K, K) over the K keys; those of the keys' own extractors
    record beside them, as ``encoders.<key>...``.

    :param observation_space: a Dict (use MultiInputPolicy)
    :param features_dim: length of the vector that comes out
    :param embed_dim: features of a token
    :param n_heads: attention heads across the keys; divides ``embed_dim``
    :param n_layers: blocks of self-attention across the keys
    :param dropout: in those blocks, while training
    :param image_class: extractor of the images: a class, or a name such as "relational_cnn"
    :param image_kwargs: its options beside ``features_dim``
    :param entity_kwargs: options of ``EntityAttention`` beside ``features_dim``
    :param masks: entities key -> key of their mask (1 where there is an entity); a mask is no token of its own
    :param normalized_image: whether to trust the images' values as they come, like ``CombinedExtractor``'s
    :raises ValueError: when the space is no Dict, or holds a key of another form, ``masks`` names keys that are not
        there, an option is unknown, or an extractor refuses its key
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 256,
        embed_dim: int = 128,
        n_heads: int = 4,
        n_layers: int = 1,
        dropout: float = 0.0,
        image_class: str | type[BaseFeaturesExtractor] = "spatial_attention_cnn",
        image_kwargs: dict[str, Any] | None = None,
        entity_kwargs: dict[str, Any] | None = None,
        masks: dict[str, str] | None = None,
        normalized_image: bool = False,
    ) -> None:
        embed_dim, n_heads, n_layers = check_integers(embed_dim=embed_dim, n_heads=n_heads, n_layers=n_layers)
        normalized_image = check_flag("normalized_image", normalized_image)
        masks = _check_dict("masks", masks)
        keys = _token_keys(observation_space, masks)
        image_class = find_class("image_class", image_class, IMAGE_EXTRACTORS, BaseFeaturesExtractor)
        image_kwargs = _check_dict("image_kwargs", image_kwargs)
        check_options("image_kwargs", image_kwargs, image_class, FILLED_IN, image_class.__name__)
        entity_kwargs = _check_dict("entity_kwargs", entity_kwargs)
        check_options("entity_kwargs", entity_kwargs, EntityAttention, FILLED_IN, "EntityAttention")
        super().__init__(observation_space, features_dim)
        self.masks = masks
        #: observation key -> name of its module
        self.names = module_names(keys)
        image_kwargs = {"normalized_image": normalized_image, **image_kwargs, "features_dim": embed_dim}
        self.encoders = nn.ModuleDict()
        for key, name in self.names.items():
            space = observation_space[key]  # type: ignore[index]
            if isinstance(space, spaces.Box) and len(space.shape) == 3:
                self.encoders[name] = image_class(space, **image_kwargs)
            elif isinstance(space, spaces.Box) and len(space.shape) == 2:
                parts = {part: observation_space[part] for part in (key, masks.get(key)) if part}  # type: ignore[index]
                options = {**entity_kwargs, "features_dim": embed_dim, "entities_key": key}
                self.encoders[name] = EntityAttention(spaces.Dict(parts), mask_key=masks.get(key, ""), **options)
            else:
                vector_dim = get_flattened_obs_dim(space)
                self.encoders[name] = nn.Sequential(
                    nn.Flatten(), Dense(vector_dim, embed_dim), nn.Linear(embed_dim, embed_dim)
                )
        self.key_codes = LearnedPositions(len(keys), embed_dim)
        self.blocks = nn.Sequential(
            *(TransformerBlock(embed_dim, n_heads, dropout=dropout) for _ in range(n_layers)), nn.LayerNorm(embed_dim)
        )
        set_layout(self.blocks, KeyList("observation keys", tuple(keys)))
        self.linear = nn.Sequential(nn.Flatten(), Dense(len(keys) * embed_dim, features_dim))

    def forward(self, observations: TensorDict) -> th.Tensor:
        """
        Extract the features.

        :param observations: key -> (B, ...)
        :return: (B, features_dim)
        """
        tokens = th.stack([self._encode(key, observations) for key in self.names], dim=1)  # (B, K, E)
        return self.linear(self.blocks(self.key_codes(tokens)))

    def _load_from_state_dict(self, state_dict: dict[str, th.Tensor], prefix: str, *rest: Any) -> None:
        # Of agents that were saved when "value" could be in a name
        old = module_names(list(self.names), with_value=True)
        now_by_old = {f"{prefix}encoders.{old[key]}.": f"{prefix}encoders.{name}." for key, name in self.names.items()}
        if any("value" in before and name.startswith(before) for before in now_by_old for name in state_dict):
            tensors = list(state_dict.items())
            state_dict.clear()
            for name, tensor in tensors:
                before = next((before for before in now_by_old if name.startswith(before)), "")
                state_dict[now_by_old.get(before, "") + name.removeprefix(before)] = tensor
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _encode(self, key: str, observations: TensorDict) -> th.Tensor:
        encoder = self.encoders[self.names[key]]
        if isinstance(encoder, EntityAttention):
            return encoder({part: observations[part] for part in (key, self.masks.get(key)) if part})
        return encoder(observations[key])


def _check_dict(name: str, given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"{name}={given!r} must be a dict, or None.")
    return given or {}


def _token_keys(space: spaces.Space, masks: dict[str, str]) -> list[str]:
    """
    :param space: that should be a Dict
    :param masks: entities key -> mask key
    :return: the keys that become tokens
    """
    if not isinstance(space, spaces.Dict):
        raise ValueError(f"AttentionCombinedExtractor reads a Dict observation (with MultiInputPolicy), got {space}.")
    missing = [key for pair in masks.items() for key in pair if key not in space.spaces]
    if missing:
        raise ValueError(f"masks names the keys {missing}, which the observation lacks; it has {list(space)}.")
    keys = [key for key in space if key not in masks.values()]
    for key in keys:
        subspace = space[key]
        too_deep = isinstance(subspace, spaces.Box) and len(subspace.shape) > 3
        known = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        if too_deep or not isinstance(subspace, known):
            raise ValueError(
                f"The observation's key '{key}' is {subspace}; it must be an image (3 dimensions), entities (2), a "
                "vector or discrete. Drop or reshape it with a wrapper."
            )
    return keys


def module_names(keys: list[str], with_value: bool = False) -> dict[str, str]:
    """
    Name the modules that read the keys of an observation.

    :param keys: of the observation
    :param with_value: whether "value" may be in a name, as in older versions. TRPO takes every weight with that in its
        name for the critic's, and does not train it
    :return: key -> a name that an ``nn.ModuleDict`` takes ("." and its methods' names, such as "items", are none)
    """
    names: dict[str, str] = {}
    taken = nn.ModuleDict()
    for key in keys:
        name = key.replace(".", "_")
        if not with_value:
            name = name.replace("value", "val")
        while not name or hasattr(taken, name) or name in names.values():
            name += "_"
        names[key] = name
    return names
