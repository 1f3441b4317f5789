"""What all pictures share: colours, and how they are drawn whatever the user's settings."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

#: Okabe & Ito (2008), which the colour-blind can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def check_matplotlib(what: str) -> None:
    """
    :param what: needs it, for the message
    :raises ImportError: where matplotlib is missing
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{what} is drawn by matplotlib: pip install matplotlib, or "sb3_attnmem[zoo]" ({error}).'
        ) from error


@contextmanager
def drawing() -> Iterator[None]:
    """Draw inside the ``with``: text is set by matplotlib itself, and a letter that its font lacks is a box."""
    import matplotlib

    with matplotlib.rc_context({"text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
