"""Pages of agents whose memory or attention is known."""

import json
import re
from pathlib import Path
from typing import Any

from stable_baselines3 import DQN

from sb3_attnmem.inspection import write_episode_page, write_memory_report
from tests.inspection.film_toys import IMAGE, Noise, Stare, make
from tests.inspection.memory_toys import Repeat, repeater


def data_of(page: str) -> Any:
    """:return: what a page is told"""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def write_remembering(path: Path) -> str:
    """:return: the page of an agent that names the token of two steps ago, and does nothing else"""
    report = write_memory_report(repeater(2), Repeat(2), path.parent, episodes=3, format="player", progress=False)
    return report.html.read_text(encoding="utf-8")


def write_attending(path: Path) -> tuple[str, list[int]]:
    """:return: the page of an agent whose heads stare at one place each, and these two places in the first step"""
    env = Noise(IMAGE)
    model = make(DQN, env, Stare)
    write_episode_page(model, Noise(IMAGE), path, progress=False)
    first = int(Noise(IMAGE).reset(seed=0)[0][0, 0, 0]) % 12
    return path.read_text(encoding="utf-8"), [first, (first + 1) % 12]
