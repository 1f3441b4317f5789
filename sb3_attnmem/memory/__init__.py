"""The memories, their look-up by name, and the check of their options."""

from typing import Any

from sb3_attnmem.common.registry import check_options, find_class
from sb3_attnmem.memory.attentive_lstm import AttentiveLSTMMemory
from sb3_attnmem.memory.base import BaseMemory, MemoryState, separate_episodes
from sb3_attnmem.memory.deltanet import DeltaNetMemory
from sb3_attnmem.memory.dnc import DNCMemory
from sb3_attnmem.memory.ffm import FFMMemory
from sb3_attnmem.memory.fusion import FUSIONS, NoFusion, check_fusion
from sb3_attnmem.memory.gru import GRUMemory
from sb3_attnmem.memory.gtrxl import GTrXLMemory
from sb3_attnmem.memory.lru import LRUMemory
from sb3_attnmem.memory.lstm import LSTMMemory
from sb3_attnmem.memory.min_gru import MinGRUMemory
from sb3_attnmem.memory.none import NoMemory
from sb3_attnmem.memory.scan import linear_scan, linear_scan_pairs
from sb3_attnmem.memory.shm import SHMMemory
from sb3_attnmem.memory.window import WindowMemory

MEMORIES: dict[str, type[BaseMemory]] = {
    "none": NoMemory,
    "lstm": LSTMMemory,
    "gru": GRUMemory,
    "min_gru": MinGRUMemory,
    "lru": LRUMemory,
    "ffm": FFMMemory,
    "shm": SHMMemory,
    "deltanet": DeltaNetMemory,
    "window": WindowMemory,
    "gtrxl": GTrXLMemory,
    "dnc": DNCMemory,
    "attentive_lstm": AttentiveLSTMMemory,
}


def get_memory_class(memory_class: str | type[BaseMemory]) -> type[BaseMemory]:
    """
    Find a memory by its name.

    :param memory_class: a registered name or a subclass of ``BaseMemory``
    :return: the class
    :raises ValueError: for an unknown name (the nearest known one is named) or another class
    """
    return find_class("memory_class", memory_class, MEMORIES, BaseMemory)


def check_memory_kwargs(memory_class: type[BaseMemory], memory_kwargs: dict[str, Any]) -> None:
    """
    Check the names of a memory's options before it is built.

    :param memory_class: the memory that will be built
    :param memory_kwargs: the options that the user gave
    :raises ValueError: when an option is not one of the memory's (the nearest is named)
    """
    check_options("memory_kwargs", memory_kwargs, memory_class, ["input_dim"], memory_class.__name__)


__all__ = [
    "FUSIONS",
    "MEMORIES",
    "AttentiveLSTMMemory",
    "BaseMemory",
    "DNCMemory",
    "DeltaNetMemory",
    "FFMMemory",
    "GRUMemory",
    "GTrXLMemory",
    "LRUMemory",
    "LSTMMemory",
    "MemoryState",
    "MinGRUMemory",
    "NoFusion",
    "NoMemory",
    "SHMMemory",
    "WindowMemory",
    "check_fusion",
    "check_memory_kwargs",
    "get_memory_class",
    "linear_scan",
    "linear_scan_pairs",
    "separate_episodes",
]
