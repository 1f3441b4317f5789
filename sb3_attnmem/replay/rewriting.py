"""The states of all that a replay buffer holds, computed anew."""

from collections.abc import Callable

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.replay.batches import SequencePart
from sb3_attnmem.replay.slots import Slot
from sb3_attnmem.replay.tape_buffer import TapeBuffer

State = tuple[th.Tensor, ...]


def rewrite_states(
    buffer: TapeBuffer,
    initial_state: State,
    unroll: Callable[[SequencePart, State], State],
    env: VecNormalize | None = None,
) -> None:
    """
    Store the states that a network has over all that a buffer holds, over those that are stored; all tapes at once,
    block by block. Does nothing where no states are stored.

    :param buffer: a plain one
    :param initial_state: of the network, tensors (n_envs, ...)
    :param unroll: from the steps of a block and the state before them to the state after them
    :param env: normalises observations
    """
    tapes = buffer.tapes
    if tapes is None or not tapes.states:
        return
    rows, block, state = tapes.rows, tapes.block, initial_state
    oldest, ends = tapes.oldest, tapes.ends
    for i in range(int((-(-(ends - oldest) // block)).max())):
        begins = oldest + i * block
        alive = begins < ends
        # Ring places of rows that have ended may hold the next block already
        tapes.write_states(rows[alive], begins[alive], [tensor.detach().cpu().numpy()[alive] for tensor in state])
        slots = begins[:, None] + np.arange(block)
        places = slots % tapes.n_slots
        present = (slots < ends[:, None]) & (tapes.kinds[rows[:, None], places] != Slot.EMPTY)
        if present.any():
            starts = tapes.starts[rows[:, None], places] & present
            state = unroll(buffer.read(rows, slots, present, starts, env), state)
