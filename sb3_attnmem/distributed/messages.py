"""What a learner and its actors send one another: requests and weights one way, chunks of experience the other."""

from typing import Any, NamedTuple

import numpy as np

from sb3_attnmem.replay import Steps


class Beginning(NamedTuple):
    """
    How an actor begins, at first and after each failure.

    :param seed: of its environments and of exploring
    :param first_episode: the number of its first episode on the ladder of exploration
    :param slots_of_block: (E,) where the tape of each environment stands in its block
    """

    seed: int
    first_episode: int
    slots_of_block: np.ndarray


class Request(NamedTuple):
    """
    What a learner asks an actor for.

    :param actor: its number
    :param incarnation: how often it was begun before
    :param number: of the chunk, from 0 in each incarnation
    :param n_steps: of each environment
    :param num_timesteps: environment steps of all actors that were asked for before
    :param total_timesteps: that they shall make
    :param beginning: of the incarnation; None: it goes on
    """

    actor: int
    incarnation: int
    number: int
    n_steps: int
    num_timesteps: int
    total_timesteps: int
    beginning: Beginning | None = None


class Weights(NamedTuple):
    """
    What actors act by.

    :param version: how many were published before
    :param network: name -> array, of the Q-network
    :param statistics: what ``VecNormalize`` knows; None where nothing is normalised by it
    """

    version: int
    network: dict[str, np.ndarray]
    statistics: dict[str, Any] | None


class Chunk(NamedTuple):
    """
    Experience of an actor.

    :param actor: its number
    :param incarnation: how often it was begun before
    :param number: from 0 in each incarnation; where one is missing, the chain is broken
    :param version: of the weights that it acted by
    :param steps: what its environments did
    :param n_episodes: the number that its next episode gets on the ladder of exploration
    :param seconds: that the steps took
    :param process: id of the actor's process
    """

    actor: int
    incarnation: int
    number: int
    version: int
    steps: Steps
    n_episodes: int
    seconds: float
    process: int
