"""``diagnose_run``: why an agent does not learn, from what its run left behind."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sb3_attnmem.common.checks import check_integer
from sb3_attnmem.doctor.algorithms import FAMILIES
from sb3_attnmem.doctor.cause import Cause, updates_made
from sb3_attnmem.doctor.causes import LOOKS
from sb3_attnmem.doctor.causes_of_time import measure_pace
from sb3_attnmem.doctor.findings import NOTE, PROBLEM, WARNING, Finding, Report, ranked
from sb3_attnmem.doctor.memory_use import memory_causes
from sb3_attnmem.doctor.progress_of_run import Progress, measure_progress
from sb3_attnmem.doctor.records import RunRecord, read_run
from sb3_attnmem.doctor.trial import measure_staleness, play_trial
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.replay import SequenceReplayBuffer

#: score from which a cause is an illness
ILL = 0.5
#: of the score of a cause where the agent learns all the same
WHERE_HEALTHY = 0.45


def diagnose_run(
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    algo: str | None = None,
    need: int | None = None,
    env: VecEnv | gym.Env | None = None,
    episodes: int = 20,
    seed: int = 0,
    tick: Callable[[str], Any] = lambda word: None,
) -> Report:
    """
    Look for what keeps an agent from learning, while it trains or after.

    :param folder: of a run: of the RL Zoo, or any that holds a model's file, ``progress.csv`` (or TensorBoard's
        events), ``evaluations.npz``, ``monitor.csv``, a saved replay buffer, or some of them. Models and replay buffers
        are unpickled: do not look into files of strangers
    :param settings: of the run, where no model's file tells them
    :param algo: as the RL Zoo names it; found out by default
    :param need: observations that the task asks an agent to remember, as :func:`diagnose_env` found
    :param env: to play in, like the one that it is evaluated in, wrappers and ``VecNormalize`` included: is its memory
        used, and does it see there what it saw in training? By default nothing is played
    :param episodes: that are played there, for each length of memory
    :param seed: of the first of them
    :param tick: is told what is being done
    :return: ranked causes, the worst first; ``exit_code`` is 1 where one is an illness
    :raises ValueError: where the folder holds no figures of a training, or the environment does not fit the agent
    """
    episodes, seed = check_integer("episodes", episodes), check_integer("seed", seed, 0, 2**32 - 1)
    record = read_run(folder, settings, algo)
    _play(record, env, episodes, seed, tick)
    progress = measure_progress(record)
    causes = [cause for look in LOOKS for cause in look(record, progress)]
    causes += memory_causes(record, progress, need)
    found = [judge(cause, progress) for cause in causes]
    found.append(_summary(record, progress, found))
    report = Report(f"{record.folder}: {record.algo}, {record.total_steps:,} steps", [], _figures(record, progress))
    report.findings = ranked(found)
    report.findings.sort(key=lambda finding: finding.name != "progress")
    report.unseen = record.unseen
    return report


def _play(
    record: RunRecord, env: VecEnv | gym.Env | None, episodes: int, seed: int, tick: Callable[[str], Any]
) -> None:
    """Measure what only the agent itself can tell, as far as it can be loaded."""
    buffer = None if record.stored is None else record.stored.buffer
    # ``VecNormalize`` must be the run's own, else ΔQ would be that of other observations
    is_stale = record.is_recurrent and isinstance(buffer, SequenceReplayBuffer) and "obs" not in record.normalizes
    if env is None and not is_stale:
        return
    if record.model_path is None or record.algo not in FAMILIES:
        if env is not None:
            raise ValueError(
                f"{record.folder} has no model's file of {', '.join(FAMILIES)} to play with. Leave env out, or save "
                "the model there."
            )
        return
    family: Any = FAMILIES[record.algo]
    small = dict(buffer_size=1) if record.is_q_learning else {}
    # A policy draws its first weights, though a file's take their place
    drawn = np.random.get_state()
    with th.random.fork_rng(devices=[]):
        model: BaseAlgorithm = family.load(record.model_path, device="cpu", **small)
    np.random.set_state(drawn)
    if is_stale and isinstance(model, RecurrentDQN) and isinstance(buffer, SequenceReplayBuffer):
        tick("ΔQ of the replay buffer")
        try:
            record.staleness = measure_staleness(model, buffer)
        except ValueError as error:  # of another model, or no sequence has a history
            record.unseen.append(f"ΔQ: {error}")
    if env is not None:
        record.trial = play_trial(model, env, episodes, seed, tick)


def judge(cause: Cause, progress: Progress | None) -> Finding:
    """
    :param cause: that may be at work
    :param progress: how the score went; None: not known
    :return: the cause as it is told: where the agent learns all the same, as no illness
    """
    learns = progress is not None and progress.healthy and not cause.certain
    if cause.limits and progress is not None and not progress.rising and not progress.solved:
        learns = False
    score = cause.score * (WHERE_HEALTHY if learns else 1.0)
    severity = PROBLEM if score >= ILL else WARNING if score >= 0.3 else NOTE
    return Finding(cause.name, severity, cause.title, cause.evidence, cause.advice, round(score, 3))


def _summary(record: RunRecord, progress: Progress | None, found: list[Finding]) -> Finding:
    if progress is None:
        return Finding(
            "progress",
            NOTE,
            "Too few episodes were written down to see whether it learns.",
            f"{len(record.scores)} scores.",
        )
    told = (
        f"{record.scores_come_from.capitalize()}: {progress.first:.3g} at first, {progress.last:.3g} at last, "
        f"{progress.best:.3g} at best, over {progress.n_scores:,} scores"
    )
    if record.evaluations is not None:
        told += f"; last evaluation {record.evaluations[1][-1]:.3g}, best {record.evaluations[1].max():.3g}"
    if progress.solved:
        title = "It has learned: the score is what Gymnasium calls solved."
    elif progress.healthy:
        title = "It learns" + (", and the score still rises." if progress.rising else ".")
    elif progress.rising:
        title = "The score rises, slowly."
    elif progress.best - progress.last > 0.5 * abs(progress.best - progress.first) and progress.gain > 2:
        title = "It had learned, and lost it again."
    else:
        title = "It does not learn: the score stays where it was."
    ill = any(finding.severity == PROBLEM for finding in found)
    if not progress.healthy and not ill:
        title += " No known cause was found."
    return Finding("progress", NOTE, title, told + ".")


def _figures(record: RunRecord, progress: Progress | None) -> dict[str, Any]:
    pace = measure_pace(record)
    return dict(
        algo=record.algo,
        env=record.env_id,
        steps=record.total_steps,
        updates=updates_made(record) if record.is_q_learning else None,
        progress=None if progress is None else {**progress._asdict(), "healthy": progress.healthy},
        last={
            name: record.last(name)
            for name in sorted(record.figures)
            if name.startswith(("train/", "rollout/", "time/fps"))
        },
        evaluations=None if record.evaluations is None else record.evaluations[1].tolist(),
        replay=_replay_figures(record),
        pace=None if pace is None else {**pace._asdict(), "update_share": pace.update_share},
        trial=_trial_figures(record),
    )


def _replay_figures(record: RunRecord) -> dict[str, Any] | None:
    stored = record.stored
    if stored is None:
        return None
    return dict(
        transitions=len(stored.rewards),
        pieces_of_episodes=len(stored.lengths),
        longest_piece=stored.lengths.max(initial=0),
        terminated=int(stored.terminated.sum()),
        whole=int(stored.whole.sum()),
        rewards={
            name: float(getattr(stored.rewards, name)())
            for name in ("min", "mean", "max", "std")
            if len(stored.rewards)
        },
        padding=stored.padding,
        delta_q=record.staleness,
    )


def _trial_figures(record: RunRecord) -> dict[str, Any] | None:
    trial = record.trial
    if trial is None:
        return None
    history = trial.history
    return dict(
        returns=trial.returns,
        lengths=trial.lengths,
        history=None if history is None else {point.k: [point.mean, point.error] for point in history.points},
        full_memory=None if history is None else [history.mean, history.error],
        needed=None if history is None else history.needed,
    )
