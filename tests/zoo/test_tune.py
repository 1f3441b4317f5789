"""Searches, as users start them (test_workers.py and test_supervisor.py have what workers and their supervisor do)."""

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.run_files import read_run_file
from sb3_attnmem.zoo.storages import open_storage
from sb3_attnmem.zoo.tune import command, options
from sb3_attnmem.zoo.tune.report import write_report
from tests.zoo.searches import ENV, PASSWORD, TASK, WORDS, Running, a_running_trial, trials, wait_for_the_end_of

#: a finished search, and the words that began it
SHORT = [
    *WORDS,
    "-n",
    "300",
    "--n-jobs",
    "2",
    "--n-trials",
    "4",
    "--pruner",
    "none",
    "--env-kwargs",
    "corridor_length:4",
]
STUDY = Path("logs/rdqn/tune") / f"rdqn-{ENV}"
URL = f"sqlite:///{STUDY}/study.db"


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a finished search in SQLite, where the command puts it by itself, and what it printed."""
    folder = tmp_path_factory.mktemp("a search")
    process = Running(folder, *SHORT)
    told = process.told()
    assert process.returncode == 0, told
    return folder, told


@pytest.fixture(name="searched")
def _searched(finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The finished search is where this process is now; what it printed."""
    monkeypatch.chdir(finished[0])
    return finished[1]


def test_two_workers_shared_the_study(searched: str) -> None:
    done = trials(URL, TrialState.COMPLETE)
    assert 4 <= len(done) <= 5, "N to N + workers - 1"
    assert len({trial.user_attrs["worker"] for trial in done}) == 2
    assert len({str(trial.params) for trial in done}) == len(done), "each worker has a seed of its own"


def test_files_of_a_search(searched: str) -> None:
    pictures = ("history", "importances", "slice", "parallel_coordinate")
    files = {"best.yml", "trials.csv", "study.db", "study.json"}
    files |= {f"{name}.{kind}" for name in pictures for kind in ("html", "png")}
    assert {path.name for path in STUDY.iterdir() if not path.name.startswith("worker-")} == files, searched


