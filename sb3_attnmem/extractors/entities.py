"""Attention over a set of entities."""

import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TensorDict
from torch import nn

from sb3_attnmem.attention import POOLINGS, KeyList, TransformerBlock, make_pool, set_layout
from sb3_attnmem.common.checks import check_choice, check_integers
from sb3_attnmem.extractors.base import AttentionExtractor, Dense


class EntityAttention(AttentionExtractor):
    """
    Attention over a set: each of N entities is a row of D features, all attend to each other, then they are pooled
    (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762; Zambaldi et al., 2019, https://arxiv.org/abs/1806.01830).
    The order of the rows does not matter, and rows that the mask calls absent are never looked at.

    Its layers ``blocks.<i>.attention`` record (B, heads, N, N), ``pool.attention`` (B, heads, 1, N);
    the rows of absent entities as *queries* in the former mean nothing.

    :param observation_space: Box (N, D), or a Dict that holds one and, beside it, a mask (N,) that is 1 where there is
        an entity and 0 where a row is padding (MultiBinary or Box; with MultiInputPolicy)
    :param features_dim: length of the vector that comes out
    :param embed_dim: features of an entity
    :param n_heads: attention heads; divides ``embed_dim``
    :param n_layers: blocks of self-attention
    :param pooling: "attention" from a learned query, "max" or "mean"
    :param dropout: in the blocks and the attention pool, while training
    :param entities_key: of the Dict
    :param mask_key: of the Dict; without that key every row is an entity
    :raises ValueError: when the space is not of this form (other keys of a Dict included), ``n_heads`` does not divide
        ``embed_dim``, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: int = 128,
        embed_dim: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        pooling: str = "attention",
        dropout: float = 0.0,
        entities_key: str = "entities",
        mask_key: str = "mask",
    ) -> None:
        embed_dim, n_heads, n_layers = check_integers(embed_dim=embed_dim, n_heads=n_heads, n_layers=n_layers)
        check_choice("pooling", pooling, POOLINGS)
        n_entities, n_features = _read_entities(observation_space, entities_key, mask_key)
        super().__init__(observation_space, features_dim)
        self.entities_key = entities_key
        self.mask_key = mask_key
        self.embed = nn.Linear(n_features, embed_dim)
        self.blocks = nn.ModuleList(TransformerBlock(embed_dim, n_heads, dropout=dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(embed_dim)
        self.pool = make_pool(pooling, embed_dim, n_heads, dropout)
        self.linear = Dense(embed_dim, features_dim)
        set_layout(self, KeyList("entities", tuple(map(str, range(n_entities)))))

    def forward(self, observations: th.Tensor | TensorDict) -> th.Tensor:
        """
        Extract the features.

        :param observations: (B, N, D), or a dict with that and (B, N)
        :return: (B, features_dim)
        """
        mask = None
        if isinstance(observations, dict):
            if self.mask_key in observations:
                mask = observations[self.mask_key] > 0.5  # (B, N)
            observations = observations[self.entities_key]
        keys = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, N): the same for every head and query
        entities = self.embed(observations)  # (B, N, E)
        for block in self.blocks:
            entities = block(entities, mask=keys)
        return self.linear(self.pool(self.norm(entities), mask))


def _read_entities(space: spaces.Space, entities_key: str, mask_key: str) -> tuple[int, int]:
    """
    :return: N, D
    """
    if isinstance(space, spaces.Dict):
        unknown = [key for key in space if key not in (entities_key, mask_key)]
        if entities_key not in space.spaces or unknown:
            raise ValueError(
                f"EntityAttention reads the keys '{entities_key}' and '{mask_key}' of a Dict, got {list(space)}. Pass "
                "entities_key and mask_key, or use AttentionCombinedExtractor, which reads other keys beside them."
            )
        mask = space.spaces.get(mask_key)
        space = space[entities_key]
        if mask is not None and mask.shape != (space.shape or ())[:1]:
            raise ValueError(
                f"The mask '{mask_key}' has shape {mask.shape}, but '{entities_key}' has shape {space.shape}: "
                "it takes one number an entity."
            )
    if not isinstance(space, spaces.Box) or len(space.shape) != 2:
        raise ValueError(
            f"A set of entities is a Box of 2 dimensions (entities, features), got {space}. "
            "Reshape flat observations with a gymnasium wrapper such as ReshapeObservation."
        )
    return space.shape[0], space.shape[1]
