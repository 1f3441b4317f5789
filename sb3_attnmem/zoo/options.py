"""Words of a command line that another program will parse."""

from typing import Any


def value_of(options: list[str], flag: str, default: Any) -> Any:
    """:return: the first word after the last ``flag``, or ``default``"""
    values = values_of(options, flag)
    return values[0] if values else default


def values_of(options: list[str], flag: str) -> list[str]:
    """:return: what follows the last ``flag``, up to the next one"""
    values: list[str] = []
    for i, word in enumerate(options):
        if word == flag:
            values = options[i + 1 : _end(options, i + 1)]
        elif word.startswith(f"{flag}="):
            values = [word.split("=", 1)[1]]
    return values


def without(options: list[str], *flags: str) -> list[str]:
    """:return: the options less these flags and their values"""
    kept: list[str] = []
    i = 0
    while i < len(options):
        if options[i] in flags:
            i = _end(options, i + 1)
        else:
            if not options[i].startswith(tuple(f"{flag}=" for flag in flags)):
                kept.append(options[i])
            i += 1
    return kept


def _end(options: list[str], begin: int) -> int:
    """:return: where the next flag is; a negative number is none"""
    for i in range(begin, len(options)):
        if options[i].startswith("-") and not options[i][1:2].isdigit():
            return i
    return len(options)