def test_the_printed_command_trains_the_best_on_the_same_task(
    searched: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (line,) = [line for line in searched.splitlines() if line.startswith("Train the best: ")]
    words = shlex.split(line.removeprefix("Train the best: "))
    assert words[0] == "sb3-attnmem" and words[-2:] == ["--env-kwargs", "corridor_length:4"]
    assert main([*words[1:], "--eval-freq", "-1", "-f", str(tmp_path)]) == 0, capsys.readouterr().err
    (config,) = tmp_path.glob("rdqn/*/*/config.yml")
    trained = read_run_file(config)
    best = yaml.safe_load((STUDY / "best.yml").read_text(encoding="utf-8"))[ENV]
    assert best["env_kwargs"] == dict(corridor_length=4) and best.items() <= dict(trained).items()
    assert trained["n_envs"] == 8 and trained["n_timesteps"] == 300, "the rest of the settings is there"


def test_any_trial_can_be_trained_the_first_included(searched: str, tmp_path: Path) -> None:
    words = ["train", *TASK, "-n", "100", "--eval-freq", "-1", "--storage", URL, "--study-name", f"rdqn-{ENV}"]
    assert main([*words, "--trial-id", "0", "-f", str(tmp_path)]) == 0
    (config,) = tmp_path.glob("rdqn/*/*/config.yml")
    first = trials(URL)[0].user_attrs["settings"]
    assert first.items() <= dict(read_run_file(config)).items()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trial-id", "99"], "has no trial 99"),
        (["--trial-id", "0", "--study-name", "another"], "there is no study 'another'"),
        (["--trial-id", "0", "--algo", "dqn"], "is for rdqn, not for dqn"),
    ],
)
def test_a_trial_that_is_not_there(
    words: list[str], said: str, searched: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", *TASK, "-f", str(tmp_path), "--storage", URL, "--study-name", f"rdqn-{ENV}"]
    assert main([*train, *words]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir()), "and nothing is left behind"


def test_settings_that_others_wrote_into_the_study_do_not_run(
    searched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    shutil.copy(STUDY / "study.db", tmp_path / "study.db")
    storage = open_storage(f"sqlite:///{tmp_path}/study.db")
    study = optuna.load_study(study_name=f"rdqn-{ENV}", storage=storage)
    evil = dict(policy_kwargs="dict(a=__import__('os').system('x'))")
    study.add_trial(optuna.create_trial(value=2.0, user_attrs=dict(settings=evil)))
    words = ["train", *TASK, "--storage", f"sqlite:///{tmp_path}/study.db", "--study-name", f"rdqn-{ENV}"]
    words += ["--trial-id", str(len(study.trials) - 1), "-f", str(tmp_path / "logs")]
    assert main(words) == 2
    assert "settings: policy_kwargs: " in capsys.readouterr().err
    with pytest.raises(ValueError, match="is not data"):
        write_report(study, tmp_path, "rdqn", ENV, {}, ())
    assert not (tmp_path / "best.yml").exists() and not ran


def test_a_search_that_is_done_does_nothing_more(searched: str) -> None:
    before = trials(URL)
    assert main(SHORT) == 0
    assert trials(URL) == before


@pytest.mark.parametrize("name", ["--study-name", "--study"])
def test_a_study_has_the_name_that_rl_zoo3_s_users_type(name: str) -> None:
    assert options.read_options([*TASK, name, "mine"]).study == "mine"


def test_a_study_is_for_one_task(searched: str, capsys: pytest.CaptureFixture[str]) -> None:
    for other in (["--env", "PassiveTMaze30-v0"], ["--env-kwargs", "corridor_length:5"]):
        assert main([*SHORT, *other, "--storage", URL, "--study-name", f"rdqn-{ENV}"]) == 2
        assert f"'rdqn-{ENV}' is for rdqn on {ENV} with corridor_length=4, not for" in capsys.readouterr().err


def test_a_study_of_the_same_name_elsewhere_overwrites_nothing(
    searched: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in STUDY.iterdir()}
    assert main([*SHORT, "--storage", f"sqlite:///{tmp_path}/other.db"]) == 2
    assert "holds the files of another study" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in STUDY.iterdir()} == before


def test_a_report_that_cannot_be_written_is_told(
    searched: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("sb3_attnmem.zoo.tune.report.write_text", full)
    before = (STUDY / "best.yml").read_bytes()
    assert main(SHORT) == 1
    told = capsys.readouterr().err
    assert "no report: " in told and "No space left on device" in told and "go on with: sb3-attnmem tune" in told
    assert (STUDY / "best.yml").read_bytes() == before


def test_without_the_packages_of_pictures_the_best_is_written(
    searched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    study = optuna.load_study(study_name=f"rdqn-{ENV}", storage=open_storage(URL))
    lines = write_report(study, tmp_path, "rdqn", ENV, {}, ())
    assert (tmp_path / "best.yml").exists() and "matplotlib is missing (pip install" in lines[-1]


def test_ctrl_c_twice_ends_at_once_and_the_same_command_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    words = [*WORDS, "--n-trials", "1", "--storage", url, "-n"]
    process = Running(tmp_path, *words, "2000000")
    running = a_running_trial(url, process)
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    told = process.told()
    assert process.returncode == 130, told
    assert f"go on with: sb3-attnmem {shlex.join(words)} 2000000" in told and "Traceback" not in told
    wait_for_the_end_of(int(running.user_attrs["worker"].rsplit("-", 1)[1]))
    again = Running(tmp_path, *words, "300")
    told = again.told()
    assert again.returncode == 0, told
    assert len(trials(url, TrialState.COMPLETE, TrialState.PRUNED)) == 1
    retried = [trial.system_attrs.get("failed_trial") for trial in trials(url)]
    assert running.number in retried, "nothing is lost"


def test_a_password_is_nowhere(
    postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without trials: in files, in what is printed, and in the study."""
    url = postgres.new_database("password")
    monkeypatch.chdir(tmp_path)
    study = optuna.create_study(storage=open_storage(url), study_name=f"rdqn-{ENV}", direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0, user_attrs=dict(settings={})))
    assert main([*WORDS, "--storage", url, "--n-trials", "1"]) == 0
    told = "".join(capsys.readouterr())
    assert "tuner:***@" in told and PASSWORD not in told, told
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in str(optuna.load_study(study_name=f"rdqn-{ENV}", storage=open_storage(url)).user_attrs)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--storage", "mysterious"], "is not one of sqlite:///FILE.db"),
        (["--storage", "sqlite://"], "in memory"),
        (["--storage", "grpc://host"], "pass grpc://HOST:PORT"),
        (["--storage", f"postgresql://u:{PASSWORD}@127.0.0.1:1/none"], "cannot be opened"),
        (["--storage", f"postgresql://u:{PASSWORD}@x@127.0.0.1:1/none"], "%40"),
        (["--storage", "grpc://127.0.0.1:1"], "does not answer"),
        (["--pruner", "wilcoxon"], "--n-seeds 4 or more"),
        (["--sampler", "auto"], "--sampler auto needs the package optunahub: pip install"),
        (["-conf", "nowhere.yml"], "nowhere.yml"),
        (["--env", "PasiveTMaze10-v0"], "did you mean 'PassiveTMaze10-v0'"),
        (["-params", "policy_kwargs:dict(activation_fn=len)"], "cannot be written into a YAML file"),
        *(
            ([name, value], f"{name}={value}")
            for name, value in [
                ("--n-trials", "0"),
                ("--n-jobs", "0"),
                ("--n-startup-trials", "-1"),
                ("--n-timesteps", "0"),
                ("--n-evaluations", "0"),
                ("--n-eval-envs", "-2"),
                ("--num-threads", "0"),
                ("--heartbeat", "0"),
                ("--seed", "-1"),
                ("--seed", str(2**32)),
                ("--timeout", "-1"),
                ("--timeout", "nan"),
                ("--storage-patience", "-1"),
            ]
        ),
    ],
)
def test_a_command_line_that_makes_no_sense(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sb3_attnmem.zoo.tune.storages.MAKING_TABLES", -1.0)
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: None if name == "optunahub" else True)
    assert main([*WORDS, *words]) == 2
    told = capsys.readouterr().err
    assert said in told and PASSWORD not in told, told
    assert not list(tmp_path.glob("logs/rdqn/tune/*/worker-*"))


def test_arguments_that_yaml_has_no_words_for_stay_in_the_command() -> None:
    search = options.read_options([*TASK, "--env-kwargs", "size:(3, 4)", "name:'it is'"])
    assert command.plain_env_kwargs(search) == {}
    words = shlex.split(command.train_command(search))
    assert words[-3:] == ["--env-kwargs", "size:(3, 4)", "name:'it is'"]
    search = options.read_options([*TASK, "--env-kwargs", "size:[3, 4]"])
    assert command.plain_env_kwargs(search) == {"env_kwargs": {"size": [3, 4]}}
