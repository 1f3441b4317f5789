"""Parts of another agent as a model's start."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file
from torch import nn

from sb3_attnmem.common.weights_files import differences, with_new_names
from sb3_attnmem.extractors import PretrainedExtractor
from sb3_attnmem.transfer.adapters import is_adapter
from sb3_attnmem.transfer.arguments import policy_of
from sb3_attnmem.transfer.parts import common_name, list_parts, name_in_file, networks_of, part_of, without_copies

Tensors = dict[str, th.Tensor]


def load_pretrained(model: BaseAlgorithm, path: str | Path, parts: str | Sequence[str] | None = None) -> list[str]:
    """
    Fill parts of a model with those of a saved agent, of the same or another algorithm (RecurrentDQN, DQN, QRDQN, PPO,
    A2C). The target network gets them too. Only tensors are read from the file, nothing in it is executed; statistics
    of ``VecNormalize`` are a file of their own and stay with the caller::

        load_pretrained(model, "agent.zip", parts=("features_extractor", "memory"))

    :param model: to be filled, in place
    :param path: what the agent's ``save`` wrote
    :param parts: "features_extractor", "encoder", "memory", "fusion", "q_head" (of an actor-critic "mlp_extractor",
        "action_net", "value_net"), or something inside one ("memory.rnn"); None: all that both have
    :return: the names of the tensors that were filled
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it is no agent's, a part is not there or not here, or a tensor does not fit (each is
        named, with its shape there and here); the model is then as it was
    """
    policy = policy_of(model)
    networks = networks_of(policy).all
    here = [_tensors(network) for network in networks]
    there = with_new_names(read_agent(path), here[0])
    parts = _check_parts(parts, path, there, here[0])
    wanted = [_those_in(parts, tensors) for tensors in here]
    given = _for_each_copy(_those_in(parts, there), wanted[0])
    for tensors in wanted:
        problem = differences(given, tensors, extras=True)
        if problem:
            raise ValueError(f"{path} does not fit the model:\n{problem}\nName other parts, or build the model alike.")
    with th.no_grad():
        for tensors in wanted:
            for name, tensor in tensors.items():
                tensor.copy_(given[name])
    _settle(policy, networks, set(given))
    return list(wanted[0])


def read_agent(path: str | Path) -> Tensors:
    """
    Read the weights of an agent; nothing that its file holds is executed.

    :param path: of an agent's file, with or without ".zip"
    :return: the tensors of its policy by their common names, less those of a target network
    :raises FileNotFoundError: when there is no such file
    :raises ValueError: when it is no agent's
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path={path!r} must be the path of an agent's file.")
    given, path = Path(path), Path(path)
    if not given.is_file():
        path = Path(f"{given}.zip")
        if not path.is_file():
            raise FileNotFoundError(f"There is no agent {given} or {path}.")
    try:
        _, saved, _ = load_from_zip_file(path, device="cpu", load_data=False)
    except Exception as error:  # a broken file can raise anything: zlib's error, struct's, NotImplementedError, …
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} is no agent that Stable-Baselines3 saved, or holds more than tensors where its weights should be; "
            f"nothing of it was executed ({reason})."
        ) from error
    weights = saved.get("policy")
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise ValueError(f"{path} holds no policy, only {', '.join(saved) or 'nothing'}: it is no agent's file.")
    if any(map(is_adapter, weights)):
        raise ValueError(
            f"The agent in {path} has adapters. Load it, merge_adapters(agent), save it, and start from that file."
        )
    named = ((name_in_file(key), tensor) for key, tensor in weights.items())
    return {name: tensor for name, tensor in named if name is not None}


def _tensors(network: nn.Module) -> Tensors:
    """:return: parameters and buffers by their common names; the tensors themselves, adapters excluded"""
    return {common_name(name): tensor for name, tensor in network.state_dict().items() if not is_adapter(name)}


def _those_in(parts: Sequence[str], tensors: Tensors) -> Tensors:
    """:return: the tensors that belong to one of the parts"""
    return {name: tensor for name, tensor in tensors.items() if any(part_of(name, part) for part in parts)}


def _for_each_copy(given: Tensors, wanted: Iterable[str]) -> Tensors:
    """
    :param given: tensors of an agent, by name
    :param wanted: names of tensors in the model, in which an actor-critic's extractors are listed once more
    :return: what is given, also under the names of such copies; copies that only the agent has are left out
    """
    given = dict(given)
    for name in wanted:
        if name not in given and without_copies(name) in given:
            given[name] = given[without_copies(name)]
    names = set(wanted)
    return {name: tensor for name, tensor in given.items() if name in names or without_copies(name) == name}


def _check_parts(parts: str | Sequence[str] | None, path: object, there: Tensors, here: Tensors) -> list[str]:
    """
    :return: the parts to load, those that both have if none were named
    :raises ValueError: where one is not in both, or there is none
    """
    parts_there, parts_here = list_parts(there), list_parts(here)
    listed = f"The agent of {path} has {', '.join(parts_there)}; the model has {', '.join(parts_here)}."
    if parts is None:
        parts = [part for part in parts_there if part in parts_here]
    parts = [parts] if isinstance(parts, str) else parts
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"parts={parts!r} must be names of parts, or None for all that both have. {listed}")
    for part in parts:
        for side, names in (("model", here), ("agent", there)):
            if not any(part_of(name, part) for name in names):
                raise ValueError(f"parts: {part!r} is not in the {side}. {listed}")
    if not parts:
        raise ValueError(f"parts: nothing to load. {listed}")
    return list(parts)


def _settle(policy: BasePolicy, networks: Iterable[nn.Module], filled: set[str]) -> None:
    """Forget what belonged to the weights before: the optimiser's averages, a file that was missed."""
    for network in networks:
        for name, module in network.named_modules():
            if isinstance(module, PretrainedExtractor):
                held = {common_name(f"{name}.module.{inside}") for inside in _tensors(module.module)}
                module.missing = None if held <= filled else module.missing
        for name, weight in network.named_parameters():
            if common_name(name) in filled:
                policy.optimizer.state.pop(weight, None)
