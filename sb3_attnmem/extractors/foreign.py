"""Modules that were made elsewhere: build them, call them with observations, take what they give."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from torch import nn


def build_module(module: Any, module_kwargs: dict[str, Any] | None) -> nn.Module:
    """
    Build a module, or copy one.

    :param module: an ``nn.Module``, or what builds one
    :param module_kwargs: for building it
    :return: a module of the caller's own
    :raises ValueError: when it is neither, does not take these options, or has no values
    """
    built = _call_or_copy(module, module_kwargs)
    empty = [name for name, tensor in built.state_dict().items() if isinstance(tensor, th.Tensor) and tensor.is_meta]
    if empty:
        raise ValueError(
            f"{type(built).__name__} has tensors of the meta device, without values ({empty[0]}): build it outside "
            "torch.device('meta'), or fill it before it is passed."
        )
    return built


def output_shape(module: nn.Module, space: spaces.Space) -> tuple[int, ...]:
    """
    Find out what a module gives for one observation.

    :param module: that is called; its modes are left as they are
    :param space: of observations
    :return: (1, D), (1, C, H, W) or (1, T, C)
    :raises ValueError: when it cannot be called with such observations, or gives something else
    """
    observation = copy.deepcopy(space).sample()
    if isinstance(observation, dict):
        batch: Any = {key: th.as_tensor(value).unsqueeze(0) for key, value in observation.items()}
    else:
        batch = th.as_tensor(observation).unsqueeze(0)
    modes = {layer: layer.training for layer in module.modules()}
    module.eval()
    try:
        with th.no_grad():
            features = call_module(module, space, preprocess_obs(batch, space))
    except ValueError:
        raise
    except Exception as error:  # the module is the user's: it can raise anything
        raise ValueError(
            f"{type(module).__name__} cannot be called with an observation of {space} ({type(error).__name__}: "
            f"{error}). It gets the batch, (1, …) here; of a Dict each key by its name."
        ) from error
    finally:
        for layer, mode in modes.items():
            layer.training = mode
    if features.dim() not in (2, 3, 4):
        raise ValueError(
            f"{type(module).__name__} gives a tensor of shape {tuple(features.shape)} for one observation; it must be "
            "a vector (1, D), a map (1, C, H, W) or tokens (1, T, C)."
        )
    return tuple(features.shape)


def call_module(module: nn.Module, space: spaces.Space, observations: Any) -> th.Tensor:
    """
    Call a module with observations.

    :param module: that is called
    :param space: of the observations
    :param observations: (B, ...), or a dict of such tensors, which is passed by keyword
    :return: the tensor among what it gives
    :raises ValueError: when there is none
    """
    if isinstance(space, spaces.Dict):
        return _tensor_of(module, module(**{key: _as_read(space[key], observations[key]) for key in space}))
    return _tensor_of(module, module(_as_read(space, observations)))


def _call_or_copy(module: Any, module_kwargs: dict[str, Any] | None) -> nn.Module:
    options = {} if module_kwargs is None else module_kwargs
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise ValueError(f"module_kwargs={module_kwargs!r} must be a dict of options by their names.")
    if isinstance(module, nn.Module):
        if options:
            raise ValueError(f"module is a {type(module).__name__} already: module_kwargs are for a class or function.")
        return copy.deepcopy(module)
    if not callable(module):
        raise ValueError(
            f"module={module!r}: pass an nn.Module, or the class or function that builds one (with module_kwargs); "
            "a file of weights belongs to weights=."
        )
    _check_call(module, options)
    built = module(**options)
    if not isinstance(built, nn.Module):
        raise ValueError(f"module={module!r} built a {type(built).__name__} instead of an nn.Module.")
    return built


def _check_call(module: Callable[..., Any], options: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(module)
    except (TypeError, ValueError):
        return  # of what is written in C, nothing is known
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(f"module={module!r} cannot be called with module_kwargs={options!r}: {error}.") from error


def _as_read(space: spaces.Space, observations: th.Tensor) -> th.Tensor:
    """:return: observations, ids as integers"""
    ids = isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.integer) and not is_image_space(space)
    return observations.long() if ids or isinstance(space, spaces.MultiBinary) else observations


def _tensor_of(module: nn.Module, output: Any) -> th.Tensor:
    if isinstance(output, Mapping) and "last_hidden_state" in output:
        output = output["last_hidden_state"]
    output = getattr(output, "last_hidden_state", output)
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, th.Tensor):
        raise ValueError(
            f"{type(module).__name__} gives a {type(output).__name__}; it must give a tensor, or an object with "
            "last_hidden_state. Wrap it in a module whose forward does."
        )
    return output
