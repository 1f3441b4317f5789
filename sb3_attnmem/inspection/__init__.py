"""Pictures of what an agent looks at, and reports of how far it remembers."""

from sb3_attnmem.inspection.memory_report import write_memory_report

__all__ = ["write_memory_report"]
