"""The page as one file: its HTML, style and scripts lie beside this module, its data go in as JSON."""

import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from sb3_attnmem.inspection.drawing import printable
from sb3_attnmem.inspection.memory.figures import as_json
from sb3_attnmem.inspection.memory.page import Section, section_html

SCRIPTS = ("draw.js", "panels.js", "player.js")


def as_document(
    title: str,
    about: str,
    data: dict[str, Any],
    verdict: str = "",
    remarks: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """
    Write the page.

    :param title: of the page
    :param about: what was looked at, a line
    :param data: what :func:`~sb3_attnmem.inspection.page.data.page_data` gave, and more that the scripts draw
    :param verdict: on top, in plain words
    :param remarks: below it
    :param sections: below the episodes
    :return: HTML that needs no network and no other file, and may not ask for any
    """
    parts = {
        "title": escape(printable(title)),
        "about": escape(printable(about)),
        "verdict": f'<p class="verdict">{escape(printable(verdict))}</p>' if verdict else "",
        "remarks": "".join(f"<li>{escape(printable(remark))}</li>" for remark in remarks),
        "sections": "\n".join(map(section_html, sections)),
        "style": _read("player.css"),
        "script": "\n".join(map(_read, SCRIPTS)),
        "data": _harmless(as_json(data)),
    }
    # In one pass: what stands for something in a text that goes in stays as it is
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found.group(1)], _read("player.html"))


def _harmless(text: str) -> str:
    """:return: JSON without the sign that could end the element it lies in, and without spaces for the eye"""
    compact = json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=True)
    return compact.replace("<", "\\u003c")


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
