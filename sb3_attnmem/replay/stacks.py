"""Stacked frames stored once each, and stacked again when they are replayed."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.common.observations import Observation, named_arrays
from sb3_attnmem.replay.stored_spaces import spaces_of
from sb3_attnmem.replay.tapes import Tapes

#: Wrappers that leave a stack a stack
TRANSPARENT = (VecCheckNan, VecMonitor, VecNormalize, VecTransposeImage, VecVideoRecorder)


class FrameStack(NamedTuple):
    """
    How ``VecFrameStack`` lays the last k frames along an axis of each observation, oldest first, zeros before an
    episode's first.

    :param n_frames: k
    :param axes: the axis, without the batch, 0 or -1; of a Dict, one a key
    """

    n_frames: int
    axes: int | dict[str, int]

    def check(self, space: spaces.Space) -> None:
        """
        Check that observations can be stacks of this kind.

        :param space: of the observations that this shall describe
        :raises ValueError: when they cannot be stacks of so many frames along these axes
        """
        check_integer("frame_stack.n_frames", self.n_frames)
        for key, sub in named_arrays(spaces_of(space)):
            axis = self.axes.get(key) if isinstance(self.axes, dict) else self.axes  # type: ignore[arg-type]
            shape = sub.shape if isinstance(sub, spaces.Box) else ()
            if not shape or axis not in (0, -1) or shape[axis] % self.n_frames:
                raise ValueError(
                    f"frame_stack={self} does not fit {f'{key!r}: ' if key else ''}{sub}: stacks are of a Box space, "
                    f"along the axis 0 or -1, whose length {self.n_frames} frames must divide."
                )

    def frame_space(self, space: spaces.Space) -> spaces.Space:
        """
        Find the space of a single frame.

        :param space: of the stacks
        :return: of one frame
        """
        if isinstance(space, spaces.Dict):
            assert isinstance(self.axes, dict)
            return spaces.Dict({key: _frame_box(space[key], self.n_frames, self.axes[key]) for key in space})
        assert isinstance(self.axes, int)
        return _frame_box(space, self.n_frames, self.axes)

    def newest(self, stacks: Observation) -> Observation:
        """
        Take the newest frame of each stack.

        :param stacks: (E, ...)
        :return: the newest frame of each
        """
        return self._map(lambda stack, axis: np.split(stack, self.n_frames, axis)[-1], stacks)

    def check_beginnings(self, stacks: Observation) -> None:
        """
        Check that stacks hold nothing but their newest frame, so that they can be rebuilt from what follows.

        :param stacks: (n, ...), where chains begin
        :raises ValueError: when one holds more than its newest frame, so that it cannot be rebuilt from what follows
        """

        def check(stack: np.ndarray, axis: int) -> np.ndarray:
            if any(older.any() for older in np.split(stack, self.n_frames, axis)[:-1]):
                raise ValueError(
                    f"An episode begins with a stack of {self.n_frames} frames whose older frames are not zero, so "
                    "that the replay buffer cannot store frames once each. Reset the environment before the first "
                    "step; if it stacks frames in another way than VecFrameStack, store whole stacks: "
                    "replay_buffer_kwargs=dict(frame_stack=None)."
                )
            return stack

        self._map(check, stacks)

    def rebuild(self, tapes: Tapes, rows: np.ndarray, slots: np.ndarray, oldest: int = 0) -> Observation:
        """
        Stack frames that were stored once each.

        :param tapes: of single frames
        :param rows: (N,) tapes
        :param slots: (N,) where the newest frames lie
        :param oldest: frames before this slot are not stacked
        :return: (N, ...) stacks
        """
        ages = np.arange(self.n_frames - 1, -1, -1)
        wanted = slots[:, None] - ages  # (N, k), oldest first
        places = wanted % tapes.n_slots
        # A frame is of the newest one's episode when no episode starts behind it
        starts = tapes.starts[rows[:, None], places]
        later = np.cumsum(starts[:, ::-1], axis=1)[:, ::-1] - starts
        missing = (later > 0) | (wanted < oldest)

        def stack(stored: np.ndarray, axis: int) -> np.ndarray:
            frames = stored[rows[:, None], places]  # (N, k, ...)
            frames[missing] = 0
            if axis == -1:
                frames = np.moveaxis(frames, 1, -2)  # (N, ..., k, C)
                return frames.reshape(*frames.shape[:-2], -1)
            return frames.reshape(len(frames), -1, *frames.shape[3:])

        return self._map(stack, tapes.observations)

    def _map(self, function: Callable[[np.ndarray, int], np.ndarray], observation: Observation) -> Observation:
        """:return: ``function(array, axis with the batch)`` of the observation, or of each of its keys"""
        if isinstance(observation, dict):
            assert isinstance(self.axes, dict)
            return {key: function(array, self._axis(self.axes[key])) for key, array in observation.items()}
        assert isinstance(self.axes, int)
        return function(observation, self._axis(self.axes))

    @staticmethod
    def _axis(axis: int) -> int:
        return 1 if axis == 0 else -1


def find_frame_stack(env: VecEnv | None) -> FrameStack | None:
    """
    Find out how an environment stacks frames.

    :param env: as the model steps it
    :return: how it stacks frames; None where it does not, or where a wrapper above may have changed the stacks
    """
    transposed: VecTransposeImage | None = None
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecFrameStack):
            stacked = env.stacked_obs
            if not isinstance(env.observation_space, spaces.Dict):
                return FrameStack(stacked.n_stack, _axis_of(stacked, transposed is not None))
            axes = {
                key: _axis_of(sub, transposed is not None and key in transposed.image_space_keys)
                for key, sub in stacked.sub_stacked_observations.items()
            }
            return FrameStack(stacked.n_stack, axes)
        if not isinstance(env, TRANSPARENT):
            return None
        transposed = env if isinstance(env, VecTransposeImage) else transposed
        env = env.venv
    return None


def _axis_of(stacked: StackedObservations, transposed: bool) -> int:
    return 0 if stacked.channels_first or transposed else -1


def _frame_box(space: spaces.Space, n_frames: int, axis: int) -> spaces.Box:
    assert isinstance(space, spaces.Box)
    low, high = (np.split(bound, n_frames, axis)[-1] for bound in (space.low, space.high))
    return spaces.Box(low, high, dtype=space.dtype.type)
