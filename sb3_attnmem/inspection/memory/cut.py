"""What an agent would do had its memory been cut some steps ago."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

from sb3_attnmem.dqn_recurrent import RecurrentQNetwork
from sb3_attnmem.inspection.memory.played import PlayedEpisode, windows_before
from sb3_attnmem.inspection.memory.playing import last_q_values
from sb3_attnmem.inspection.memory.reach import chunks_of


def cut_q_values(
    q_net: RecurrentQNetwork, episode: PlayedEpisode, k: int, tick: Callable[[int], Any] = lambda n: None
) -> np.ndarray:
    """
    The Q-values at every step of an episode with the state rebuilt from the last k observations, as
    :class:`~sb3_attnmem.inspection.memory.playing.LastSteps` plays; the episode stays the one that was played.

    :param q_net: of the agent
    :param episode: T steps
    :param k: observations, the present one included
    :param tick: called with the number of steps that were done
    :return: (T, A)
    """
    found = []
    moments = [(0, step) for step in range(len(episode.starts))]
    with th.no_grad():
        for chunk in chunks_of(moments, k * episode.features[0].numel()):
            features, starts = windows_before([episode], [(0, step + 1) for _, step in chunk], k)
            latents = q_net.memory.unroll(features, q_net.memory.initial_state(len(chunk)), starts)
            found.append(last_q_values(q_net, features, latents).cpu().numpy())
            tick(len(chunk))
    return np.concatenate(found)
