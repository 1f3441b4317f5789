"""What a batch of replayed sequences looks like."""

from typing import NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import TensorDict


class SequencePart(NamedTuple):
    """
    Steps to unroll a network over. B sequences, T steps, N <= B * T frames that exist.

    :param observations: (N, ...) or a dict of such tensors: the frames that exist, in row-major order; padding has none
    :param position: (N,) long, where each frame lies among the B * T steps
    :param present: (B, T) bool, True where there is a frame
    :param episode_starts: (B, T) bool
    """

    observations: th.Tensor | TensorDict
    position: th.Tensor
    present: th.Tensor
    episode_starts: th.Tensor


class SequenceSamples(NamedTuple):
    """
    A batch of B windows. Column t of the (B, T) tensors is step t of the window; T covers the learning steps
    and the steps after them that n-step targets look ahead to.

    :param state: the acting network's state before the first frame of ``burn_in`` where a row has one,
        else before the first frame of ``window``; tensors (B, ...)
    :param burn_in: the steps before the window, right-aligned; None where no row has any
    :param window: the window, left-aligned
    :param actions: (B, T) long, the action taken at the step
    :param rewards: (B, T) float, the reward that followed
    :param transitions: (B, T) bool: an action was taken here (not so at the observation that ends a time-limited
        episode, at the newest observation of a tape, and in padding)
    :param terminals: (B, T) bool: the transition ended its episode by termination
    :param learning: (B, T) bool: the transition belongs to the learning part, so it enters the loss
    :param drawn: (B,) tapes and (B,) windows, to say what new priorities or refreshed states belong to
    :param weights: (B,) importance weights, None where all are 1
    """

    state: tuple[th.Tensor, ...]
    burn_in: SequencePart | None
    window: SequencePart
    actions: th.Tensor
    rewards: th.Tensor
    transitions: th.Tensor
    terminals: th.Tensor
    learning: th.Tensor
    drawn: tuple[np.ndarray, np.ndarray]
    weights: th.Tensor | None = None
