"""Where a warning points: at the user's own line."""

import sys

#: packages that a warning does not point at
OURS_AND_BELOW = ("sb3_attnmem", "stable_baselines3", "torch")


def levels_to_caller() -> int:
    """:return: the ``stacklevel`` at which a warning of the function that calls this points at the user's own line"""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in OURS_AND_BELOW:
        frame, level = frame.f_back, level + 1
    return level
