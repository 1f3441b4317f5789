"""Searches, as users start them: several processes, real databases, kills and outages."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.zoo.storages import open_storage

PASSWORD = "correct-horse"
WORDS = ["tune", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "--n-startup-trials", "2", "--heartbeat", "1"]
SHORT = ["--eval-episodes", "4", "-n", "300"]
#: seconds of training, long enough to be killed in
LONG = ["--eval-episodes", "4", "-n", "8000"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Running(subprocess.Popen[str]):
    """``sb3-attnmem`` with some words, in a folder."""

    def __init__(self, folder: Path, *words: str) -> None:
        super().__init__(
            [sys.executable, "-m", "sb3_attnmem", *words],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
            start_new_session=True,
            # Tests that run in the background of a shell inherit that Ctrl-C is ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def told(self) -> str:
        """:return: all that it printed, until its end"""
        try:
            return self.communicate(timeout=240)[0]
        finally:
            if self.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)


def trials(url: str, *states: TrialState) -> list[FrozenTrial]:
    """:return: of the only study; none where there is no study yet"""
    storage = open_storage(url)
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).get_trials(states=states or None) if names else []


def a_running_trial(url: str, process: Running) -> FrozenTrial:
    """:return: the first trial that a worker of ``process`` is in"""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        running = [trial for trial in trials(url, TrialState.RUNNING) if "settings" in trial.user_attrs]
        if running:
            return running[0]
        time.sleep(0.2)
    raise AssertionError(process.told())


@pytest.fixture(name="url", params=["sqlite", "journal", "postgresql"])
def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    if request.param == "journal":
        return f"{tmp_path}/journal.log"
    name: str = request.node.name.split("[")[0]
    url: str = request.getfixturevalue("postgres").new_database(name.lower())
    return url


def test_two_workers_share_a_study(url: str, tmp_path: Path) -> None:
    process = Running(tmp_path, *WORDS, *SHORT, "--n-jobs", "2", "--n-trials", "6", "--storage", url)
    told = process.told()
    assert process.returncode == 0, told
    done = trials(url, TrialState.COMPLETE, TrialState.PRUNED)
    assert 6 <= len(done) <= 7, "N to N + workers - 1"
    assert len({trial.user_attrs["worker"] for trial in done}) == 2
    assert len({str(trial.params) for trial in done}) == len(done), "each worker has a seed of its own"
    folder = tmp_path / "logs" / "rdqn" / "tune" / "rdqn-PassiveTMaze10-v0"
    pictures = ("history", "importances", "slice", "parallel_coordinate")
    files = ["best.yml", "trials.csv", *(f"{name}.{kind}" for name in pictures for kind in ("html", "png"))]
    assert {name: (folder / name).exists() for name in files} == dict.fromkeys(files, True), told
    assert PASSWORD not in told
    for path in folder.iterdir():
        assert PASSWORD.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_a_killed_worker_is_replaced_and_its_trial_tried_again(url: str, tmp_path: Path) -> None:
    process = Running(tmp_path, *WORDS, *LONG, "--n-jobs", "2", "--n-trials", "4", "--storage", url)
    victim = a_running_trial(url, process)
    os.kill(int(victim.user_attrs["worker"].rsplit("-", 1)[1]), signal.SIGKILL)
    told = process.told()
    assert process.returncode == 0, told
    assert "died (exit code -9)" in told
    assert len(trials(url, TrialState.COMPLETE, TrialState.PRUNED)) >= 4
    assert trials(url)[victim.number].state == TrialState.FAIL
    again = [trial for trial in trials(url) if trial.system_attrs.get("failed_trial") == victim.number]
    assert again and again[0].params == victim.params


def test_ctrl_c_ends_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    words = [*WORDS, *LONG, "--n-jobs", "2", "--n-trials", "3", "--storage", url]
    process = Running(tmp_path, *words)
    a_running_trial(url, process)
    os.killpg(process.pid, signal.SIGINT)
    told = process.told()
    assert process.returncode == 130, told
    assert f"go on with: sb3-attnmem {' '.join(words)}" in told and "Traceback" not in told
    assert not trials(url, TrialState.RUNNING)
    again = Running(tmp_path, *words)
    assert again.told() and again.returncode == 0
    assert len(trials(url, TrialState.COMPLETE, TrialState.PRUNED)) >= 3


def test_a_database_that_goes_away_for_seconds_is_waited_for(postgres: Any, tmp_path: Path) -> None:
    url = postgres.new_database("outage")
    process = Running(tmp_path, *WORDS, *LONG, "--n-trials", "2", "--storage", url)
    a_running_trial(url, process)
    postgres.stop()
    time.sleep(4)
    postgres.start()
    told = process.told()
    assert process.returncode == 0, told
    assert len(trials(url, TrialState.COMPLETE, TrialState.PRUNED)) >= 2


def test_a_database_that_stays_away_ends_the_search_with_a_message(postgres: Any, tmp_path: Path) -> None:
    url = postgres.new_database("gone")
    process = Running(tmp_path, *WORDS, *LONG, "--n-trials", "2", "--storage", url, "--storage-patience", "2")
    a_running_trial(url, process)
    postgres.stop()
    told = process.told()
    postgres.start()
    assert process.returncode == 1, told
    assert "the storage did not answer for 2 seconds" in told and "go on with" in told
    assert "Traceback" not in told and PASSWORD not in told
    again = Running(tmp_path, *WORDS, *SHORT, "--n-trials", "2", "--storage", url)
    assert again.told() and again.returncode == 0


@pytest.fixture(name="proxy")
def _proxy(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = (
        "import optuna; from sb3_attnmem.zoo.storages import open_storage;"
        f"storage = open_storage('sqlite:///{tmp_path}/behind.db');"
        f"optuna.storages.run_grpc_proxy_server(storage, host='127.0.0.1', port={port})"
    )
    server = subprocess.Popen([sys.executable, "-c", serve])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            break
        time.sleep(0.2)
    yield f"grpc://127.0.0.1:{port}"
    server.kill()
    server.wait()


def test_a_proxy_in_front_of_the_database(proxy: str, tmp_path: Path) -> None:
    process = Running(tmp_path, *WORDS, *SHORT, "--n-trials", "2", "--storage", proxy)
    told = process.told()
    assert process.returncode == 0, told
    assert len(trials(f"sqlite:///{tmp_path}/behind.db", TrialState.COMPLETE)) >= 2


@pytest.fixture(name="searched", scope="module")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search in SQLite, where the command puts it by itself."""
    folder = tmp_path_factory.mktemp("searched")
    process = Running(folder, *WORDS, *SHORT, "--n-trials", "3", "--pruner", "none")
    told = process.told()
    assert process.returncode == 0, told
    return folder


