"""How many updates the experience that was collected allows."""

import math

from sb3_attnmem.dqn_recurrent.training import Pace


class RateLimiter:
    """
    Holds the samples an insert (learning steps that updates are computed from, per transition collected) where they
    shall be: the learner makes the updates that are due after each chunk, no more, and takes the next one in only
    then. So the number of updates never leads, and lags by one chunk at most.

    :param pace: of the model, in a single process
    :param since: transitions collected before any update is due
    :param samples_per_insert: that there shall be; None: as many as in a single process
    :param samples_per_update: learning steps in a batch, at most
    """

    def __init__(
        self, pace: Pace, since: int, samples_per_insert: float | None = None, samples_per_update: int = 1
    ) -> None:
        self.pace, self.since, self.samples_per_update = pace, since, samples_per_update
        self.updates_per_transition = None if samples_per_insert is None else samples_per_insert / samples_per_update
        self._episodes_before = 0
        self._steps_before = since

    @property
    def interval(self) -> int:
        """:return: transitions from one time that updates are due to the next; 1 where episodes are counted"""
        if self.updates_per_transition is not None:
            return math.ceil(1 / self.updates_per_transition)
        return 1 if self.pace.in_episodes else self.pace.every

    def due(self, n_transitions: int, n_episodes: int) -> int:
        """
        Count the updates that became due since the last call, which the caller makes.

        :param n_transitions: collected so far
        :param n_episodes: that ended so far
        :return: updates
        """
        if n_transitions <= self.since:
            self._episodes_before = n_episodes
            return 0
        before, self._steps_before = max(self._steps_before, self.since), n_transitions
        if self.updates_per_transition is not None:
            share = self.updates_per_transition
            return int((n_transitions - self.since) * share) - int((before - self.since) * share)
        every = self.pace.every
        if self.pace.in_episodes:
            episodes, self._episodes_before = self._episodes_before, n_episodes
            return self.pace.updates * (n_episodes // every - episodes // every)
        return self.pace.updates * (n_transitions // every - before // every)
