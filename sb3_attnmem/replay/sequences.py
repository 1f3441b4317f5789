"""Uniform replay of sequences."""

import math
from typing import Any

import numpy as np
import psutil
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.replay.stacks import FrameStack
from sb3_attnmem.replay.tapes import Observation, Slot, Tapes
from sb3_attnmem.replay.types import SequencePart, SequenceSamples

#: States are stored at most this many steps apart unless ``state_interval`` says otherwise
MAX_STATE_INTERVAL = 8


class SequenceReplayBuffer(ReplayBuffer):
    """
    Stores each observation once, in one tape an environment, and replays windows of ``sequence_length`` learning
    steps, with ``burn_in`` steps before and ``n_steps`` after them (R2D2, https://openreview.net/forum?id=r1lyTjAqYX).

    Windows begin at multiples of ``state_interval``, where the acting network's state is stored, and every window that
    touches a stored transition is equally likely: each transition lies in the same number of windows, the first and the
    last of an episode included. A window may hold several episodes; burn-in never reaches back over an episode's start,
    where the state is known.

    A time-limited episode takes one slot more than it has steps, for its true final observation.

    :param buffer_size: transitions, over all environments
    :param observation_space: observation space
    :param action_space: a ``Discrete`` space
    :param device: where sampled tensors go
    :param n_envs: number of environments
    :param optimize_memory_usage: must be False: each observation is stored once anyway
    :param handle_timeout_termination: bootstrap where a time limit ended the episode; if False, it counts as terminal
    :param sequence_length: learning steps of a window
    :param burn_in: steps before the window that only warm up the state
    :param n_steps: steps of reward in a target
    :param state_interval: states are stored, and windows begin, every so many steps; it must divide
        ``sequence_length`` and ``burn_in``. None takes the largest such divisor up to 8
    :param frame_stack: how observations stack frames, to store each frame once and stack them again when they are
        sampled (``RecurrentDQN`` finds it out from ``VecFrameStack``); None stores observations as they are
    :raises ValueError: for options that do not fit one another
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        sequence_length: int = 32,
        burn_in: int = 0,
        n_steps: int = 1,
        state_interval: int | None = None,
        frame_stack: FrameStack | None = None,
    ) -> None:
        # Past ReplayBuffer.__init__, which allocates arrays of another layout
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise ValueError(
                "optimize_memory_usage=True is not needed here: the sequence buffer stores each observation once. "
                "Leave the argument out."
            )
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"SequenceReplayBuffer stores Discrete actions; the action space is {action_space}.")
        common = math.gcd(sequence_length, burn_in)
        if state_interval is None:
            state_interval = max(d for d in range(1, MAX_STATE_INTERVAL + 1) if common % d == 0)
        if state_interval < 1 or common % state_interval:
            raise ValueError(
                f"state_interval={state_interval} must divide sequence_length={sequence_length} and burn_in={burn_in}; "
                f"the divisors to choose from are {[d for d in range(1, common + 1) if common % d == 0]}."
            )
        self.buffer_size = max(buffer_size // n_envs, 1)
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.n_steps = n_steps
        self.state_interval = state_interval
        self.frame_stack = frame_stack
        self.tapes: Tapes | None = None
        self._staged_state: tuple[np.ndarray, ...] = ()
        self.seed(None)

    def seed(self, seed: int | None) -> None:
        """
        :param seed: of the generator that draws the windows; None takes one from numpy's global generator
        """
        self.rng = np.random.default_rng(np.random.randint(2**31 - 1) if seed is None else seed)

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
        self._check_room(self.buffer_size, self.n_envs)
        described = self.describe(state_like)
        # Of two blocks first: numpy refuses what is far too big, and does not say how to mend it
        smallest = self._make_tapes(1, described)
        nbytes = smallest.nbytes // smallest.n_blocks * (-(-self.buffer_size // self.state_interval) + 1)
        free = psutil.virtual_memory().available
        if nbytes > free:
            of_states = sum(array.nbytes for array in smallest.states) / smallest.nbytes
            hint = f" {of_states:.0%} of it are the memory's states: state_init='zero' stores none." * (of_states > 0.5)
            raise ValueError(
                f"A replay buffer of buffer_size={self.buffer_size * self.n_envs} transitions takes "
                f"{nbytes / 1e9:.2f} GB, but {free / 1e9:.2f} GB of memory are free. "
                f"Set buffer_size to at most {int(0.9 * free / nbytes * self.buffer_size) * self.n_envs}.{hint}"
            )
        self.tapes = self._make_tapes(self.buffer_size, described)

    def _check_room(self, buffer_size: int, n_envs: int) -> None:
        """
        :param buffer_size: transitions an environment
        :param n_envs: number of environments
        """
        needed = self.burn_in + self.sequence_length
        if buffer_size < needed:
            raise ValueError(
                f"buffer_size={buffer_size * n_envs} gives each of {n_envs} environments room for {buffer_size} "
                f"transitions, fewer than one sequence (burn_in + sequence_length = {needed}). "
                f"Set buffer_size to at least {needed * n_envs}; many times more is usual."
            )

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
        obs: np.ndarray | dict[str, np.ndarray],
        next_obs: np.ndarray | dict[str, np.ndarray],
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
                self.frame_stack.check_beginnings(_rows_of(obs, beginning))
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

    def cut(self) -> None:
        """The environments were reset without ``done``: what comes next does not follow what is stored."""
        if self.tapes is not None:
            self.tapes.cut()

    def change_n_envs(self, n_envs: int) -> None:
        """
        Go on with another number of environments, keeping what is stored (see :meth:`Tapes.rehouse`).

        :param n_envs: the new number
        :raises ValueError: when what is stored leaves each of them less room than one sequence
        """
        buffer_size = max(self.buffer_size * self.n_envs // n_envs, 1)
        if self.tapes is not None:
            self._check_room(buffer_size, n_envs)
        self.n_envs = n_envs
        self.buffer_size = buffer_size
        self.pos = 0
        if self.tapes is not None:
            self.tapes = self.tapes.rehouse(n_envs, self.buffer_size)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        :param batch_size: B, the number of sequences
        :param env: normalises observations and rewards as it does now
        :return: a batch of windows
        :raises ValueError: when nothing is stored yet
        """
        rows, windows = self._draw_windows(batch_size)
        return self._read_windows(rows, windows, self.burn_in, env)

    def read_with_history(
        self, drawn: tuple[np.ndarray, np.ndarray], max_history: int, env: VecNormalize | None = None
    ) -> SequenceSamples:
        """
        Read windows again, with a burn-in that goes back to the beginnings of their episodes.

        :param drawn: what a batch of :meth:`sample` says it drew
        :param max_history: steps of burn-in at most; a row that would need more begins from the state stored there
        :param env: normalises observations and rewards as it does now
        :return: the same windows
        """
        history = max(max_history // self.state_interval * self.state_interval, self.burn_in)
        return self._read_windows(*drawn, history, env)

    def refresh_states(
        self, drawn: tuple[np.ndarray, np.ndarray], states: tuple[th.Tensor, ...], which: np.ndarray
    ) -> None:
        """
        Store states that were recomputed at the beginnings of windows, after their burn-in, over the older ones. Rows
        whose slot was overwritten since, or holds no transition yet, are left out.

        :param drawn: what a batch of :meth:`sample` says it drew
        :param states: tensors (B, ...)
        :param which: (B,) bool, the rows to store
        """
        assert self.tapes is not None
        rows, windows = drawn
        self.tapes.write_states(
            rows[which],
            windows[which] * self.state_interval + self.burn_in,
            [tensor.detach().cpu().numpy()[which] for tensor in states],
        )

    def _window_range(self) -> tuple[np.ndarray, np.ndarray]:
        """
        The windows whose learning part touches a transition that lives. Window m of a tape begins burning in at slot
        ``m * state_interval`` (which may lie before the oldest slot, and the window's end beyond the newest).

        :return: (E,) the first and (E,) the last m of each tape
        :raises ValueError: when nothing is stored yet
        """
        tapes = self.tapes
        if tapes is None or not tapes.heads.any():
            raise ValueError("The replay buffer is empty; call `add` before `sample`.")
        first = (tapes.oldest - self.burn_in - self.sequence_length) // self.state_interval + 1
        last = (tapes.heads - 1 - self.burn_in) // self.state_interval
        return first, np.where(tapes.heads > 0, last, first - 1)

    def _draw_windows(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Draw uniformly from all windows.

        :return: (B,) the tape, (B,) the window
        """
        first, last = self._window_range()
        n_windows = last - first + 1
        bounds = np.cumsum(n_windows)
        drawn = self.rng.integers(bounds[-1], size=batch_size)
        rows = np.searchsorted(bounds, drawn, side="right")
        return rows, first[rows] + drawn - (bounds - n_windows)[rows]

    def _read_windows(
        self, rows: np.ndarray, windows: np.ndarray, burn_in: int, env: VecNormalize | None
    ) -> SequenceSamples:
        """
        :param rows: (B,) tapes
        :param windows: (B,) windows, see :meth:`_window_range`
        :param burn_in: steps before the learning part; a multiple of ``state_interval``
        :param env: normalises
        """
        tapes = self.tapes
        assert tapes is not None
        oldest = tapes.oldest[rows]
        window_begins = windows * self.state_interval + self.burn_in
        begins = window_begins - burn_in
        # A window that the ring's edge cuts begins at the oldest slot, whose state is stored
        firsts = np.maximum(window_begins, oldest)
        n_learning = (window_begins + self.sequence_length - firsts)[:, None]
        columns = np.arange(self.sequence_length + self.n_steps)
        slots = firsts[:, None] + columns
        places = slots % tapes.n_slots
        tape = rows[:, None]
        kinds = tapes.kinds[tape, places]
        starts = tapes.starts[tape, places]
        present = (slots < tapes.ends[rows, None]) & (kinds != Slot.EMPTY) & (columns < n_learning + self.n_steps)
        # Looking ahead never goes on into another episode
        present &= np.cumsum(starts & (columns >= n_learning), axis=1) == 0
        width = int(np.flatnonzero(present.any(axis=0))[-1]) + 1
        slots, places, kinds, present = (array[:, :width] for array in (slots, places, kinds, present))
        transitions = present & ((kinds == Slot.TRANSITION) | (kinds == Slot.TERMINAL))
        window = self._read_part(rows, slots, present, starts[:, :width] & present, env)

        part, state_slots = self._read_burn_in(rows, begins, burn_in, firsts, oldest, starts[:, 0], env)
        state_blocks = state_slots // tapes.block % tapes.n_blocks
        rewards = self._normalize_reward(tapes.rewards[tape, places], env)
        return SequenceSamples(
            state=tuple(self.to_torch(array[rows, state_blocks], copy=False) for array in tapes.states),
            burn_in=part,
            window=window,
            actions=self.to_torch(tapes.actions[tape, places].astype(np.int64), copy=False),
            rewards=self.to_torch(rewards, copy=False),
            transitions=self.to_torch(transitions, copy=False),
            terminals=self.to_torch(transitions & (kinds == Slot.TERMINAL), copy=False),
            learning=self.to_torch(transitions & (columns[:width] < n_learning), copy=False),
            drawn=(rows, windows),
        )

    def _read_burn_in(
        self,
        rows: np.ndarray,
        begins: np.ndarray,
        burn_in: int,
        firsts: np.ndarray,
        oldest: np.ndarray,
        window_starts: np.ndarray,
        env: VecNormalize | None,
    ) -> tuple[SequencePart | None, np.ndarray]:
        """
        :return: the steps before the windows, and (B,) the slot whose stored state each row begins from
        """
        tapes = self.tapes
        assert tapes is not None
        if burn_in == 0:
            return None, firsts
        columns = np.arange(burn_in)
        slots = begins[:, None] + columns
        places = slots % tapes.n_slots
        alive = slots >= oldest[:, None]
        starts = tapes.starts[rows[:, None], places] & alive
        # From the last episode start before the window, else from the stored state at ``begins``, else not at all
        last_start = np.where(starts, columns, -1).max(axis=1)
        burns_from = np.where(last_start >= 0, last_start, np.where(begins >= oldest, 0, burn_in))
        burns_from[window_starts | (begins + burn_in <= oldest)] = burn_in
        present = columns >= burns_from[:, None]
        state_slots = np.where(burns_from < burn_in, np.maximum(begins, oldest), firsts)
        left = int(burns_from.min())
        if left == burn_in:
            return None, state_slots
        present, starts, slots = present[:, left:], starts[:, left:], slots[:, left:]
        return self._read_part(rows, slots, present, starts & present, env), state_slots

    def _read_part(
        self,
        rows: np.ndarray,
        slots: np.ndarray,
        present: np.ndarray,
        starts: np.ndarray,
        env: VecNormalize | None,
    ) -> SequencePart:
        """
        :param rows: (B,) tapes
        :param slots: (B, T)
        :param present: (B, T) bool
        :param starts: (B, T) bool
        :param env: normalises
        """
        tapes = self.tapes
        assert tapes is not None
        index = np.flatnonzero(present)
        row_of_frame = rows[index // present.shape[1]]
        slot_of_frame = slots.reshape(-1)[index]
        if self.frame_stack is not None:
            frames = self.frame_stack.rebuild(tapes, row_of_frame, slot_of_frame)
        else:
            frames = tapes.read(row_of_frame, slot_of_frame)
        frames = self._normalize_obs(frames, env)
        return SequencePart(
            observations=(
                {key: self.to_torch(array, copy=False) for key, array in frames.items()}
                if isinstance(frames, dict)
                else self.to_torch(frames, copy=False)
            ),
            position=self.to_torch(index, copy=False),
            present=self.to_torch(present, copy=False),
            episode_starts=self.to_torch(starts, copy=False),
        )


def _rows_of(observation: Observation, which: np.ndarray) -> Observation:
    if isinstance(observation, dict):
        return {key: array[which] for key, array in observation.items()}
    return observation[which]
