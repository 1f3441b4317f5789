"""The known name that is nearest to a mistyped one."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """
    Find the known name that was probably meant.

    :param name: that is not known
    :param known: names that are
    :return: the one that was probably meant, if there is one
    """
    by_lower_case = {each.lower(): each for each in known}
    near = difflib.get_close_matches(str(name).lower(), list(by_lower_case), n=1, cutoff=0.4)
    return by_lower_case[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Suggest the known name that was probably meant.

    :param name: that is not known
    :param known: names that are
    :return: " Did you mean 'lstm'?", to go on with in a message, or ""
    """
    near = nearest(name, known)
    return "" if near is None else f" Did you mean '{near}'?"
