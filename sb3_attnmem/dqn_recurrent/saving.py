"""What of a model is saved with it; loading models, and replay buffers that others have filled."""

import io
import pathlib
from contextvars import ContextVar
from typing import Any, TypeVar

from sb3_attnmem.dqn_recurrent.arguments import check_loaded
from sb3_attnmem.dqn_recurrent.offline import with_online_counters
from sb3_attnmem.dqn_recurrent.training import TrainingOnSequences
from sb3_attnmem.replay import SequenceReplayBuffer

#: whether the object that is made gets its attributes from a file
FROM_FILE = ContextVar("FROM_FILE", default=False)

SelfSavingAndLoading = TypeVar("SelfSavingAndLoading", bound="SavingAndLoading")


class SavingAndLoading(TrainingOnSequences):
    """The side of :class:`~sb3_attnmem.RecurrentDQN` that is written to files and read from them."""

    sequence_length: int
    burn_in: int

    @classmethod
    def load(cls: type[SelfSavingAndLoading], *args: Any, **kwargs: Any) -> SelfSavingAndLoading:
        token = FROM_FILE.set(True)
        try:
            return super().load(*args, **kwargs)
        finally:
            FROM_FILE.reset(token)

    def sequence_options(self) -> dict[str, Any]:
        """:return: the arguments of this model that its replay buffer takes as well"""
        return dict(sequence_length=self.sequence_length, burn_in=self.burn_in, n_steps=self.n_steps)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer, also one that was filled by another number of environments. The next ``learn`` begins with
        an episode.

        :param path: what ``save_replay_buffer`` wrote
        :param truncate_last_traj: not used: the newest transition keeps its successor
        :raises ValueError: when the file holds another kind of buffer, or one for other sequences
        """
        before = self.replay_buffer  # None also where it was deleted to save memory
        try:
            super().load_replay_buffer(path, truncate_last_traj)
            ours: dict[str, Any] = {
                **self.sequence_options(),
                "observation_space": self.observation_space,
                "action_space": self.action_space,
                "states": SequenceReplayBuffer.describe(self._stored(self.q_net.memory.initial_state(1))),
            }
            buffer = check_loaded(self.replay_buffer, ours, path)
            n_tapes = self.n_tapes or self.n_envs
            if buffer.n_envs != n_tapes:
                buffer.change_n_envs(n_tapes)
        except Exception:
            self.replay_buffer = before
            raise
        self.interrupt()

    def _excluded_save_params(self) -> list[str]:
        running = ["_memory_state", "_last_obs", "_last_original_obs", "_last_episode_starts", "_step_under_way"]
        running += [
            "_step",
            "_refresh_step",
            "_ladder",
            "_statistics",
            "_watched_env",
            "_held",
            "_last_valid",
            "_stopped",
            "_weights",
            "_exploration_rng",
            "_prediction_rng",
            "_online_counters",
        ]
        return [*super()._excluded_save_params(), *running]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._n_begun = self._ladder.n_episodes
        with with_online_counters(self):
            super().save(*args, **kwargs)
