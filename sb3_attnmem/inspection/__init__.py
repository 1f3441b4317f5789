"""Pages and films of what an agent looks at and remembers, and reports of how far it remembers."""

import sys

from sb3_attnmem.inspection.film.video import AttentionVideo, record_attention_video
from sb3_attnmem.inspection.memory import history, reach, report, state_gap
from sb3_attnmem.inspection.memory.report import write_memory_report
from sb3_attnmem.inspection.overlay import attention_overlay
from sb3_attnmem.inspection.page.writing import EpisodePage, write_episode_page

__all__ = [
    "AttentionVideo",
    "EpisodePage",
    "attention_overlay",
    "record_attention_video",
    "write_episode_page",
    "write_memory_report",
]

# Until 0.1.0 the classes of what a report finds were imported from here
for _name, _module in {"memory_report": report, "history": history, "reach": reach, "state_gap": state_gap}.items():
    sys.modules[f"{__name__}.{_name}"] = _module
