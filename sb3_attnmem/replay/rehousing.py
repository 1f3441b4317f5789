"""What is stored, on as many tapes as there are environments now."""

import numpy as np

from sb3_attnmem.replay.tapes import Tapes


def rehouse(tapes: Tapes, n_envs: int, capacity: int) -> Tapes:
    """
    The same experience for another number of environments. Chains end where the old tapes end. Where old tapes
    share a new one, an episode whose beginning was overwritten starts from the initial state instead. A tape is
    never split, so going to more environments, whose tapes are shorter, keeps only the newest of each.
    (The slots before the oldest are not kept: the first stacks of each tape lose their older frames.)

    :param tapes: the old ones, whose chains are cut
    :param n_envs: of the new tapes
    :param capacity: of each new tape
    :return: new tapes; where they are too small for everything, the newest blocks of each old tape stay
    """
    new = Tapes(
        n_envs, capacity, tapes.block, tapes.observation_space, tapes.n_actions, tapes.state_like, tapes.n_before
    )
    if tapes.masks is not None:
        new.add_masks()
    tapes.cut()
    for row in range(tapes.n_envs):
        last_block = (tapes.ends[row] - 1) // tapes.block
        first_block = max(tapes.oldest[row] // tapes.block, last_block + 1 - new.n_alive)
        if tapes.ends[row] == 0:
            continue
        target = int(new.heads.argmin())
        target_block = -(-new.heads[target] // new.block)
        blocks = np.arange(first_block, last_block + 1)
        old_blocks = blocks % tapes.n_blocks
        new_blocks = (blocks - first_block + target_block) % new.n_blocks
        for old_array, new_array in zip(tapes.arrays(), new.arrays(), strict=True):
            old_view = old_array[row].reshape(tapes.n_blocks, -1)
            new_array[target].reshape(new.n_blocks, -1)[new_blocks] = old_view[old_blocks]
        if target_block > 0:
            new.starts[target, new_blocks[0] * new.block] = True
        new.heads[target] = tapes.ends[row] + (target_block - first_block) * tapes.block
    return new
