"""Attention and memory for DQN, the Stable-Baselines3 way."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_attnmem.attention import record_attention
    from sb3_attnmem.dqn_recurrent import (
        MaskedEvalCallback,
        RecurrentDQN,
        RecurrentDQNPolicy,
        RecurrentQRDQN,
        RecurrentQRDQNPolicy,
        ResumableCheckpoint,
        evaluate_masked_policy,
        load_checkpoint,
        steps_left,
        updates_left,
    )
    from sb3_attnmem.inspection import attention_overlay
    from sb3_attnmem.memory import MEMORIES, BaseMemory, MemoryState
    from sb3_attnmem.replay import (
        EpisodeSequenceReplayBuffer,
        PrioritizedSequenceReplayBuffer,
        SequenceReplayBuffer,
    )

__version__ = (Path(__file__).parent / "version.txt").read_text(encoding="utf-8").strip()

__all__ = [
    "MEMORIES",
    "BaseMemory",
    "EpisodeSequenceReplayBuffer",
    "MaskedEvalCallback",
    "MemoryState",
    "PrioritizedSequenceReplayBuffer",
    "RecurrentDQN",
    "RecurrentDQNPolicy",
    "RecurrentQRDQN",
    "RecurrentQRDQNPolicy",
    "ResumableCheckpoint",
    "SequenceReplayBuffer",
    "__version__",
    "attention_overlay",
    "evaluate_masked_policy",
    "load_checkpoint",
    "record_attention",
    "steps_left",
    "updates_left",
]

# Loaded on first use (PEP 562): `sb3_attnmem.export.OnnxPolicy` plays where neither torch nor SB3 is installed.
_MODULES = {
    "sb3_attnmem.attention": ("record_attention",),
    "sb3_attnmem.dqn_recurrent": (
        *("RecurrentDQN", "RecurrentDQNPolicy", "RecurrentQRDQN", "RecurrentQRDQNPolicy", "ResumableCheckpoint"),
        *("load_checkpoint", "steps_left", "updates_left", "MaskedEvalCallback", "evaluate_masked_policy"),
    ),
    "sb3_attnmem.extractors": (),
    "sb3_attnmem.inspection": ("attention_overlay",),
    "sb3_attnmem.memory": ("MEMORIES", "BaseMemory", "MemoryState"),
    "sb3_attnmem.replay": (
        *("EpisodeSequenceReplayBuffer", "PrioritizedSequenceReplayBuffer", "SequenceReplayBuffer"),
    ),
}
_SUBMODULES = {module.rpartition(".")[2]: module for module in _MODULES}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a type checker should still know a wrong name

    def __getattr__(name: str) -> Any:
        if name in _SUBMODULES:
            return importlib.import_module(_SUBMODULES[name])
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value  # the next look-up finds it there
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBMODULES})
