"""Any torch module as a features extractor, with weights from elsewhere."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn

from sb3_attnmem.attention import POOLINGS, KeyList, PlaceGrid, make_pool, set_layout
from sb3_attnmem.common.checks import check_choice, check_integer
from sb3_attnmem.common.parameters import Selection, eval_frozen_parts, first_blocks, select
from sb3_attnmem.common.weights_files import differences, read_weights, with_new_names
from sb3_attnmem.extractors.base import AttentionExtractor, Dense
from sb3_attnmem.extractors.foreign import build_module, call_module, output_shape
from sb3_attnmem.extractors.trunk import places_of

PRETRAINED_OUTPUTS = ("vector", "map", "tokens")


class PretrainedExtractor(AttentionExtractor):
    """
    A module that was trained elsewhere: an encoder of images, of token ids, of anything.

    It is called with the batch as Stable-Baselines3 hands it over: images (B, C, H, W) in [0, 1], vectors as floats,
    Boxes of integers that are no images as ids (int64). With a Dict observation it is called by keyword, one argument a
    key (``input_ids=…, attention_mask=…``). It may give a tensor, a tuple (the first counts) or an object or dict with
    ``last_hidden_state``: vectors (B, D), maps (B, C, H, W) or tokens (B, T, C).

    The online and the target network each get a copy. ``save`` pickles these arguments with the agent: a class by its
    import path, an instance whole. The agent's file also holds the weights, so ``weights`` may be gone when it is
    loaded; without them and without an agent's, the first call raises.

    :param observation_space: of the environment
    :param module: an ``nn.Module``, or what builds one (a class, a function) from ``module_kwargs``
    :param module_kwargs: for building it
    :param weights: a safetensors file or a state dict that ``torch.save`` wrote; tensors in it that the module has no
        place for (a head, say) are left out
    :param prefix: of the module's tensors in that file, for example "encoder."
    :param output: "vector" (B, features_dim), from a map or tokens through ``pooling``; "map" (B, P, C) from a map, or
        "tokens" (B, T, C) from tokens or a map, for a memory that attends by itself
    :param freeze: "all", "none", an integer k for the first k blocks (see
        :func:`~sb3_attnmem.common.parameters.first_blocks`) or pattern(s) of the module's parameters
    :param pooling: of a vector, from a map or tokens: "attention" from a learned query, "mean" or "max"; its attention
        ``pool.attention`` records (B, heads, 1, P)
    :param n_heads: of the attention pool; divides C
    :param features_dim: of a vector: if given, one dense layer more
    :param mask_key: of a Dict observation: 1 where there is a token, (B, T), for the pool
    :raises ValueError: when the module gives something else, the weights do not fit, or an option is unknown
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        module: nn.Module | Callable[..., nn.Module],
        module_kwargs: dict[str, Any] | None = None,
        weights: str | Path | None = None,
        prefix: str = "",
        output: str = "vector",
        freeze: Selection = "all",
        pooling: str = "attention",
        n_heads: int = 4,
        features_dim: int | None = None,
        mask_key: str = "attention_mask",
    ) -> None:
        check_choice("output", output, PRETRAINED_OUTPUTS)
        check_choice("pooling", pooling, POOLINGS)
        n_heads = check_integer("n_heads", n_heads)
        if features_dim is not None:
            features_dim = check_integer("features_dim", features_dim)
        if weights is not None and not isinstance(weights, (str, os.PathLike)):
            raise ValueError(f"weights={weights!r} must be the path of a file.")
        for name, value in (("prefix", prefix), ("mask_key", mask_key)):
            if not isinstance(value, str):
                raise ValueError(f"{name}={value!r} must be a string.")
        super().__init__(observation_space, features_dim or 1)  # not yet known
        self.space = observation_space
        self.output = output
        self.mask_key = mask_key
        self.module = build_module(module, module_kwargs)
        #: the file of weights that was not there
        self.missing: str | None = None
        if weights is not None:
            self._read(Path(weights), prefix)
        learnable = {name for name, weight in self.module.named_parameters() if weight.requires_grad}
        if isinstance(freeze, (int, np.integer)):
            frozen = first_blocks("freeze", self.module, freeze)
        else:
            frozen = select("freeze", dict(self.module.named_parameters()), freeze)
        #: parameters that would learn, were it not for ``freeze``
        self.held = learnable & frozen
        self.hold()
        shape = output_shape(self.module, observation_space)
        if output == "vector":
            self._make_vector(shape, pooling, n_heads, features_dim)
        elif len(shape) == 2 or (len(shape) == 3 and output == "map"):
            raise ValueError(
                f"{type(self.module).__name__} gives {_kind(shape)}, not {'a map' if output == 'map' else output}: "
                f"pass output={'vector' if len(shape) == 2 else 'tokens'!r}."
            )
        elif output == "map":
            self._give_map(_grid(observation_space, shape), shape[1])
        else:
            self._features_shape = (int(np.prod(shape[2:])), shape[1]) if len(shape) == 4 else shape[1:]
            self._features_dim = int(np.prod(self._features_shape))
        self.register_load_state_dict_post_hook(_arrived)

    def hold(self) -> None:
        """Keep what ``freeze`` named from learning."""
        for name, weight in self.module.named_parameters():
            if name in self.held:
                weight.requires_grad_(False)

    def train(self, mode: bool = True) -> "PretrainedExtractor":
        super().train(mode)
        eval_frozen_parts(self.module)
        return self

    def apply(self, fn: Callable[[nn.Module], Any]) -> "PretrainedExtractor":
        # PPO and A2C initialise all layers of an extractor anew by it
        for child in self.children():
            if child is not self.module:
                child.apply(fn)
        fn(self)
        return self

    def forward(self, observations: Any) -> th.Tensor:
        """
        Run the module, and pool what it gives where a vector is wanted.

        :param observations: (B, ...), or a dict of such tensors
        :return: (B, features_dim), (B, P, C) or (B, T, C)
        """
        if self.missing is not None:
            raise ValueError(f"There is no file of weights {self.missing}, and no agent's weights were loaded instead.")
        features = call_module(self.module, self.space, observations)
        if features.dim() == 4:
            features = places_of(features)
        if features.dim() == 3 and self.output == "vector":
            mask = observations[self.mask_key] > 0.5 if self._masked(observations) else None
            features = self.pool(features, mask)
        return self.linear(features) if self.output == "vector" else features

    def _read(self, path: Path, prefix: str) -> None:
        if not path.exists():
            self.missing = str(path)
            return
        if not path.is_file():
            raise ValueError(f"weights={str(path)!r} is a folder: pass the file in it that holds the weights.")
        there = read_weights(path)
        there = {name.removeprefix(prefix): tensor for name, tensor in there.items() if name.startswith(prefix)}
        there = with_new_names(there, self.module.state_dict())
        problem = differences(there, self.module.state_dict())
        if problem:
            hint = f" under the prefix {prefix!r}" if prefix else ""
            raise ValueError(f"The weights of {path}{hint} do not fit {type(self.module).__name__}:\n{problem}")
        self.module.load_state_dict(there, strict=False)

    def _masked(self, observations: Any) -> bool:
        return isinstance(observations, Mapping) and self.mask_key in observations

    def _make_vector(self, shape: tuple[int, ...], pooling: str, n_heads: int, features_dim: int | None) -> None:
        width = shape[1] if len(shape) in (2, 4) else shape[2]
        if len(shape) > 2:
            self.pool = make_pool(pooling, width, n_heads)
            names = tuple(map(str, range(shape[1])))
            set_layout(self.pool, _grid(self.space, shape) if len(shape) == 4 else KeyList("tokens", names))
        self.linear = Dense(width, features_dim) if features_dim else nn.Identity()
        self._features_dim = features_dim or width
        self._features_shape = (self._features_dim,)


def _kind(shape: tuple[int, ...]) -> str:
    return {2: "a vector", 3: "tokens", 4: "a map"}[len(shape)]


def _grid(space: spaces.Space, shape: tuple[int, ...]) -> PlaceGrid:
    """:return: the places of a map laid over the image in equal squares, as near as can be told from outside"""
    height, width = shape[2:]
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return PlaceGrid.of_pixels(height, width)
    stride = max(space.shape[1] // height, 1)
    return PlaceGrid(height, width, space.shape[1], space.shape[2], stride=stride, field=stride)


def _arrived(extractor: nn.Module, _: Any) -> None:
    """After ``load_state_dict``, of an agent's for example: the weights are there."""
    extractor.missing = None  # type: ignore[assignment]
