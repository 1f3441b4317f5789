"""A run's folder that somebody else made is read, and nothing in its ``config.yml`` and ``args.yml`` runs."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from sb3_attnmem.zoo.cli import main
from sb3_attnmem.zoo.run_files import RunFileError, RunLoader, check_run_folder, read_run_file
from sb3_attnmem.zoo.tune.trials import TrialManager

ENV = "PassiveTMaze10-v0"
EVIL = "!!python/object/apply:os.system [x]"


@pytest.fixture(name="ran")
def _ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was run, if anything was."""
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    return ran


def test_what_rl_zoo3_writes_comes_back() -> None:
    written = OrderedDict(env="x", env_kwargs=dict(size=(3, 4), name="y"), hyperparams=None, number=1e-3)
    text = yaml.dump(written)
    assert "!!python/object/apply:collections.OrderedDict" in text and "!!python/tuple" in text
    assert yaml.load(text, Loader=RunLoader) == written == yaml.unsafe_load(text)


def test_a_class_that_was_typed_comes_back_as_its_name() -> None:
    text = yaml.dump(dict(hyperparams=dict(policy_kwargs=dict(activation_fn=nn.ReLU))))
    assert yaml.load(text, Loader=RunLoader)["hyperparams"]["policy_kwargs"]["activation_fn"].endswith("ReLU")


@pytest.mark.parametrize(
    "value",
    [
        EVIL,
        "!!python/object/new:os.system [x]",
        "!!python/object:os.system {}",
        "!!python/object/apply:collections.OrderedDict\n- - - a\n    - !!python/object/apply:os.system [x]",
        "!!python/module:os",
    ],
)
def test_a_file_that_would_run_something_is_refused(value: str, tmp_path: Path, ran: list[str]) -> None:
    (tmp_path / "args.yml").write_text(f"env_kwargs: {value}\n", encoding="utf-8")
    with pytest.raises(RunFileError, match=r"args.yml: The file asks for a Python object"):
        read_run_file(tmp_path / "args.yml")
    with pytest.raises(RunFileError, match=r"args.yml"):
        check_run_folder(tmp_path)
    assert not ran


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("normalize: \"__import__('os').system('x')\"", "normalize: .* is not data"),
        ("[1, 2]", "must hold options by name, not list"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:collections.OrderedDict {}", "is no YAML|list of pairs"),
    ],
)
def test_settings_that_make_no_sense(text: str, said: str, tmp_path: Path, ran: list[str]) -> None:
    (tmp_path / "config.yml").write_text(text, encoding="utf-8")
    with pytest.raises(RunFileError, match=said):
        check_run_folder(tmp_path)
    assert not ran


@pytest.mark.parametrize(
    "settings",
    [
        dict(env_wrapper=["stable_baselines3.common.atari_wrappers.AtariWrapper", "sb3_attnmem.envs.PopgymWrapper"]),
        dict(env_wrapper={"sb3_attnmem.envs.PreviousActionReward": dict(reward=False)}),
        dict(env_wrapper="rl_zoo3.utils.flatten_dict_observations"),
        dict(vec_env_wrapper=[{"stable_baselines3.common.vec_env.VecFrameStack": dict(n_stack=3)}]),
        dict(env_wrapper=None, vec_env_wrapper=[]),
    ],
)
def test_wrappers_of_environments_are_taken(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    check_run_folder(tmp_path)


@pytest.mark.parametrize("path", ["timeit.timeit", "os.system", "torch.nn.Linear", "no.such.module", "nonsense", 3])
@pytest.mark.parametrize("key", ["env_wrapper", "vec_env_wrapper"])
def test_what_is_no_wrapper_is_refused(key: str, path: object, tmp_path: Path, ran: list[str]) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({key: [{path: dict(setup="x")}]}), encoding="utf-8")
    with pytest.raises(RunFileError, match=f"{key}: '{path}' is no wrapper"):
        check_run_folder(tmp_path)
    assert not ran


def test_a_module_in_the_run_s_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it could be, since commands look for modules in the present folder."""
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "downloaded" / "run-1"
    settings = run / "Env-v0"
    settings.mkdir(parents=True)
    for name in ("evil.py", "package/__init__.py", "package/inside.py"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("raise SystemExit('it ran')", encoding="utf-8")
    for module in ("evil", "package.inside"):
        text = yaml.safe_dump(dict(env_wrapper=f"downloaded.run-1.{module}.Wrapper"))
        (settings / "config.yml").write_text(text, encoding="utf-8")
        with pytest.raises(RunFileError, match="none that lie in the run's folder"):
            check_run_folder(settings)


@pytest.fixture(name="logs", scope="module")
def _logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The logs of an agent, just as rl_zoo3's manager leaves them."""
    folder = tmp_path_factory.mktemp("run_files")
    config = folder / "config.yml"
    normalize = "dict(norm_obs=True, norm_reward=False)"
    settings = f"{{n_timesteps: 10, policy: MlpPolicy, normalize: '{normalize}', buffer_size: 2000}}"
    config.write_text(f"{ENV}: {settings}", encoding="utf-8")
    typed: dict[str, Any] = dict(env=ENV, env_kwargs=dict(corridor_length=4), hyperparams=None)
    manager = TrialManager(
        argparse.Namespace(**typed),
        "dqn",
        ENV,
        str(folder / "logs"),
        env_kwargs=typed["env_kwargs"],
        config=str(config),
        verbose=0,
        eval_freq=-1,
    )
    experiment = manager.setup_experiment()
    assert experiment is not None
    manager.save_trained_model(experiment[0])
    return folder / "logs"


@pytest.mark.parametrize("command", ["enjoy", "inspect", "benchmark"])
@pytest.mark.parametrize("name", ["args.yml", "config.yml"])
def test_commands_read_the_files_as_data(
    command: str,
    name: str,
    logs: Path,
    ran: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = logs / "dqn" / f"{ENV}_1" / ENV / name
    good = path.read_text(encoding="utf-8")
    agent = ["--algo", "dqn", "--env", ENV, "-f", str(logs)]
    words = {
        "enjoy": ["enjoy", *agent, "--no-render", "-n", "5"],
        "inspect": ["inspect", "memory", *agent],
        "benchmark": ["benchmark", "--log-dir", str(logs), "--no-hub", "-n", "5", "--num-threads", "1"],
    }[command]
    monkeypatch.chdir(logs.parent)
    if command == "enjoy":
        assert main(words) == 0, capsys.readouterr().err
    if (command, name) == ("benchmark", "config.yml"):
        pytest.skip("it starts another process for each agent, which is enjoy's")
    try:
        path.write_text(f"{good.rstrip()}\n  - - evil\n    - {EVIL}\n", encoding="utf-8")
        assert main(words) == 2
    finally:
        path.write_text(good, encoding="utf-8")
    assert "asks for a Python object" in capsys.readouterr().err and not ran
