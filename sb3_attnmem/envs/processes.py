"""A process of an environment that ends with the run that it belongs to."""

from contextlib import suppress
from typing import Any

from stable_baselines3.common.vec_env.subproc_vec_env import _worker

from sb3_attnmem.common.processes import end_with_parent


def quiet_worker(*args: Any) -> None:
    """
    What a process of a ``SubprocVecEnv`` does: SB3's loop, but it ends at once when the run is gone.

    SB3's notices it after the step that it is in, and ends in a traceback (``ConnectionResetError``).

    :param args: of SB3's loop
    """
    end_with_parent()
    with suppress(ConnectionError):
        _worker(*args)