def test_best_yml_is_taken_as_it_is(searched: Path) -> None:
    best = searched / "logs" / "rdqn" / "tune" / "rdqn-PassiveTMaze10-v0" / "best.yml"
    words = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-conf", str(best), "--eval-freq", "-1"]
    process = Running(searched, *words)
    told = process.told()
    assert process.returncode == 0, told
    settings = yaml.safe_load(best.read_text(encoding="utf-8"))["PassiveTMaze10-v0"]
    assert settings["n_envs"] == 8 and settings["n_timesteps"] == 300, "the rest of the settings is there"
    for path in searched.glob("logs/rdqn/PassiveTMaze10-v0_*"):
        shutil.rmtree(path)


def test_any_trial_can_be_trained_the_first_included(searched: Path) -> None:
    url = f"sqlite:///{searched}/logs/rdqn/tune/rdqn-PassiveTMaze10-v0/study.db"
    words = ["train", "--algo", "rdqn", "--env", "PassiveTMaze10-v0", "-n", "300", "--eval-freq", "-1"]
    process = Running(searched, *words, "--storage", url, "--study-name", "rdqn-PassiveTMaze10-v0", "--trial-id", "0")
    told = process.told()
    assert process.returncode == 0, told
    (config,) = searched.glob("logs/rdqn/PassiveTMaze10-v0_*/*/config.yml")
    trained = yaml.load(config.read_text(encoding="utf-8"), Loader=yaml.UnsafeLoader)
    first = trials(url)[0].user_attrs["settings"]
    assert first.items() <= dict(trained).items()


def test_a_search_that_is_done_does_nothing_more(searched: Path) -> None:
    url = f"sqlite:///{searched}/logs/rdqn/tune/rdqn-PassiveTMaze10-v0/study.db"
    before = len(trials(url))
    process = Running(searched, *WORDS, *SHORT, "--n-trials", "3", "--pruner", "none")
    assert process.told() and process.returncode == 0
    assert len(trials(url)) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--storage", "mysterious"], "is not one of sqlite:///FILE.db"),
        (["--storage", "grpc://host"], "pass grpc://HOST:PORT"),
        (["--storage", f"postgresql://u:{PASSWORD}@127.0.0.1:1/none"], "cannot be opened"),
        (["--storage", "grpc://127.0.0.1:1"], "does not answer"),
        (["--pruner", "wilcoxon"], "--n-seeds 4 or more"),
        (["--n-trials", "0"], "pass at least 1"),
        (["-conf", "nowhere.yml"], "nowhere.yml"),
        (["--env", "PasiveTMaze10-v0"], "did you mean 'PassiveTMaze10-v0'"),
    ],
)
def test_a_command_line_that_makes_no_sense(words: list[str], said: str, tmp_path: Path) -> None:
    process = Running(tmp_path, *WORDS, *words)
    told = process.told()
    assert process.returncode == 2 and said in told and "Traceback" not in told, told
    assert PASSWORD not in told
