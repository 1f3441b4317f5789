"""Floor 5: the RL Zoo with our algorithm, extractors and settings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_attnmem.zoo.registration import CONFIGS, register

__all__ = ["CONFIGS", "register"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load on first use: without rl_zoo3 the command line can still say what to install."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sb3_attnmem.zoo import registration

        return getattr(registration, name)
