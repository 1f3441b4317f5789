"""What options mean however they are spelt, and what is said where a package is missing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sb3_attnmem.zoo import CONFIGS
from sb3_attnmem.zoo.cli import main


@pytest.fixture(name="config_of")
def _config_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """What ``train`` would read its settings from; nothing is trained."""
    seen: list[str | None] = []

    def manager(*args: Any, config: str | None, **kwargs: Any) -> None:
        seen.append(config)
        raise SystemExit(0)

    def config_of(*words: str) -> str | None:
        assert main(["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", *words]) == 0
        return seen.pop()

    monkeypatch.setattr("sb3_attnmem.zoo.train.command.ZooManager", manager)
    return config_of


CONF_SPELLINGS = (["-conf", "{}"], ["-conf={}"], ["-c", "{}"], ["--conf-file", "{}"], ["--conf-file={}"])
CONF_SPELLINGS += (["--conf", "{}"], ["--con={}"], ["--c", "{}"])


@pytest.mark.parametrize("spelling", CONF_SPELLINGS, ids=" ".join)
def test_the_user_s_settings_file_is_taken_however_it_is_named(
    spelling: list[str], tmp_path: Path, config_of: Callable[..., str | None]
) -> None:
    mine = tmp_path / "mine.yml"
    mine.touch()
    assert config_of(*(word.format(mine) for word in spelling)) == str(mine)


def test_algorithm_and_environment_are_understood_however_they_are_named(config_of: Callable[..., str | None]) -> None:
    assert config_of() == str(CONFIGS["rdqn"])
    assert config_of("--alg=rdqn", "--env=PassiveTMaze30-v0") == str(CONFIGS["rdqn"])
    assert config_of("--al", "ppo", "--env=CartPole-v1") is None, "rl_zoo3 has its own for these"


@pytest.mark.parametrize(
    "words, said",
    [
        (["-conf", "nowhere.yml"], "-conf nowhere.yml: there is no such file"),
        (["--conf=nowhere.at.all"], "-conf nowhere.at.all: this is no .yml, .yaml or .py file, and there is no such"),
        (["-c", "settings.txt"], "-conf settings.txt: this is no .yml, .yaml or .py file"),
        (["-i", "nowhere.zip"], "-i nowhere.zip: pass the .zip file of an agent"),
        (["--trained=nowhere"], "-i nowhere: pass the .zip file of an agent"),
        (["--gym-packages", "nowhere"], "--gym-packages nowhere: No module named 'nowhere'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_are_not_there_are_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words]) == 2
    assert said in capsys.readouterr().err


def test_train_help_lists_our_options_and_rl_zoo3_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"{flag} " in told for flag in ("--checkpoint-freq", "--resume", "--freeze", "--offline-data", "--seed"))


@pytest.mark.parametrize(
    ("package", "extra", "words"),
    [
        ("rl_zoo3", "zoo", ["train", "--algo", "rdqn"]),
        ("rl_zoo3", "zoo", ["enjoy"]),
        ("matplotlib", "zoo", ["plot-train", "-a", "rdqn", "-e", "CartPole-v1", "-f", "logs"]),
        ("seaborn", "zoo", ["plot-eval"]),
    ],
)
def test_what_is_not_installed_is_told(
    package: str, extra: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = (f"{package}.", "rl_zoo3.plots", *(["sb3_attnmem.zoo.registration"] if package == "rl_zoo3" else []))
    for name in list(sys.modules):
        if name.startswith(fresh):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(words) == 2
    assert f'needs {package}, which is not installed: pip install "sb3_attnmem[{extra}]"' in capsys.readouterr().err


def test_the_program_starts_without_rl_zoo3() -> None:
    code = "import sys; sys.modules['rl_zoo3'] = None; from sb3_attnmem.zoo.cli import main; sys.exit(main(['enjoy']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert 'enjoy needs rl_zoo3, which is not installed: pip install "sb3_attnmem[zoo]"' in done.stderr
