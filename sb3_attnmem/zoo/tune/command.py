"""``sb3-attnmem tune``: searches by several processes over one study, and what the study leaves behind."""

import contextlib
import io
import shlex
import sys

import optuna
import yaml

from sb3_attnmem.zoo.settings import as_settings, classes_named, to_yaml
from sb3_attnmem.zoo.tune.options import Search, read_options
from sb3_attnmem.zoo.tune.report import write_report
from sb3_attnmem.zoo.tune.storages import masked, outage, why
from sb3_attnmem.zoo.tune.studies import claim_folder
from sb3_attnmem.zoo.tune.supervisor import Supervisor


def main() -> int:
    """
    Read the command line of the process, search, write the report.

    :return: the exit code: 0 when enough trials are done or the time is over, 1 when the search did not get there,
        2 where the command line does not make sense, 128 and the signal's number (130 after Ctrl-C) when it was ended
    """
    search = read_options()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            manager = search.manager()
            _, read = manager.read_hyperparameters()
        base = as_settings({**read, "n_timesteps": manager.n_timesteps, **plain_env_kwargs(search)})
        to_yaml(search.env, base, [])  # what cannot be written is told now, not after the search
        classes = classes_named(read)
        study = search.open_study(manager)
        claim_folder(study, search.folder(), search.storage)
    except Exception as error:
        told = in_words(error, search)
        if told is None:
            raise
        print(f"sb3-attnmem tune: {told}", file=sys.stderr)
        return 2
    print(f"Study {search.study} in {masked(search.storage)}; files in {search.folder()}")
    go_on = f"Nothing is lost; go on with: {command_line(['tune', *sys.argv[1:]])}"
    has_best = False
    with Supervisor(search, study, go_on) as supervisor:
        code = supervisor.run()
        try:
            lines = write_report(study, search.folder(), search.algo, search.env, base, classes)
            has_best = any(line.endswith("best.yml") for line in lines)
            print("\n".join(lines))
        except Exception as error:
            told = in_words(error, search)
            if told is None:
                raise
            supervisor.messages.append(f"no report: {told}")
            code = code or 1
    for message in supervisor.messages:
        print(f"sb3-attnmem tune: {message}", file=sys.stderr)
    if code:
        print(go_on, file=sys.stderr)
    elif has_best:
        print(f"Train the best: {train_command(search)}")
    print(f"Look closer: optuna-dashboard {shlex.quote(masked(search.storage))}")
    return code


def in_words(error: Exception, search: Search) -> str | None:
    """
    :param error: of the settings, the storage or a file
    :param search: that it came up in
    :return: what to tell the user; None for a mistake of ours
    """
    if isinstance(error, (ImportError, OSError, TypeError, ValueError)):
        return str(error)
    return f"storage '{masked(search.storage)}' does not answer: {why(error)}" if outage(error) else None


def command_line(words: list[str]) -> str:
    """
    :param words: of a command of ours
    :return: it as a shell takes it, without passwords
    """
    return shlex.join(["sb3-attnmem", *map(masked, words)])


def train_command(search: Search) -> str:
    """
    :param search: that has found something
    :return: what trains the best of it, on the same task
    """
    words = ["train", "--algo", search.algo, "--env", search.env, "-conf", str(search.folder() / "best.yml")]
    if search.gym_packages:
        words += ["--gym-packages", *search.gym_packages]
    if search.env_kwargs_typed:
        words += ["--env-kwargs", *search.env_kwargs_typed]
    return command_line(words)


def plain_env_kwargs(search: Search) -> dict[str, dict[str, object]]:
    """
    :param search: with or without arguments of its environment
    :return: the entry of ``best.yml`` that holds them; empty where YAML has no words for them: then only the command
        line does
    """
    if not search.env_kwargs:
        return {}
    try:
        same = yaml.safe_load(yaml.safe_dump(search.env_kwargs)) == search.env_kwargs
    except yaml.YAMLError:
        same = False
    return {"env_kwargs": search.env_kwargs} if same else {}
