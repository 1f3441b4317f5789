"""Environments in processes of their own, which end with the run that they belong to."""

import contextlib
from typing import Any
from unittest import mock

from stable_baselines3.common.vec_env import SubprocVecEnv, subproc_vec_env

from sb3_attnmem.common.processes import end_with_parent

_worker = subproc_vec_env._worker


class EndingSubprocVecEnv(SubprocVecEnv):
    """
    SB3's ``SubprocVecEnv``, whose processes end when their run is killed, whatever they are at, and without
    tracebacks of broken pipes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # SB3 names the function that its processes run itself
        with mock.patch.object(subproc_vec_env, "_worker", _work):
            super().__init__(*args, **kwargs)


def _work(*args: Any) -> None:
    """The life of a process: SB3's, at most as long as that of the run."""
    end_with_parent()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the run was killed between two messages
        _worker(*args)
