"""
The README's learning table: every task of ``zoo_configs/rdqn.yml`` with its own memory and with none, over fixed seeds,
through ``examples/memory_tasks.py``. Each finished run is one line of ``benchmarks/results/learning.jsonl``; a run that
stands there is not done again, so the script can be stopped and started at will.

    python benchmarks/learning.py --jobs 2      # run what is missing, then print the table
    python benchmarks/learning.py --table       # only print the table
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "learning.jsonl"
SEEDS = {
    "CartPoleNoVel-v1": (0, 1, 2),
    "popgym-RepeatPreviousEasy-v0": (0, 1, 2),
    "PassiveTMaze10-v0": (0, 1, 2),
    "PassiveTMaze30-v0": (0, 1, 2),
}


def finished() -> list[dict]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def run(task: str, seed: int, memory: str | None) -> None:
    command = [sys.executable, "examples/memory_tasks.py", task, "--seed", str(seed)]
    command += ["--memory", memory] if memory else []
    begin = time.time()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return
    score = float(done.stdout.rsplit("score:", 1)[1])
    line = dict(task=task, seed=seed, memory=memory, score=score, seconds=round(time.time() - begin))
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(line, flush=True)


def table() -> str:
    scores: dict[tuple[str, str | None], list[float]] = defaultdict(list)
    for line in sorted(finished(), key=lambda line: line["seed"]):
        scores[line["task"], line["memory"]].append(line["score"])
    rows = ["| task | with memory, by seed | control (`none`), by seed |", "|---|---|---|"]
    for task in SEEDS:
        cells = [", ".join(f"{score:.2f}" for score in scores[task, memory]) for memory in (None, "none")]
        rows.append(f"| `{task}` | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--only", default="", help="only tasks whose name contains this")
    args = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    if not args.table:
        done = {(line["task"], line["seed"], line["memory"]) for line in finished()}
        todo = [
            (task, seed, memory)
            for memory in (None, "none")
            for task, seeds in SEEDS.items()
            for seed in seeds
            if (task, seed, memory) not in done and args.only in task
        ]
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: run(*job), todo))
    print(table())


if __name__ == "__main__":
    main()
