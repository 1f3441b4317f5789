"""
The pages of docs/: their Python blocks run as pasted, their commands and options exist, the API reference is whole.
That links resolve is seen by ``make docs``.
"""

import ast
import functools
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.logger import configure

from sb3_attnmem import PrioritizedSequenceReplayBuffer, RecurrentDQN
from sb3_attnmem.zoo.cli import COMMANDS, HELP
from tests import programs

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<why>.+?) -->\n+)?```(?P<language>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)

# What `make demo` leaves, which docs/start.md goes on with, after fewer steps
BEFORE = {
    "start.md": """
from pathlib import Path
import sb3_attnmem.envs
from stable_baselines3.common.env_util import make_vec_env
from sb3_attnmem import RecurrentDQN

Path("outputs/quickstart/RecurrentDQN").mkdir(parents=True)  # its evaluations
env = make_vec_env("PassiveTMaze10-v0", 8, wrapper_class=sb3_attnmem.envs.PreviousActionReward,
                   wrapper_kwargs=dict(reward=False))
RecurrentDQN("MlpPolicy", env, buffer_size=5_000).learn(1_200).save("outputs/quickstart/RecurrentDQN.zip")
"""
}
# So many steps and episodes at most, so that the tests are quick; nothing else is changed
QUICKER = {r"(?<=learn\()[\d_]+": 1_200, r"(?<=save_freq=)[\d_]+": 500, r"(?<=episodes=)[\d_]+": 4}

# Mistakes, and what is said of them
PLANTED = {
    "make demos": "no target demos",
    "python examples/quickstarts.py": "no file",
    "python examples/quickstart.py --stepps 10": "no options ['--stepps']",
    "sb3-attnmem trane --algo rdqn": "no command trane",
    "sb3-attnmem train --algo rdqn --n-trails 3": "no options ['--n-trails']",
    "sb3-attnmem train --algo rdqn --checkpoint-freq 50000 -P": "None",
}

RUN = """
import json, sys
page, blocks = json.load(sys.stdin)
names = {"__name__": "__main__"}
for line, code in blocks:
    # Lines are counted as in the page
    exec(compile("\\n" * line + code, page, "exec"), names)
"""

ASK_FOR_HELP = """
import contextlib, io, json, runpy, sys
from sb3_attnmem.zoo.cli import main
answers = {}
for words in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        if words[0] == "sb3-attnmem":
            main([*words[1:], "--help"])
        else:
            sys.argv = [words[1], "--help"]
            sys.path.insert(0, str(words[1].rpartition("/")[0]))
            runpy.run_path(words[1], run_name="__main__")
    answers[" ".join(words)] = out.getvalue()
print(json.dumps(answers))
"""


def blocks(page: Path, language: str) -> Iterator[tuple[int, str, str | None]]:
    """Line, code and, where it says that it is not run, why, of each block of a language."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if found["language"] == language:
            yield text.count("\n", 0, found.start("code")), found["code"], found["why"]


def runnable(page: Path) -> list[tuple[int, str]]:
    return [(line, code) for line, code, why in blocks(page, "python") if why is None]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: page.name)
def test_blocks_run_as_pasted(page: Path, tmp_path: Path) -> None:
    """In turn, in one process a page: blocks may build on earlier ones."""
    code = [(0, BEFORE[page.name])] if page.name in BEFORE else []
    for line, block in runnable(page):
        for pattern, most in QUICKER.items():
            block = re.sub(pattern, lambda found, most=most: str(min(int(found[0]), most)), block)
        code.append((line, block))
    done = programs.run(tmp_path, "-c", RUN, told=json.dumps([f"docs/{page.name}", code]))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_python_and_say_why_where_they_are_not_run(page: Path) -> None:
    for _, code, why in blocks(page, "python"):
        ast.parse(code)
        assert why is None or len(why) > 8
    text = page.read_text(encoding="utf-8")
    marks = len(re.findall(r"^<!-- not run:", text, flags=re.MULTILINE))
    assert marks == sum(bool(found["why"]) for found in BLOCK.finditer(text)), "a mark without a block after it"


def commands(page: Path) -> Iterator[str]:
    """Every command line of ours in bash blocks and in running text, without comments."""
    text = page.read_text(encoding="utf-8")
    for _, code, _ in blocks(page, "bash"):
        code = re.sub(r'python -c "[^"]*"', "", code.replace("\\\n", " "))
        for line in re.sub(r"(?:^|(?<=\s))#.*", "", code, flags=re.MULTILINE).splitlines():
            yield from re.findall(r"(?<![\w./-])((?:sb3-attnmem|python|make) [^;&|>'#]*)", line)
    outside = BLOCK.sub("", text)
    yield from (" ".join(code.split()) for code in re.findall(r"`((?:sb3-attnmem|python|make) [^`]+)`", outside))


def program(words: list[str]) -> list[str]:
    """What is asked for help: the script, or the command with what it inspects or exports."""
    if words[0] == "python":
        return words[:2]
    return words[: 3 if words[1] in ("inspect", "export") else 2]


@functools.cache
def help_texts() -> dict[str, str]:
    """What all programs that the pages name answer to --help, asked in one process."""
    asked = set()
    for page in [*PAGES, ROOT / "README.md"]:
        for command in commands(page):
            words = command.split()
            if words[0] == "sb3-attnmem" and words[1] in COMMANDS:
                asked.add(tuple(program(words)))
            elif words[0] == "python" and _takes_options(ROOT / words[1]):
                asked.add(tuple(program(words)))
    done = programs.run(ROOT, "-c", ASK_FOR_HELP, told=json.dumps(sorted(asked)))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def _takes_options(script: Path) -> bool:
    return script.is_file() and bool(re.search(r"argparse|options\(__doc__\)", script.read_text(encoding="utf-8")))


def what_is_wrong_with(command: str) -> str | None:
    words = command.split()
    if words[0] == "make":
        known = re.search(rf"^{re.escape(words[1])}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        return None if known else f"no target {words[1]}"
    if words[0] == "python" and words[1] == "-m":
        return None if words[2] in ("venv", "sb3_attnmem") else f"no module {words[2]}"
    if words[0] == "python" and not (ROOT / words[1]).is_file():
        return f"no file {words[1]}"
    if words[0] == "sb3-attnmem" and words[1] not in ("COMMAND", "--help", *COMMANDS):
        return f"no command {words[1]}"
    options = {word.split("=")[0] for word in words[2:] if re.match(r"--?[a-zA-Z]", word)} - {"--help"}
    if not options:
        return None
    known = help_texts().get(" ".join(program(words)), "")
    if words[:2] == ["sb3-attnmem", "train"]:
        known += HELP
    unknown = [option for option in sorted(options) if not re.search(rf"(?<![\w-]){option}(?![\w-])", known)]
    return f"no options {unknown}" if unknown else None


def test_commands_and_their_options_exist() -> None:
    wrong = []
    for page in [*PAGES, ROOT / "README.md"]:
        for command in commands(page):
            if complaint := what_is_wrong_with(command):
                wrong.append(f"{page.name}: {command}: {complaint}")
    assert not wrong, "\n".join(wrong)
    # And what is wrong is found
    for command, complaint in PLANTED.items():
        assert complaint in str(what_is_wrong_with(command)), command


def test_the_algorithm_page_knows_every_parameter_and_its_default() -> None:
    text = (ROOT / "docs/algorithm.md").read_text(encoding="utf-8")
    page = text[text.index("## Parameters") : text.index("## What is logged")]
    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]*) \|", page, flags=re.MULTILINE))
    defaults = {
        name: value
        for names, values in rows.items()
        for name, value in zip(re.findall(r"\w+", names), values.split(", "), strict=False)
    }
    for name, parameter in inspect.signature(RecurrentDQN).parameters.items():
        assert f"`{name}`" in page or name in ("policy", "env", "_init_setup_model"), f"{name} is not on the page"
        told = defaults.get(name, "").strip("` ").replace(",", "")
        if told and isinstance(parameter.default, (int, float, str)):
            assert told.strip('"') == str(parameter.default) or float(told) == parameter.default, (name, told)


def test_the_algorithm_page_explains_every_figure_in_the_log(tmp_path: Path) -> None:
    model = RecurrentDQN(
        "MlpPolicy", "CartPole-v1", buffer_size=500, learning_starts=50, batch_size=2, delta_q_interval=1,
        replay_buffer_class=PrioritizedSequenceReplayBuffer,
    )  # fmt: skip
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(200, log_interval=1)
    figures = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    page = (ROOT / "docs/algorithm.md").read_text(encoding="utf-8")
    assert "train/delta_q_first" in figures and "train/priority_max_over_mean" in figures
    assert [figure for figure in figures if f"`{figure}`" not in page] == []


#: but the ground floor, which has no public names
PACKAGES = sorted({path.parent.name for path in (ROOT / "sb3_attnmem").glob("*/__init__.py")} - {"common"})
REFERENCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/api").glob("*.md")))


def in_reference(module: str, name: str) -> bool:
    """Whether a page of the reference documents a name: by itself, or with all of its module."""
    whole = re.search(rf"automodule:: {re.escape(module)}\n(?P<options>(?:   .*\n)*)", REFERENCE)
    if whole and ":members:" in whole["options"]:
        without = re.search(r":exclude-members:(.*)", whole["options"])
        if name not in (re.split(r"[,\s]+", without[1]) if without else []):
            return True
    return bool(re.search(rf"(?:autoclass|autofunction|py:data):: (?:[\w.]+\.)?{name}\n", REFERENCE))


@pytest.mark.parametrize("package", [*PACKAGES, ""], ids=lambda package: package or "sb3_attnmem")
def test_public_names_are_documented(package: str) -> None:
    module = f"sb3_attnmem.{package}".rstrip(".")
    public = importlib.import_module(module)
    for name in public.__all__:
        value: Any = getattr(public, name)
        if package and name != "PretrainedExtractor":  # that is documented where it is defined
            home = getattr(value, "__module__", module)
            # With its own module, or with the package that this lies in
            places = (module, home, home.rpartition(".")[0])
            assert any(in_reference(place, name) for place in places), f"{module}.{name} is on no page of docs/api"
        elif not package:
            assert f"`{name}`" in REFERENCE, f"{name} is not listed in docs/api/index.md"
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not value.__module__.startswith("sb3_attnmem"):
            continue
        assert vars(value).get("__doc__") or value.__doc__, f"{module}.{name} has no docstring"
        for attribute, member in vars(value).items() if inspect.isclass(value) else ():
            # What a method does may be said where the interface is
            inherited = any(attribute in vars(base) for base in value.__mro__[1:])
            if inspect.isfunction(member) and not attribute.startswith("_") and not inherited:
                assert member.__doc__, f"{module}.{name}.{attribute} has no docstring"
