"""Pictures of what an agent looks at, and reports of how far it remembers."""

from sb3_attnmem.inspection.film.video import AttentionVideo, record_attention_video
from sb3_attnmem.inspection.memory.report import write_memory_report
from sb3_attnmem.inspection.overlay import attention_overlay

__all__ = ["AttentionVideo", "attention_overlay", "record_attention_video", "write_memory_report"]
