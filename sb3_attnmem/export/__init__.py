"""
Trained agents as ONNX files, and a policy that plays them with numpy and onnxruntime alone.

The names are loaded on first use (PEP 562), so that :class:`OnnxPolicy` needs neither torch nor Stable-Baselines3.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sb3_attnmem.export.onnx_export import Exported, export_onnx
    from sb3_attnmem.export.onnx_policy import OnnxPolicy

__all__ = ["Exported", "OnnxPolicy", "export_onnx"]

_HOMES = {
    "Exported": "sb3_attnmem.export.onnx_export",
    "OnnxPolicy": "sb3_attnmem.export.onnx_policy",
    "export_onnx": "sb3_attnmem.export.onnx_export",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
