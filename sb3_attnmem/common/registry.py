"""Classes by the names that users type, and the options that a class takes."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sb3_attnmem.common.checks import check_keys
from sb3_attnmem.common.names import did_you_mean

Base = TypeVar("Base")


def find_class(argument: str, choice: Any, known: Mapping[str, type[Base]], base: type[Base] | None) -> type[Base]:
    """
    Find the class that a user chose by name, or as a class.

    :param argument: its name, for the message
    :param choice: a registered name, or a subclass of ``base``
    :param known: name -> class
    :param base: what a class must derive from; None: only names are taken
    :return: the class
    :raises ValueError: for an unknown name (the nearest known one is named), or another object
    """
    names = ", ".join(known)
    if isinstance(choice, str) and choice in known:
        return known[choice]
    if base is not None and isinstance(choice, type) and issubclass(choice, base):
        return choice
    if isinstance(choice, str) or base is None:
        near = did_you_mean(choice, known) if isinstance(choice, str) else ""
        raise ValueError(f"Unknown {argument} {choice!r}.{near} Known names: {names}.")
    raise ValueError(
        f"{argument} is {choice!r}; pass a subclass of {base.__name__} (the class, not an instance) or one of the "
        f"names {names}."
    )


def check_options(
    argument: str, options: Iterable[str], builder: Callable[..., Any], filled_in: Iterable[str], of: str
) -> None:
    """
    Check the names of the options that a class or function will be called with.

    :param argument: that holds the options, for the message
    :param options: their names
    :param builder: a class or function that takes them
    :param filled_in: its parameters that are not for the user to give
    :param of: what the message calls the builder
    :raises ValueError: when an option is not one of the builder's (the nearest is named)
    """
    parameters = inspect.signature(builder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    filled_in = set(filled_in)
    check_keys(argument, options, [name for name in parameters if name not in filled_in], of)
