"""One tape of observation slots an environment: what is stored, in which order, and until when."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_attnmem.common.observations import Observation, arrays_of, map_observation, rows_of
from sb3_attnmem.replay.masks import MaskRing
from sb3_attnmem.replay.slots import KIND_OF_STEP, Slot
from sb3_attnmem.replay.stored_spaces import spaces_of, stored_shape


class Tapes:
    """
    A ring of slots for each of E environments, environment-major, so that a sequence is contiguous in memory.
    Slots have absolute numbers that only grow; slot i lies at ring place i % C. The ring is freed in blocks of
    ``block`` slots, and the state before the first slot of each block is kept, so that the oldest slot that lives
    always has its state.

    :param n_envs: E
    :param capacity: slots that must be alive at any time once as many were written
    :param block: slots a block; states are stored for the first slot of each
    :param observation_space: what an observation looks like
    :param n_actions: number of discrete actions, which picks the smallest integer type
    :param state_like: one tensor shape (without the batch axis) and dtype for each tensor of the memory's state
    :param n_before: slots before the oldest that lives whose observations must still be there, to stack frames
    """

    def __init__(
        self,
        n_envs: int,
        capacity: int,
        block: int,
        observation_space: spaces.Space,
        n_actions: int,
        state_like: list[tuple[tuple[int, ...], np.dtype]],
        n_before: int = 0,
    ) -> None:
        self.n_envs = n_envs
        self.capacity = capacity
        self.block = block
        self.observation_space = observation_space
        # One block more than asked for: while the newest block fills, the oldest is gone already
        self.n_alive = -(-capacity // block) + 1
        self.n_before = n_before
        self.n_blocks = self.n_alive + -(-n_before // block)
        self.n_slots = self.n_blocks * block
        self.n_actions = n_actions
        self.state_like = state_like
        shape = (n_envs, self.n_slots)
        # np.zeros takes no memory until it is written to
        self.observations: Observation = map_observation(
            lambda space: np.zeros((*shape, *stored_shape(space)), dtype=space.dtype), spaces_of(observation_space)
        )
        self.actions = np.zeros(shape, dtype=np.min_scalar_type(n_actions - 1))
        self.rewards = np.zeros(shape, dtype=np.float32)
        self.kinds = np.zeros(shape, dtype=np.uint8)
        self.starts = np.zeros(shape, dtype=bool)
        #: the action mask of each observation, see :meth:`add_masks`
        self.masks: MaskRing | None = None
        self.states = [np.zeros((n_envs, self.n_blocks, *dims), dtype=dtype) for dims, dtype in state_like]
        # The slot of the newest observation where a chain is open, of the next observation where it is not
        self.heads = np.zeros(n_envs, dtype=np.int64)
        self.open = np.zeros(n_envs, dtype=bool)
        self.rows = np.arange(n_envs)

    @property
    def ends(self) -> np.ndarray:
        """:return: (E,) one past the newest slot written"""
        return self.heads + self.open

    @property
    def oldest(self) -> np.ndarray:
        """:return: (E,) the oldest slot alive, the first of a block"""
        return np.maximum(0, ((self.ends - 1) // self.block + 1 - self.n_alive) * self.block)

    @property
    def nbytes(self) -> int:
        """:return: bytes of the whole ring, written or not"""
        return sum(array.nbytes for array in self.arrays())

    def arrays(self) -> list[np.ndarray]:
        """:return: every array with the axes (E, slots or blocks, ...)"""
        masks = [] if self.masks is None else [self.masks.forbidden]
        return [
            *(*arrays_of(self.observations), self.actions, self.rewards, self.kinds, self.starts),
            *(*masks, *self.states),
        ]

    def add_masks(self) -> None:
        """Make room for action masks beside the observations, unless there is; what is stored forbids no action."""
        if self.masks is None:
            self.masks = MaskRing(self.n_envs, self.n_slots, self.n_actions)

    def n_transitions(self) -> int:
        """:return: transitions alive, over all environments"""
        slots = self.oldest[:, None] + np.arange(self.n_alive * self.block)
        kinds = self.kinds[self.rows[:, None], slots % self.n_slots]
        return int((((kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL)) & (slots < self.ends[:, None])).sum())

    def append(
        self,
        observation: Observation,
        successor: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        state: tuple[np.ndarray, ...],
        valid: tuple[np.ndarray, np.ndarray] | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        """
        Write one transition of every environment, or of some. Below, E is the number of these.

        :param observation: (E, ...) where the actions were taken; written only where a chain begins, since elsewhere
            it is the successor of the transition before
        :param successor: (E, ...) where they led; the true final observation where an episode ended
        :param actions: (E,)
        :param rewards: (E,)
        :param terminated: (E,) bool
        :param truncated: (E,) bool
        :param state: the acting network's state before ``observation``; tensors (E, ...)
        :param valid: (E, n_actions) bool, the valid actions at ``observation``, and at ``successor``; None: all are
        :param rows: (E,) the tapes of these environments; None: all
        """
        at_first, at_successors = valid or (None, None)
        rows = self.rows if rows is None else rows
        which = np.flatnonzero(~self.open[rows])
        if len(which):
            begins = rows[which]
            self._claim(begins)
            self._write(begins, self.heads[begins] % self.n_slots, which, observation, at_first)
            self.starts[begins, self.heads[begins] % self.n_slots] = True
        slots = self.heads[rows] % self.n_slots
        self.actions[rows, slots] = actions
        self.rewards[rows, slots] = rewards
        self.kinds[rows, slots] = KIND_OF_STEP[terminated.view(np.uint8)]
        first_of_block = slots % self.block == 0
        if self.states and first_of_block.any():
            for array, tensor in zip(self.states, state, strict=True):
                array[rows[first_of_block], slots[first_of_block] // self.block] = tensor[first_of_block]
        self.heads[rows] += 1
        which = np.flatnonzero(~terminated)
        if len(which):
            goes_on = rows[which]
            self._claim(goes_on)
            places = self.heads[goes_on] % self.n_slots
            self._write(goes_on, places, which, successor, at_successors)
            self.kinds[goes_on, places] = Slot.FINAL
            self.starts[goes_on, places] = False
        self.open[rows] = ~(terminated | truncated)
        self.heads[rows[truncated & ~terminated]] += 1

    def lay(
        self,
        row: int,
        observations: Observation,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminated: bool,
        valid: np.ndarray | None = None,
    ) -> None:
        """
        Write a whole episode onto a tape that has room for it. States are left as they are.

        :param row: the tape
        :param observations: (T + 1, ...), the final one included
        :param actions: (T,)
        :param rewards: (T,)
        :param terminated: whether it ended by termination; else by a time limit, or was cut
        :param valid: (T + 1, n_actions) bool, the valid actions at each observation; None: all are
        """
        self.cut()
        n_steps = len(actions)
        # The final observation is kept only where something bootstraps from it
        n_slots = n_steps if terminated else n_steps + 1
        first = int(self.heads[row])
        if first + n_slots > self.n_alive * self.block:
            raise ValueError(f"Tape {row} has no room for an episode of {n_steps} steps behind slot {first}.")
        here, steps = slice(first, first + n_slots), slice(first, first + n_steps)
        self._write(row, here, slice(n_slots), observations, valid)
        self.actions[row, steps] = actions
        self.rewards[row, steps] = rewards
        self.kinds[row, here] = Slot.TRANSITION
        self.kinds[row, first + n_slots - 1] = Slot.TERMINAL if terminated else Slot.FINAL
        self.starts[row, here] = False
        self.starts[row, first] = True
        self.heads[row] = first + n_slots

    def read(self, rows: np.ndarray, slots: np.ndarray) -> Observation:
        """
        Read observations.

        :param rows: (N,)
        :param slots: (N,)
        :return: the observations there, (N, ...)
        """
        places = slots % self.n_slots
        return rows_of(self.observations, (rows, places))

    def write_states(self, rows: np.ndarray, slots: np.ndarray, states: list[np.ndarray]) -> None:
        """
        Store states over those that :meth:`append` stored, where the slots are alive and hold a transition.

        :param rows: (n,)
        :param slots: (n,), each the first of a block
        :param states: tensors (n, ...)
        """
        kinds = self.kinds[rows, slots % self.n_slots]
        alive = (slots >= self.oldest[rows]) & (slots < self.heads[rows])
        alive &= (kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL)
        blocks = slots[alive] // self.block % self.n_blocks
        for array, tensor in zip(self.states, states, strict=True):
            array[rows[alive], blocks] = tensor[alive]

    def cut(self, which: np.ndarray | None = None) -> None:
        """
        End open chains: the newest observation stays as the successor to bootstrap from,
        and what is appended next begins a chain of its own.

        :param which: (E,) bool, of these environments; None: of all
        """
        ended = self.open if which is None else self.open & which
        self.heads += ended
        self.open = self.open & ~ended

    def _claim(self, rows: np.ndarray) -> None:
        """Free the blocks that the slots at ``heads[rows]`` begin to overwrite."""
        places = self.heads[rows] % self.n_slots
        entering = places % self.block == 0
        if entering.any():
            columns = places[entering, None] + np.arange(self.block)
            self.kinds[rows[entering, None], columns] = Slot.EMPTY
            self.starts[rows[entering, None], columns] = False

    def _write(
        self,
        rows: np.ndarray | int,
        places: np.ndarray | slice,
        which: np.ndarray | slice,
        observations: Observation,
        valid: np.ndarray | None,
    ) -> None:
        """
        Copy observations and their masks into the ring.

        :param rows: (n,), or one for all
        :param places: (n,)
        :param which: (n,) of the observations are copied
        :param observations: (N, ...)
        :param valid: (N, n_actions) bool; None: all actions are valid
        """
        if valid is not None:
            self.add_masks()
        if self.masks is not None:
            self.masks.write(rows, places, None if valid is None else valid[which])

        def write(array: np.ndarray, values: np.ndarray) -> None:
            # `Discrete` observations have no axis of their own, but are stored with one
            array[rows, places] = values.reshape(*values.shape, *[1] * (array.ndim - 1 - values.ndim))

        map_observation(write, self.observations, rows_of(observations, which))

    def __getstate__(self) -> dict[str, object]:
        """Leave out what was never written, so that a young replay buffer makes a small file."""
        state = self.__dict__.copy()
        used = int(min(self.n_blocks, (self.ends.max() - 1) // self.block + 1))
        state["observations"] = rows_of(self.observations, (slice(None), slice(used * self.block)))
        for name in ("actions", "rewards", "kinds", "starts"):
            state[name] = state[name][:, : used * self.block]
        masks = state.pop("masks")
        if masks is not None:
            state["forbidden"] = masks.forbidden[:, : used * self.block]
        state["states"] = [array[:, :used] for array in self.states]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            *(
                state[name]
                for name in ("n_envs", "capacity", "block", "observation_space", "n_actions", "state_like", "n_before")
            )
        )
        written = [*arrays_of(state.pop("observations"))]
        written += [state.pop(name) for name in ("actions", "rewards", "kinds", "starts")]
        forbidden = state.pop("forbidden", None)  # pickles of older versions lack it
        if forbidden is not None:
            self.add_masks()
            written.append(forbidden)
        written += state.pop("states")
        self.__dict__.update(state)
        for array, part in zip(self.arrays(), written, strict=True):
            array[:, : part.shape[1]] = part
