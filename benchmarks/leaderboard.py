"""
The leaderboard of memory tasks: every line of raw results, one row a task, agent and number of steps, beside published
figures. Writes ``docs/leaderboard.md``.

    python benchmarks/leaderboard.py            # after new results
    python benchmarks/leaderboard.py --check    # only say whether the page is of these results
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import yaml
from tasks.published import PUBLISHED

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "leaderboard.md"
TEXT = HERE / "leaderboard.md"
ENTRIES = yaml.safe_load((HERE.parent / "zoo_configs" / "rdqn.yml").read_text(encoding="utf-8"))
FROM_OTHERS = HERE / "results" / "from_others"
#: what a line must have, beside what else it says
FIELDS: dict[str, type | tuple[type, ...]] = {
    "task": str, "agent": str, "memory": str, "steps": int, "seed": int, "score": (int, float), "source": str,
}  # fmt: skip


#: how this project's tables call tasks, and how their environments are called
NAMES = {
    "RepeatPreviousEasy": "popgym-RepeatPreviousEasy-v0",
    "RepeatFirstEasy": "popgym-RepeatFirstEasy-v0",
    "CountRecallEasy": "popgym-CountRecallEasy-v0",
    "AutoencodeEasy": "popgym-AutoencodeEasy-v0",
    "CartPoleNoVel": "CartPoleNoVel-v1",
    "LunarLanderNoVel": "LunarLanderNoVel-v3",
    "MiniGrid-MemoryS7": "MiniGrid-MemoryS7-v0",
    "MiniGrid-MemoryS9": "MiniGrid-MemoryS9-v0",
    "T-Maze 10": "passive T-Maze 10",
    "T-Maze 30": "passive T-Maze 30",
    "T-Maze 50": "passive T-Maze 50",
    "T-Maze 100": "passive T-Maze 100",
}


def ours() -> list[dict[str, Any]]:
    """:return: lines of this project, in the form that others give theirs"""
    found = []
    for line in _lines(HERE / "results" / "defaults.jsonl"):
        if line["task"] in NAMES:
            steps, memory = line["curve"][-1][0], line["memory"] or "lstm"
            found.append(dict(line, task=NAMES[line["task"]], memory=memory, steps=steps, source="`defaults.py`"))
    for line in _lines(HERE / "results" / "popgym_table.jsonl"):
        task, source = f"popgym-{line['task']}-v0", "`popgym_table.py`"
        if line["memory"] == "entry":
            memory = ENTRIES[task].get("policy_kwargs", {}).get("memory_class", "lstm")
            line, source = dict(line, memory=memory), f"{source}, the Zoo's entry"
        found.append(dict(line, task=task, source=source))
    corridors = [line for line in _lines(HERE / "results" / "corridors.jsonl") if line["variant"] == "the entry"]
    for line in corridors:
        task, steps = f"passive T-Maze {line['length']}", ENTRIES[f"PassiveTMaze{line['length']}-v0"]["n_timesteps"]
        source = "`corridors.py`, the Zoo's entry"
        found.append(dict(line, task=task, memory="deltanet", steps=int(steps), source=source))
    return [dict(agent="RecurrentDQN", **line) for line in found]


def of_others() -> list[dict[str, Any]]:
    """
    :return: lines of all files in ``benchmarks/results/from_others``
    :raises ValueError: when a line lacks a field, or has one of another type
    """
    found = []
    for path in sorted(FROM_OTHERS.glob("*.jsonl")):
        for number, line in enumerate(_lines(path), 1):
            wrong = [name for name, kind in FIELDS.items() if not isinstance(line.get(name), kind)]
            if wrong:
                raise ValueError(f"{path.name}, line {number}: {', '.join(wrong)} missing or of another type.")
            found.append(line)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def rows() -> list[tuple[str, ...]]:
    """:return: (task, agent, memory, steps, score, each seed, source), the best of a task first"""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in [*ours(), *of_others()]:
        key = tuple(line[name] for name in ("task", "agent", "memory", "steps", "source"))
        groups.setdefault(key, []).append(line)
    scored = [(key, statistics.mean(x["score"] for x in lines), lines) for key, lines in groups.items()]
    scored += [
        (tuple(getattr(x, n) for n in ("task", "agent", "memory", "steps", "source")), x.score, []) for x in PUBLISHED
    ]
    table = []
    for (task, agent, memory, steps, source), score, lines in sorted(scored, key=lambda row: (row[0][0], -row[1])):
        each = ", ".join(f"{x['score']:.3g}" for x in sorted(lines, key=lambda line: line["seed"]))
        table.append((task, agent, memory, f"{steps:,}", f"{score:.4g}", each, source))
    return table


def page() -> str:
    """:return: what stands above, and the table"""
    head = ("task", "agent", "memory", "steps", "score", "by seed", "source")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|--:|--:|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    return TEXT.read_text(encoding="utf-8") + "\n" + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where the page is an older one"
    )
    args = parser.parse_args()
    made = page()
    if args.check:
        sys.exit(0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made else f"{PAGE} is of older results.")
    PAGE.write_text(made, encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
