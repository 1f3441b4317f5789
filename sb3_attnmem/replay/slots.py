"""What the slots of a tape hold."""

from enum import IntEnum

import numpy as np


class Slot(IntEnum):
    """
    What a slot of a tape holds. Three steps of an episode that a time limit ends, two of one that terminates,
    and the beginning of the next::

        slot     0           1           2           3      4           5         6           7
        kind     TRANSITION  TRANSITION  TRANSITION  FINAL  TRANSITION  TERMINAL  TRANSITION  FINAL (newest)
        start    yes                                        yes                   yes
    """

    EMPTY = 0
    TRANSITION = 1  # an observation, the action taken there and the reward; its successor is the next slot
    TERMINAL = 2  # the same for the last step of an episode that terminated: it has no successor
    FINAL = 3  # an observation that no action followed: an episode's end at a time limit, or the newest observation


#: Of a transition that goes on, and of one that terminates
KIND_OF_STEP = np.array([Slot.TRANSITION, Slot.TERMINAL], dtype=np.uint8)
