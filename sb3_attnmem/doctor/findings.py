"""What a diagnosis says: plain words, the figure behind them, and what to do."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: what a finding is, worst first
PROBLEM, WARNING, NOTE = "problem", "warning", "note"
MARKS = {PROBLEM: "✗", WARNING: "!", NOTE: "·"}
WIDTH = 110


@dataclass
class Finding:
    """
    :param name: short and fixed, for scripts
    :param severity: "problem", "warning" or "note"
    :param title: a sentence: what is so
    :param evidence: the figures behind it
    :param advice: the one change to try first; empty where nothing need be done
    :param score: how sure and how bad, from 0 to 1; what is ranked by
    """

    name: str
    severity: str
    title: str
    evidence: str
    advice: str = ""
    score: float = 0.0

    def text(self, number: int | None = None) -> str:
        """
        :param number: place in a ranking
        :return: a few lines
        """
        head = f"{MARKS[self.severity]} " if number is None else f"{number}. "
        lines = [_wrapped(self.title, head, " " * len(head)), _wrapped(self.evidence, "     ", "     ")]
        if self.advice:
            lines.append(_wrapped(self.advice, "  -> ", "     "))
        return "\n".join(lines)


def _wrapped(text: str, first: str, rest: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


@dataclass
class Report:
    """
    :param subject: what was looked at
    :param findings: what was found, worst first
    :param figures: everything that was measured
    :param unseen: what could not be looked at, and why
    """

    subject: str
    findings: list[Finding]
    figures: dict[str, Any] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """:return: what is wrong, worst first; empty where nothing was found"""
        return [finding for finding in self.findings if finding.severity == PROBLEM]

    @property
    def exit_code(self) -> int:
        """:return: 1 where something is wrong, else 0"""
        return int(bool(self.problems))

    def to_json(self) -> str:
        """:return: the report for scripts"""
        told = dict(
            subject=self.subject,
            exit_code=self.exit_code,
            findings=[asdict(finding) for finding in self.findings],
            figures=self.figures,
            unseen=self.unseen,
        )
        return json.dumps(told, indent=2, ensure_ascii=False, default=_plain)

    def __str__(self) -> str:
        return f"{self.subject}\n\n" + "\n".join(finding.text() for finding in self.findings)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """
    :param findings: in any order
    :return: problems, then warnings, then notes, each with the highest score first
    """
    order = list(MARKS)
    return sorted(findings, key=lambda finding: (order.index(finding.severity), -finding.score))
