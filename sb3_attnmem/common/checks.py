"""Checks of the numbers, flags and choices that a user passes, and what they raise."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from sb3_attnmem.common.names import did_you_mean


def check_integer(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """
    Check an integer.

    :param name: of the argument
    :param value: that the user gave; numpy's integers are integers, booleans are none
    :param least: smallest that makes sense
    :param most: largest that makes sense; None: no limit
    :return: the value, as Python's own
    :raises ValueError: when it is no integer, or outside
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r} must be an integer {limits}.")
    return number


def check_integers(**values: Any) -> list[int]:
    """
    Check several integers of at least 1.

    :param values: of arguments by their names, sizes and numbers of things
    :return: the values, as Python's own
    :raises ValueError: when one is no integer of at least 1
    """
    return [check_integer(name, value) for name, value in values.items()]


def check_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    hint: str = "",
) -> float:
    """
    Check a finite number.

    :param name: of the argument
    :param value: that the user gave; booleans are no numbers
    :param least: smallest that makes sense
    :param most: largest that makes sense
    :param above: what it must be larger than
    :param below: what it must be smaller than
    :param hint: what it means, or how to mend it; the end of the message
    :return: the value, as Python's own
    :raises ValueError: when it is no finite number, or outside
    """
    # A NaN fails every comparison that must hold
    number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not (
        math.isfinite(number)
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    ):
        words = {"at least": least, "above": above, "at most": most, "below": below}
        limits = " and ".join(f"{word} {limit:g}" for word, limit in words.items() if limit is not None)
        message = f"{name}={value!r} must be a finite number{' ' * bool(limits)}{limits}."
        raise ValueError(f"{message} {hint}".strip())
    return number


def check_flag(name: str, value: Any) -> bool:
    """
    Check a boolean.

    :param name: of the argument
    :param value: that the user gave; numpy's booleans are some, 0, 1 and strings are none
    :return: the value, as Python's own
    :raises ValueError: when it is not True or False
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise ValueError(f"{name}={value!r} must be True or False.")
    return bool(value)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """
    Check one of several names.

    :param name: of the argument
    :param value: that the user gave
    :param choices: that there are
    :return: the value
    :raises ValueError: when it is none of them; the nearest is named
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise ValueError(f"{name}={value!r} is unknown; choose from {', '.join(map(repr, choices))}.{near}")
    return value


def check_keys(name: str, given: Iterable[str], known: Iterable[str], of: str) -> None:
    """
    Check the names of options.

    :param name: of the argument that holds options
    :param given: their names
    :param known: names that there are
    :param of: what takes the options, for the message
    :raises ValueError: when one is not known; the nearest is named
    """
    known = list(known)
    for key in given:
        if key not in known:
            raise ValueError(
                f"{name} has the key '{key}', which {of} does not take.{did_you_mean(key, known)} "
                f"It takes: {', '.join(known) or 'nothing'}."
            )
