"""Action masks: which actions each stored observation allows, a bit each."""

import numpy as np


class MaskRing:
    """
    The action masks of the slots of E tapes, one a slot. What was never written forbids no action.

    :param n_envs: E
    :param n_slots: of each tape
    :param n_actions: A
    """

    def __init__(self, n_envs: int, n_slots: int, n_actions: int) -> None:
        self.n_actions = n_actions
        #: (E, slots, bytes) a bit for each action that is forbidden
        self.forbidden = np.zeros((n_envs, n_slots, -(-n_actions // 8)), dtype=np.uint8)

    def write(self, rows: np.ndarray | int, places: np.ndarray | slice, valid: np.ndarray | None) -> None:
        """
        Store masks.

        :param rows: (n,) tapes, or one for all
        :param places: (n,) on the rings
        :param valid: (n, A) bool, True where an action is valid; None: all are
        """
        self.forbidden[rows, places] = 0 if valid is None else np.packbits(~valid, axis=-1)

    def read(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """
        Read masks.

        :param rows: tapes
        :param places: on the rings, of a shape that goes with ``rows``
        :return: (..., A) bool, True where an action is valid
        """
        return np.unpackbits(self.forbidden[rows, places], axis=-1, count=self.n_actions) == 0
