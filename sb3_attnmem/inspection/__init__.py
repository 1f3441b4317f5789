"""Pictures of what an agent looks at, and reports of how far it remembers."""

from sb3_attnmem.inspection.attention_video import AttentionVideo, record_attention_video
from sb3_attnmem.inspection.memory_report import write_memory_report

__all__ = ["AttentionVideo", "record_attention_video", "write_memory_report"]
