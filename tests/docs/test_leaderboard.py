"""The leaderboard is of the raw results that are there, and wrong lines of others are named."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LINE = dict(task="a task", agent="PPO", memory="GRU", steps=1000, seed=0, score=0.5, source="a page")


def test_the_page_is_of_these_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import leaderboard

    assert leaderboard.PAGE.read_text(encoding="utf-8") == leaderboard.page(), "run python benchmarks/leaderboard.py"


def test_lines_of_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import leaderboard

    monkeypatch.setattr(leaderboard, "FROM_OTHERS", tmp_path)
    lines = [LINE, dict(LINE, seed=1, score=1), dict(LINE, memory="LSTM", score=0.9)]
    (tmp_path / "one.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = [row for row in leaderboard.rows() if row[0] == "a task"]
    assert found == [
        ("a task", "PPO", "LSTM", "1,000", "0.9", "0.9", "a page"),
        ("a task", "PPO", "GRU", "1,000", "0.75", "0.5, 1", "a page"),
    ]
    without_seed = {name: value for name, value in LINE.items() if name != "seed"}
    (tmp_path / "two.jsonl").write_text(json.dumps(dict(without_seed, score="high")), encoding="utf-8")
    with pytest.raises(ValueError, match=r"two\.jsonl, line 1: seed, score missing or of another type"):
        leaderboard.rows()
