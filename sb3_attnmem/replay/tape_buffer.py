"""Transitions as they come, stored on one tape an environment."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.observations import Observation, map_observation, rows_of
from sb3_attnmem.replay.batches import SequencePart
from sb3_attnmem.replay.capacity import check_memory, check_room
from sb3_attnmem.replay.stacks import FrameStack
from sb3_attnmem.replay.tapes import Tapes


class TapeBuffer(ReplayBuffer):
    """
    Stores each observation once, in one tape an environment, and the acting network's state every few steps.

    A time-limited episode takes one slot more than it has steps, for its true final observation.

    :param buffer_size: transitions, over all environments
    :param observation_space: observation space
    :param action_space: a ``Discrete`` space
    :param device: where tensors go that are read
    :param n_envs: number of environments
    :param optimize_memory_usage: must be False: each observation is stored once anyway
    :param handle_timeout_termination: bootstrap where a time limit ended the episode; if False, it counts as terminal
    :param state_interval: states are stored every so many steps
    :param frame_stack: how observations stack frames, to store each frame once; None stores observations as they are
    :raises ValueError: for options that do not fit one another
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str,
        n_envs: int,
        optimize_memory_usage: bool,
        handle_timeout_termination: bool,
        state_interval: int,
        frame_stack: FrameStack | None,
    ) -> None:
        # Past ReplayBuffer.__init__, which allocates arrays of another layout
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage=True is not needed here: the sequence buffer stores each observation once. "
                "Leave the argument out."
            )
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"{type(self).__name__} stores Discrete actions; the action space is {action_space}.")
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.state_interval = state_interval
        self.frame_stack = frame_stack
        self.tapes: Tapes | None = None
        self._staged_state: tuple[np.ndarray, ...] = ()

    @property
    def least_room(self) -> int:
        """:return: transitions that each environment must have room for"""
        return 1

    @property
    def is_empty(self) -> bool:
        """:return: whether no transition is stored, so that there is nothing to sample"""
        return self.tapes is None or not self.tapes.heads.any()

    def size(self) -> int:
        """:return: transitions stored per environment (on average), as in SB3"""
        return 0 if self.tapes is None else self.tapes.n_transitions() // self.n_envs

    def reset(self) -> None:
        super().reset()
        self.tapes = None

    def allocate(self, state_like: tuple[th.Tensor, ...] = ()) -> None:
        """
        Make room for ``buffer_size`` transitions, unless there is room already. The operating system hands out the
        memory as it is written to.

        :param state_like: a state of the memory, tensors (B, ...), for shapes and dtypes
        :raises ValueError: when the buffer holds less than one sequence an environment, or needs more than the free RAM
        """
        if self.tapes is not None:
            return
        check_room(self.buffer_size, self.n_envs, self.least_room)
        described = self.describe(state_like)
        check_memory(self._make_tapes(1, described), self.buffer_size)
        self.tapes = self._make_tapes(self.buffer_size, described)

    @staticmethod
    def describe(state: tuple[th.Tensor, ...]) -> list[tuple[tuple[int, ...], np.dtype]]:
        """
        :param state: a state of the memory, tensors (B, ...)
        :return: shape (without B) and dtype of each tensor, as they are stored
        """
        return [(tuple(tensor.shape[1:]), tensor.detach().cpu().numpy().dtype) for tensor in state]

    def _make_tapes(self, capacity: int, state_like: list[tuple[tuple[int, ...], np.dtype]]) -> Tapes:
        assert isinstance(self.action_space, spaces.Discrete)
        stack = self.frame_stack
        return Tapes(
            self.n_envs,
            capacity,
            self.state_interval,
            self.observation_space if stack is None else stack.frame_space(self.observation_space),
            int(self.action_space.n),
            state_like,
            n_before=0 if stack is None else stack.n_frames - 1,
        )

    def stage_state(self, state: tuple[th.Tensor, ...]) -> None:
        """
        Say which state the acting network had before the observations of the next :meth:`add`.

        :param state: tensors (n_envs, ...)
        """
        self._staged_state = tuple(tensor.detach().cpu().numpy() for tensor in state)

    def add(
        self,
        obs: Observation,
        next_obs: Observation,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one transition of every environment. Unless :meth:`cut` was called or the last ``done`` was True, ``obs``
        is the ``next_obs`` of the call before.

        :param obs: (n_envs, ...)
        :param next_obs: (n_envs, ...), the true final observation where an episode ended
        :param action: (n_envs,) or (n_envs, 1)
        :param reward: (n_envs,)
        :param done: (n_envs,)
        :param infos: one dict an environment; ``TimeLimit.truncated`` tells a time limit from a termination
        """
        if self.tapes is None:
            self.allocate(tuple(th.as_tensor(array) for array in self._staged_state))
        assert self.tapes is not None
        if self.frame_stack is not None:
            beginning = ~self.tapes.open
            if beginning.any():
                self.frame_stack.check_beginnings(rows_of(obs, beginning))
            obs, next_obs = self.frame_stack.newest(obs), self.frame_stack.newest(next_obs)
        done = np.asarray(done, dtype=bool)
        truncated = np.zeros_like(done)
        if self.handle_timeout_termination and done.any():
            truncated = done & np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        self.tapes.append(
            obs, next_obs, np.reshape(action, -1), reward, done & ~truncated, truncated, self._staged_state
        )
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def cut(self, which: np.ndarray | None = None) -> None:
        """
        Environments were reset without ``done``: what comes next does not follow what is stored.

        :param which: (n_envs,) bool, which of them; None: all
        """
        if self.tapes is not None:
            self.tapes.cut(which)

    def change_n_envs(self, n_envs: int) -> None:
        """
        Go on with another number of environments, keeping what is stored (see :meth:`Tapes.rehouse`).

        :param n_envs: the new number
        :raises ValueError: when what is stored leaves each of them less room than one sequence
        """
        buffer_size = max(self.buffer_size * self.n_envs // n_envs, 1)
        if self.tapes is not None:
            check_room(buffer_size, n_envs, self.least_room)
        self.n_envs = n_envs
        self.buffer_size = buffer_size
        self.pos = 0
        if self.tapes is not None:
            self.tapes = self.tapes.rehouse(n_envs, self.buffer_size)

    def read(
        self,
        rows: np.ndarray,
        slots: np.ndarray,
        present: np.ndarray,
        starts: np.ndarray,
        env: VecNormalize | None = None,
    ) -> SequencePart:
        """
        Read any slots of the tapes, T of each of B.

        :param rows: (B,) tapes
        :param slots: (B, T)
        :param present: (B, T) bool, which of them are read
        :param starts: (B, T) bool, the first steps of episodes
        :param env: normalises observations as it does now
        :return: the steps, to unroll a network over
        """
        assert self.tapes is not None
        index = np.flatnonzero(present)
        row_of_frame = rows[index // present.shape[1]]
        slot_of_frame = slots.reshape(-1)[index]
        if self.frame_stack is not None:
            frames = self.frame_stack.rebuild(self.tapes, row_of_frame, slot_of_frame)
        else:
            frames = self.tapes.read(row_of_frame, slot_of_frame)
        frames = self._normalize_obs(frames, env)
        return SequencePart(
            observations=map_observation(lambda array: self.to_torch(array, copy=False), frames),
            position=self.to_torch(index, copy=False),
            present=self.to_torch(present, copy=False),
            episode_starts=self.to_torch(starts, copy=False),
        )
