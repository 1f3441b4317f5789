"""Uniform replay of sequences."""

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.replay.batches import SequencePart, SequenceSamples
from sb3_attnmem.replay.capacity import choose_state_interval
from sb3_attnmem.replay.stacks import FrameStack
from sb3_attnmem.replay.tape_buffer import TapeBuffer
from sb3_attnmem.replay.windows import SlotTable, WindowShape, draw_windows, locate_windows, window_range


class SequenceReplayBuffer(TapeBuffer):
    """
    Stores each observation once, in one tape an environment, and replays windows of ``sequence_length`` learning
    steps, with ``burn_in`` steps before and ``n_steps`` after them (R2D2, https://openreview.net/forum?id=r1lyTjAqYX).

    Windows begin at multiples of ``state_interval``, where the acting network's state is stored, and every window that
    touches a stored transition is equally likely: each transition lies in the same number of windows, the first and the
    last of an episode included. A window may hold several episodes; burn-in never reaches back over an episode's start,
    where the state is known.

    A time-limited episode takes one slot more than it has steps, for its true final observation.

    :param buffer_size: transitions, over all environments; what is kept may be a little more or less, see
        :meth:`size`
    :param observation_space: observation space
    :param action_space: a ``Discrete`` or ``MultiDiscrete`` space, whose actions are stored as one number each
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

    #: weight of the largest error in a priority, against the mean one; where :attr:`is_prioritized`
    priority_eta: float

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
        sequence_length = check_integer("sequence_length", sequence_length)
        burn_in, n_steps = check_integer("burn_in", burn_in, least=0), check_integer("n_steps", n_steps)
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
            choose_state_interval(state_interval, sequence_length, burn_in),
            frame_stack,
        )
        self.sequence_length = sequence_length
        self.burn_in = burn_in
        self.n_steps = n_steps
        self.seed(None)

    def seed(self, seed: int | None) -> None:
        """
        Seed the generator that draws the windows.

        :param seed: of the generator that draws the windows; None takes one from numpy's global generator
        """
        self.rng = np.random.default_rng(np.random.randint(2**31 - 1) if seed is None else seed)

    @property
    def least_room(self) -> int:
        return self.burn_in + self.sequence_length

    @property
    def is_prioritized(self) -> bool:
        """:return: whether :meth:`update_priorities` changes what is drawn"""
        return False

    @property
    def parts(self) -> "list[SequenceReplayBuffer]":
        """:return: the plain buffers it consists of: older ones first, then the one that transitions are added to"""
        return [self]

    @property
    def window_shape(self) -> WindowShape:
        """:return: the parts of a window, in steps"""
        return WindowShape(self.sequence_length, self.burn_in, self.n_steps, self.state_interval)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceSamples:  # type: ignore[override]
        """
        Draw a batch of windows.

        :param batch_size: B, the number of sequences
        :param env: normalises observations and rewards as it does now
        :return: a batch of windows
        :raises ValueError: when nothing is stored yet, or ``batch_size`` is below 1
        """
        rows, windows = self._draw_windows(check_integer("batch_size", batch_size))
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
        max_history = check_integer("max_history", max_history, least=0)
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

    def anneal(self, progress: float) -> None:
        """
        Change what depends on how far ``learn`` has come; nothing here.

        :param progress: the share of it that is done, in [0, 1]
        """

    def update_priorities(self, drawn: tuple[np.ndarray, np.ndarray], priorities: np.ndarray) -> None:
        """
        Take in new priorities; nothing here, where all windows are equally likely.

        :param drawn: what a batch of :meth:`sample` says it drew
        :param priorities: (B,)
        """

    def window_range(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Find the windows that can be drawn.

        :return: (n_envs,) the first and (n_envs,) the last window of each tape that can be drawn, see
            :class:`WindowShape`
        :raises ValueError: when nothing is stored yet
        """
        if self.tapes is None or self.is_empty:
            raise ValueError("The replay buffer is empty; call `add` before `sample`.")
        return window_range(self.tapes, self.window_shape)

    def _draw_windows(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """:return: (B,) the tape, (B,) the window"""
        return draw_windows(*self.window_range(), batch_size, self.rng)

    def _read_windows(
        self, rows: np.ndarray, windows: np.ndarray, burn_in: int, env: VecNormalize | None
    ) -> SequenceSamples:
        """
        Read windows into tensors.

        :param rows: (B,) tapes
        :param windows: (B,) windows
        :param burn_in: steps before the learning part; a multiple of ``state_interval``
        :param env: normalises
        """
        tapes = self.tapes
        assert tapes is not None
        located = locate_windows(tapes, self.window_shape, rows, windows, burn_in)

        def read(table: SlotTable) -> SequencePart:
            return self.read(rows, table.slots, table.present, table.starts, env)

        tape, places = rows[:, None], located.places
        state_blocks = located.state_slots // tapes.block % tapes.n_blocks
        return SequenceSamples(
            state=tuple(self.to_torch(array[rows, state_blocks], copy=False) for array in tapes.states),
            burn_in=None if located.burn_in is None else read(located.burn_in),
            window=read(located.window),
            actions=self.to_torch(tapes.actions[tape, places].astype(np.int64), copy=False),
            rewards=self.to_torch(self._normalize_reward(tapes.rewards[tape, places], env), copy=False),
            transitions=self.to_torch(located.transitions, copy=False),
            terminals=self.to_torch(located.terminals, copy=False),
            learning=self.to_torch(located.learning, copy=False),
            drawn=(rows, windows),
            valid=self._valid_actions(tape, places, located.window.present),
        )

    def _valid_actions(self, tape: np.ndarray, places: np.ndarray, present: np.ndarray) -> th.Tensor | None:
        """
        :param tape: (B, 1)
        :param places: (B, T) on the rings
        :param present: (B, T) bool, where there is an observation; in padding all actions are valid
        :return: (B, T, A) bool, the actions that are valid there; None where there are no masks
        """
        assert self.tapes is not None
        if self.mask_key is not None:
            stored = self.tapes.observations[self.mask_key][tape, places]
            valid = stored.reshape(*places.shape, -1) != 0
        elif self.tapes.masks is not None:
            valid = self.tapes.masks.read(tape, places)
        else:
            return None
        return self.to_torch(valid | ~present[..., None], copy=False)
