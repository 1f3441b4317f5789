"""
The page that the doctor writes of an environment, as a picture for the README.

    python benchmarks/doctor_picture.py        # writes docs/pictures/doctor.svg
"""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "doctor.svg"
ENV = "CartPoleNoVel-v1"
#: what a line begins with -> its style
STYLES = {"!": "bold yellow", "->": "green", "·": "bold"}


def main() -> None:
    command = [sys.executable, "-m", "sb3_attnmem", "doctor", "--env", ENV]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert "observations" in done.stdout, done.stderr
    console = Console(record=True, width=max(map(len, done.stdout.splitlines())) + 1, file=io.StringIO())
    style = ""
    for line in done.stdout.strip().splitlines():
        begun = next((style for mark, style in STYLES.items() if line.lstrip().startswith(mark)), None)
        indented = line.startswith(" " * 5)
        style = begun if begun is not None else style if indented and style == "green" else ""
        console.print(Text(line, style=style))
    console.save_svg(str(PICTURE), title=f"sb3-attnmem doctor --env {ENV}")
    print(PICTURE)


if __name__ == "__main__":
    main()
