"""Transitions as they come, stored on one tape an environment."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.checks import check_flag, check_integer
from sb3_attnmem.common.observations import Observation, map_observation, rows_of
from sb3_attnmem.replay.actions import join_actions, n_actions_of
from sb3_attnmem.replay.batches import SequencePart
from sb3_attnmem.replay.capacity import check_memory, check_room
from sb3_attnmem.replay.incoming import breaks, check_incoming, check_rewards, check_states
from sb3_attnmem.replay.rehousing import rehouse
from sb3_attnmem.replay.stacks import FrameStack
from sb3_attnmem.replay.tapes import Tapes


class TapeBuffer(ReplayBuffer):
    """
    Stores each observation once, in one tape an environment, and the acting network's state every few steps.

    :param buffer_size: transitions, over all environments, see :meth:`size`
    :param observation_space: observation space
    :param action_space: a ``Discrete`` or ``MultiDiscrete`` space, whose actions are stored as one number each
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
        buffer_size, n_envs = check_integer("buffer_size", buffer_size), check_integer("n_envs", n_envs)
        if check_flag("optimize_memory_usage", optimize_memory_usage):
            raise ValueError(
                "optimize_memory_usage=True is not needed here: the sequence buffer stores each observation once. "
                "Leave the argument out."
            )
        if not isinstance(action_space, (spaces.Discrete, spaces.MultiDiscrete)):
            raise ValueError(f"{type(self).__name__} stores no actions of {action_space}, but (Multi)Discrete ones.")
        if frame_stack is not None:
            if not isinstance(frame_stack, FrameStack):
                raise ValueError(f"frame_stack={frame_stack!r} must be a FrameStack, or None.")
            frame_stack.check(observation_space)
        # Past ReplayBuffer.__init__, which allocates arrays of another layout
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = check_flag("handle_timeout_termination", handle_timeout_termination)
        self.state_interval = state_interval
        self.frame_stack = frame_stack
        self.tapes: Tapes | None = None
        # The acting network's state before the observations of the next `add`; None: they come from elsewhere
        self._staged_state: tuple[np.ndarray, ...] | None = None
        self._staged_masks: tuple[np.ndarray, np.ndarray] | None = None
        #: the key of a Dict observation that is the action mask
        self.mask_key: str | None = None
        self._last_from_elsewhere = False  # else it is not known what follows the last transitions

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._last_from_elsewhere = False  # pickles of older versions lack it
        self.mask_key = None
        self.__dict__.update(state)
        self._staged_state, self._staged_masks = None, None

    @property
    def least_room(self) -> int:
        """:return: transitions that each environment must have room for"""
        return 1

    @property
    def is_empty(self) -> bool:
        """:return: whether no transition is stored, so that there is nothing to sample"""
        return self.tapes is None or not self.tapes.heads.any()

    def size(self) -> int:
        """
        Count what is stored.

        A full buffer does not hold exactly ``buffer_size`` transitions. Room is freed in blocks of ``state_interval``
        slots, so that up to ``2 * state_interval - 1`` more are kept an environment. The observation that ends an
        episode at a time limit, or where it was cut, takes a slot too, so that of short such episodes fewer are kept.

        :return: transitions stored per environment (on average, rounded down), as in SB3
        """
        return 0 if self.tapes is None else self.tapes.n_transitions() // self.n_envs

    def reset(self) -> None:
        super().reset()
        self.tapes = None
        self._staged_state, self._staged_masks = None, None

    def allocate(self, state_like: tuple[th.Tensor, ...] = ()) -> None:
        """
        Make room for ``buffer_size`` transitions, unless there is room already. The operating system hands out the
        memory as it is written to.

        :param state_like: a state of the memory, tensors (B, ...), for shapes and dtypes
        :raises ValueError: when the buffer holds less than one sequence an environment, needs more than the free RAM,
            or has room for other states
        """
        described = self.describe(state_like)
        if self.tapes is not None:
            check_states(self.tapes.state_like, described)
            return
        check_room(self.buffer_size, self.n_envs, self.least_room)
        check_memory(self._make_tapes(1, described), self.buffer_size)
        self.tapes = self._make_tapes(self.buffer_size, described)

    @staticmethod
    def describe(state: tuple[th.Tensor, ...]) -> list[tuple[tuple[int, ...], np.dtype]]:
        """
        Describe a memory's state.

        :param state: a state of the memory, tensors (B, ...)
        :return: shape (without B) and dtype of each tensor, as they are stored
        """
        return [(tuple(tensor.shape[1:]), tensor.detach().cpu().numpy().dtype) for tensor in state]

    def _make_tapes(self, capacity: int, state_like: list[tuple[tuple[int, ...], np.dtype]]) -> Tapes:
        stack = self.frame_stack
        return Tapes(
            self.n_envs,
            capacity,
            self.state_interval,
            self.observation_space if stack is None else stack.frame_space(self.observation_space),
            n_actions_of(self.action_space),
            state_like,
            n_before=0 if stack is None else stack.n_frames - 1,
        )

    def stage_state(self, state: tuple[th.Tensor, ...]) -> None:
        """
        Set the acting network's state before the observations of the next :meth:`add`. These then count as following
        what is stored, unless an episode ended there or :meth:`cut` was called.

        :param state: tensors (n_envs, ...); an empty tuple where no states are stored
        """
        self._staged_state = tuple(tensor.detach().cpu().numpy() for tensor in state)

    def stage_masks(self, valid: np.ndarray, successors_valid: np.ndarray) -> None:
        """
        Set the action masks of the next :meth:`add`, without which all its actions are valid.

        :param valid: (n_envs, A) bool, the valid actions at ``obs``
        :param successors_valid: (n_envs, A) bool, those at ``next_obs``
        """
        self._staged_masks = valid, successors_valid

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
        Store one transition of every environment; nothing that is passed is kept by reference.

        Without a call of :meth:`stage_state` before, the transitions count as collected elsewhere: they are checked,
        and where ``obs`` is not the last ``next_obs`` of its environment, a new chain begins. In shuffled order each
        transition therefore takes two slots, see :meth:`size`.

        :param obs: (n_envs, ...)
        :param next_obs: (n_envs, ...), the true final observation where an episode ended
        :param action: (n_envs,) or (n_envs, 1); of a ``MultiDiscrete`` space (n_envs, D), or (n_envs,) joint numbers
        :param reward: (n_envs,)
        :param done: (n_envs,), whatever can be taken for booleans
        :param infos: one dict an environment; ``TimeLimit.truncated`` tells a time limit from a termination
        :raises ValueError: when a reward is not finite in 32 bits; of transitions from elsewhere also when a shape is
            wrong, an observation is not finite, an action is none of the space, or the memory's states are missing.
            Nothing is stored then
        """
        state, self._staged_state = self._staged_state, None
        masks, self._staged_masks = self._staged_masks, None
        actions = join_actions(self.action_space, action)
        rewards = check_rewards(reward)
        done = np.asarray(done, dtype=bool).reshape(-1)
        if state is None:
            obs, next_obs = map_observation(np.asarray, obs), map_observation(np.asarray, next_obs)
            check_incoming(
                self.observation_space,
                self.n_envs,
                n_actions_of(self.action_space),
                dict(obs=obs, next_obs=next_obs),
                actions,
                dict(reward=rewards, done=done, infos=infos),
            )
        if self.tapes is None or len(self.tapes.states) != len(state or ()):
            self.allocate(tuple(th.as_tensor(array) for array in state or ()))
        assert self.tapes is not None
        broken = self._breaks(obs) if state is None or self._last_from_elsewhere else None
        if self.frame_stack is not None:
            beginning = ~self.tapes.open if broken is None else ~self.tapes.open | broken
            if beginning.any():
                self.frame_stack.check_beginnings(rows_of(obs, beginning))
            obs, next_obs = self.frame_stack.newest(obs), self.frame_stack.newest(next_obs)
        if broken is not None:
            self.tapes.cut(broken)
        self._last_from_elsewhere = state is None
        truncated = np.zeros_like(done)
        if self.handle_timeout_termination and done.any():
            truncated = done & np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        self.tapes.append(obs, next_obs, actions, rewards, done & ~truncated, truncated, state or (), masks)
        self.pos += 1
        if self.pos == self.buffer_size:
            self.full = True
            self.pos = 0

    def _breaks(self, obs: Observation) -> np.ndarray:
        """:return: (n_envs,) bool, where a chain is open, and does not go on with this observation"""
        assert self.tapes is not None
        tapes = self.tapes
        newest = self._frames(tapes.rows, np.maximum(tapes.ends - 1, 0))
        return tapes.open & breaks(newest, obs)

    def cut(self, which: np.ndarray | None = None) -> None:
        """
        End the open episodes, since environments were reset without ``done``: what comes next does not follow what is
        stored, whose newest transitions keep their successors.

        :param which: (n_envs,) bool, which of them; None: all
        """
        if self.tapes is not None:
            self.tapes.cut(which)

    def change_n_envs(self, n_envs: int) -> None:
        """
        Go on with another number of environments, keeping what is stored, as
        :func:`~sb3_attnmem.replay.rehousing.rehouse` does.

        :param n_envs: the new number
        :raises ValueError: when what is stored leaves each of them less room than one sequence
        """
        n_envs = check_integer("n_envs", n_envs)
        buffer_size = max(self.buffer_size * self.n_envs // n_envs, 1)
        if self.tapes is not None:
            check_room(buffer_size, n_envs, self.least_room)
        self.n_envs = n_envs
        self.buffer_size = buffer_size
        self.pos = 0
        self._staged_state = None
        if self.tapes is not None:
            self.tapes = rehouse(self.tapes, n_envs, self.buffer_size)

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
        frames = self._normalize_obs(self._frames(row_of_frame, slot_of_frame), env)
        return SequencePart(
            observations=map_observation(lambda array: self.to_torch(array, copy=False), frames),
            position=self.to_torch(index, copy=False),
            present=self.to_torch(present, copy=False),
            episode_starts=self.to_torch(starts, copy=False),
        )

    def _frames(self, rows: np.ndarray, slots: np.ndarray) -> Observation:
        """:return: (N, ...) the observations in (N,) slots of (N,) tapes, stacked as they came"""
        assert self.tapes is not None
        if self.frame_stack is not None:
            return self.frame_stack.rebuild(self.tapes, rows, slots)
        return self.tapes.read(rows, slots)
