"""A study: what it is for, whose files its folder holds, what its trials drew, and which are to be done again."""

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sb3_attnmem.common.files import write_text
from sb3_attnmem.zoo.settings import read_settings
from sb3_attnmem.zoo.tune.storages import MAX_RETRIES, masked, retry_trial

#: trials that are done, whatever they reached
DONE = (TrialState.COMPLETE, TrialState.PRUNED)
#: user attributes of a trial: its arguments, in the words of the RL Zoo's YAML; who trains it; what it failed with
SETTINGS_ATTR, WORKER_ATTR, ERROR_ATTR = "settings", "worker", "error"
#: user attribute of a study: the task that it is for
TASK_ATTR = "task"
#: in the folder of a study: which study's files these are
MARK = "study.json"


def task_of(algo: str, env_id: str, env_kwargs: dict[str, Any] | None) -> dict[str, str]:
    """
    :param algo: as the RL Zoo names it
    :param env_id: of a registered environment
    :param env_kwargs: its arguments
    :return: what trials must have in common to be compared
    """
    arguments = ", ".join(f"{name}={value!r}" for name, value in sorted((env_kwargs or {}).items()))
    return dict(algorithm=algo, environment=env_id, arguments=arguments)


def claim_study(study: optuna.Study, task: dict[str, str]) -> None:
    """
    Let the study be for this task, if it is for none yet.

    :param study: with or without trials
    :param task: of :func:`task_of`
    :raises ValueError: when the study is for another task
    """
    if TASK_ATTR not in study.user_attrs:
        study.set_user_attr(TASK_ATTR, task)
    if study.user_attrs[TASK_ATTR] != task:  # read again: another machine may have been faster
        theirs = study.user_attrs[TASK_ATTR]
        raise ValueError(
            f"study '{study.study_name}' is for {_in_words(theirs)}, not for {_in_words(task)}: their trials cannot be "
            "compared. Pass another --study-name."
        )


def _in_words(task: dict[str, str]) -> str:
    arguments = f" with {task['arguments']}" if task.get("arguments") else ""
    return f"{task.get('algorithm')} on {task.get('environment')}{arguments}"


def claim_folder(study: optuna.Study, folder: Path, storage: str) -> None:
    """
    Let the folder hold this study's files, if it holds no other's.

    :param study: that writes there
    :param folder: is made where it is missing
    :param storage: URL of the study's storage
    :raises ValueError: when the files of another study of that name, in another storage, are there
    :raises OSError: when nothing can be written there
    """
    path, storage = folder / MARK, masked(storage)
    mark = _read_mark(path)
    if mark is not None and _folder_attr(mark["id"]) in study.user_attrs:
        return
    if mark is not None and mark["storage"] != storage:
        raise ValueError(
            f"{folder} holds the files of another study '{study.study_name}', in {mark['storage']}, which would be "
            "overwritten. Pass another --study-name, or another folder with -f."
        )
    mark = dict(id=uuid.uuid4().hex, storage=storage)
    # Told to the study first: a process that finds the mark finds that the study knows it
    study.set_user_attr(_folder_attr(mark["id"]), f"{socket.gethostname()}:{folder.resolve()}")
    write_text(path, json.dumps(mark))


def _read_mark(path: Path) -> dict[str, str] | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        mark = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(mark, dict) and {"id", "storage"} <= mark.keys():
            return mark
    return None


def _folder_attr(mark: str) -> str:
    return f"folder-{mark}"


def settings_of(trial: FrozenTrial, algo: str, classes: Iterable[type]) -> dict[str, Any]:
    """
    :param trial: of a study that others may have written
    :param algo: that it trained
    :param classes: that the user's own settings name
    :return: what it drew, in plain YAML
    :raises ValueError: when that is not data, or no argument of the algorithm
    """
    try:
        return read_settings(trial.user_attrs[SETTINGS_ATTR], algo, classes)
    except ValueError as error:
        raise ValueError(f"trial {trial.number} of the study: {error}") from None


def search_is_over(study: optuna.Study, n_trials: int, deadline: float | None) -> bool:
    """
    :param study: of the search
    :param n_trials: that shall be done, by all workers together
    :param deadline: seconds since the epoch; None for none
    :return: whether so many are done, or the time is over
    """
    done = len(study.get_trials(deepcopy=False, states=DONE))
    return done >= n_trials or (deadline is not None and time.time() >= deadline)


def last_error(study: optuna.Study) -> str | None:
    """
    :param study: with trials
    :return: what the last trial that failed said
    """
    failed = study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
    told = [str(trial.user_attrs[ERROR_ATTR]) for trial in failed if ERROR_ATTR in trial.user_attrs]
    return told[-1] if told else None


def retry_trials_of(study: optuna.Study, worker: str, most: int | None = MAX_RETRIES) -> int:
    """
    End the trials that a dead worker left running, and enqueue them again with the same parameters.

    :param study: of its search
    :param worker: its name
    :param most: times that a trial is tried again; None: no limit
    :return: how many there were
    """
    trials = study.get_trials()
    retried = _retried(trials)
    ended = 0
    for trial in trials:
        if trial.state == TrialState.RUNNING and trial.user_attrs.get(WORKER_ATTR) == worker:
            # Enqueued first: who is killed between the two has lost nothing, and who comes after enqueues nothing twice
            if trial.number not in retried:
                retry_trial(study, trial, most)
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):  # others ended it
                study.tell(trial.number, state=TrialState.FAIL)
            ended += 1
    return ended


def retry_lost_trials(study: optuna.Study) -> int:
    """
    Enqueue trials again that failed by no error of theirs, and whose enqueuing was cut off.

    :param study: of a search that goes on
    :return: how many there were
    """
    trials = study.get_trials()
    retried = _retried(trials)
    lost = [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and WORKER_ATTR in trial.user_attrs
        and ERROR_ATTR not in trial.user_attrs
        and trial.number not in retried
        and len(trial.system_attrs.get("retry_history", ())) < MAX_RETRIES
    ]
    for trial in lost:
        retry_trial(study, trial)
    return len(lost)


def _retried(trials: Iterable[FrozenTrial]) -> set[int]:
    """:return: numbers of those that were enqueued again"""
    return {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
