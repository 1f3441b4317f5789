"""A sum tree for drawing in proportion to priorities, vectorised: no Python loop over samples."""

import numpy as np

#: of a weight, so that no sum overflows
LARGEST = 1e290


class SumTree:
    """
    Non-negative weights at n leaves, whose sums are kept in a complete binary tree. Setting or drawing m leaves takes
    O(log n) numpy operations on arrays of m.

    :param n_leaves: n
    :raises ValueError: when there is no leaf
    """

    def __init__(self, n_leaves: int) -> None:
        if n_leaves < 1:
            raise ValueError(f"A SumTree needs at least one leaf, got n_leaves={n_leaves}.")
        self.n_leaves = n_leaves
        self.depth = max(n_leaves - 1, 1).bit_length()
        self.n_wide = 2**self.depth
        # Node i has the children 2i and 2i + 1; the leaves are the last n_wide nodes. float64, since sums of many
        # float32 weights would drift away from what the leaves say
        self.nodes = np.zeros(2 * self.n_wide)

    @property
    def total(self) -> float:
        """:return: the sum over all leaves"""
        return float(self.nodes[1])

    def get(self, leaves: np.ndarray) -> np.ndarray:
        """
        Look up weights.

        :param leaves: (m,) indices
        :return: (m,) their weights
        """
        return self.nodes[self.n_wide + leaves]

    def set(self, leaves: np.ndarray, weights: np.ndarray | float) -> None:
        """
        Set weights, and the sums above them.

        :param leaves: (m,) indices; where one comes twice, the last counts
        :param weights: (m,) or one for all, from 0 to ``LARGEST``
        :raises ValueError: for a weight that is not
        """
        weights = np.asarray(weights, dtype=np.float64)
        if not ((weights >= 0) & (weights <= LARGEST)).all():
            raise ValueError(
                f"Priorities to their power must be finite numbers from 0 to {LARGEST:g}; look at the TD errors they "
                "come from, and scale the rewards."
            )
        nodes = self.n_wide + np.asarray(leaves)
        self.nodes[nodes] = weights
        for _ in range(self.depth):
            # Parents are summed anew from their children, never adjusted by differences, so that errors cannot build up
            nodes = nodes >> 1
            self.nodes[nodes] = self.nodes[2 * nodes] + self.nodes[2 * nodes + 1]

    def draw(self, points: np.ndarray) -> np.ndarray:
        """
        Draw leaves in proportion to their weights.

        :param points: (m,) places in [0, 1) along the leaves laid end to end
        :return: (m,) the leaf that each place falls on, never one of weight 0
        :raises ValueError: when all weights are 0
        """
        if self.total <= 0:
            raise ValueError("Nothing to draw from: every weight in the tree is 0.")
        rest = points * self.total
        nodes = np.ones(len(points), dtype=np.int64)
        for _ in range(self.depth):
            left = 2 * nodes
            # Rounding may leave a rest beyond the left child where the right one is empty
            goes_right = (rest >= self.nodes[left]) & (self.nodes[left + 1] > 0)
            rest = np.where(goes_right, rest - self.nodes[left], rest)
            nodes = left + goes_right
        return nodes - self.n_wide
