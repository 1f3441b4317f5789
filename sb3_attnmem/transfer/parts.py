"""The networks of a policy, and names for their parts that are the same in all algorithms."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

#: what the Q-head is called inside a Q-network, of DQN or of QRDQN
HEADS = re.compile(r"^(q_net|quantile_net)(?=\.|$)")
#: actor-critic policies list their features extractor once more for each head
COPIES = re.compile(r"^(pi|vf)_(?=features_extractor(\.|$))")


class Networks(NamedTuple):
    """
    The networks of a policy.

    :param online: the one that learns; of an actor-critic the policy itself
    :param target: the one that follows it, if there is one
    """

    online: nn.Module
    target: nn.Module | None

    @property
    def all(self) -> list[nn.Module]:
        """:return: one or two"""
        return [self.online] if self.target is None else [self.online, self.target]


def networks_of(policy: BasePolicy) -> Networks:
    """
    Find the networks of a policy.

    :param policy: of RecurrentDQN, DQN, QRDQN, PPO or A2C
    :return: its networks
    :raises ValueError: for another kind
    """
    if isinstance(policy, DQNPolicy):
        return Networks(policy.q_net, policy.q_net_target)
    if isinstance(policy, QRDQNPolicy):
        return Networks(policy.quantile_net, policy.quantile_net_target)
    if isinstance(policy, ActorCriticPolicy):
        return Networks(policy, None)
    raise ValueError(
        f"{type(policy).__name__} is not one of the policies whose parts are known: those of RecurrentDQN, DQN, QRDQN, "
        "PPO and A2C."
    )


def common_name(name: str) -> str:
    """
    Name a part as it is named in every algorithm.

    :param name: of a parameter, buffer or module inside a network
    :return: the name that it has in every algorithm: the Q-head is ``q_head``, and adapters leave names as they were
    """
    return HEADS.sub("q_head", name).replace(".base_layer", "")


def name_in_file(key: str) -> str | None:
    """
    Name a tensor of a saved policy as it is named in every algorithm.

    :param key: of a policy's saved state dict
    :return: its common name; None in a target network
    """
    network, _, rest = key.partition(".")
    if network in ("q_net_target", "quantile_net_target"):
        return None
    return common_name(rest if network in ("q_net", "quantile_net") else key)


def without_copies(name: str) -> str:
    """:return: the name, ``features_extractor`` for each of an actor-critic's"""
    return COPIES.sub("", name)


def part_of(name: str, part: str) -> bool:
    """:return: whether a tensor belongs to a part ("memory") or to something in it ("memory.rnn")"""
    name = without_copies(name)
    return name == part or name.startswith(f"{part}.")


def list_parts(names: Iterable[str]) -> list[str]:
    """
    List the parts that tensors belong to.

    :param names: of tensors
    :return: the parts they belong to, in order
    """
    return list(dict.fromkeys(without_copies(name).split(".")[0] for name in names))
