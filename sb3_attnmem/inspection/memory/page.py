"""One HTML page with everything in it: it needs no network and no other file."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from sb3_attnmem.inspection.drawing import printable

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
.verdict { font-size: 1.1rem; background: #eef4fa; border-left: 5px solid #0072B2; padding: 0.7rem 1rem; }
.about { color: #555; } figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: 0.9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.15rem 0.9rem; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, .words th:last-child, .words td:last-child { text-align: left; }
"""


class PageImage(NamedTuple):
    """
    A picture on the page.

    :param url: a data URL
    :param caption: what is to be seen
    """

    url: str
    caption: str


class Table(NamedTuple):
    """
    A table on the page.

    :param columns: their names
    :param rows: of cells
    :param words: whether the last column holds words rather than numbers
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False


class Section(NamedTuple):
    """
    A part of the page under a heading.

    :param title: a heading
    :param parts: paragraphs, pictures and tables, in this order on the page
    """

    title: str
    parts: Sequence[str | PageImage | Table]


def as_page(title: str, about: str, verdict: str, remarks: Sequence[str], sections: Sequence[Section]) -> str:
    """
    Write a page.

    :param title: of the page
    :param about: what was looked at, a line
    :param verdict: on top
    :param remarks: below it
    :param sections: first to last
    :return: HTML
    """
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="about">{_text(about)}</p>',
        f'<p class="verdict">{_text(verdict)}</p>',
    ]
    if remarks:
        body.append("<ul>" + "".join(f"<li>{_text(remark)}</li>" for remark in remarks) + "</ul>")
    body += map(section_html, sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def section_html(section: Section) -> str:
    """
    Write a part of a page.

    :param section: a heading and what stands under it
    :return: HTML
    """
    return "\n".join([f"<h2>{_text(section.title)}</h2>", *map(_part, section.parts)])


def _part(part: str | PageImage | Table) -> str:
    if isinstance(part, PageImage):
        caption = _text(part.caption)
        return f'<figure><img src="{part.url}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    if isinstance(part, Table):
        head = "".join(f"<th>{_text(name)}</th>" for name in part.columns)
        rows = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in part.rows)
        style = ' class="words"' if part.words else ""
        return f"<table{style}><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<p>{_text(part)}</p>"


def _text(text: str) -> str:
    return escape(printable(text))
