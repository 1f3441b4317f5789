"""What all pictures share: colours, and how they are drawn whatever the user's settings."""

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Okabe & Ito (2008), which the colour-blind can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")

FONTS = ("font.family", *(f"font.{family}" for family in ("serif", "sans-serif", "cursive", "fantasy", "monospace")))


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
    """
    Draw inside the ``with`` with matplotlib's defaults: a style of the user's, or seaborn's, which the RL Zoo's plots
    turn on for the whole process, would lay grids over pictures and move what was laid out. The user's fonts stay,
    since names may be written in letters that others lack; a letter that the font lacks is a box.
    """
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        settings: Any = matplotlib.rcParams
        fonts = {name: settings[name] for name in FONTS}
        matplotlib.rcdefaults()
        settings.update(fonts)
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
