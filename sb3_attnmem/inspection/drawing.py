"""What all pictures share: colours, and how they are drawn whatever the user's settings."""

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Okabe & Ito (2008), which the colour-blind can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def check_matplotlib(what: str) -> None:
    """
    Check that pictures can be drawn.

    :param what: needs it, for the message
    :raises ImportError: where matplotlib is missing
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{what} is drawn by matplotlib: pip install "sb3_attnmem[plots]" ({error})') from error


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside the ``with``: text is set by matplotlib itself, and a letter that its font lacks is a box."""
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False, "text.parse_math": True}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def plain(text: object, longest: int = 40) -> str:
    """
    Text of others (names of actions, of layers, of the keys of a Dict) for a picture: drawn as it is, as one line.

    :param text: that may hold what matplotlib takes for mathematics or for a hidden label, line breaks, anything
    :param longest: letters
    :return: what to hand to matplotlib
    """
    line = printable(" ".join(str(text).split()))
    if len(line) > longest:
        line = f"{line[: longest - 1]}…"
    if line.startswith("_"):  # a legend would leave it out
        line = f" {line}"
    return line.replace("$", r"\$")


def printable(text: str) -> str:
    """
    Replace what neither pictures nor files can hold.

    :param text: that may hold control characters, or halves of characters that no file can
    :return: the same with a sign in their place
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unprintable(letter) else letter for letter in text)


def _is_unprintable(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t"
