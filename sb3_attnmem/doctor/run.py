"""``diagnose_run``: why an agent does not learn, from what its run left behind."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sb3_attnmem.doctor.cause import Cause, updates_made
from sb3_attnmem.doctor.causes import LOOKS
from sb3_attnmem.doctor.findings import NOTE, PROBLEM, WARNING, Finding, Report, ranked
from sb3_attnmem.doctor.memory_use import memory_causes
from sb3_attnmem.doctor.progress_of_run import Progress, measure_progress
from sb3_attnmem.doctor.records import RunRecord, read_run

#: score from which a cause is an illness
ILL = 0.5
#: of the score of a cause where the agent learns all the same
WHERE_HEALTHY = 0.45


def diagnose_run(
    folder: str | Path,
    settings: Mapping[str, Any] | None = None,
    algo: str | None = None,
    need: int | None = None,
) -> Report:
    """
    Look for what keeps an agent from learning, while it trains or after.

    :param folder: of a run: of the RL Zoo, or any that holds a model's file, ``progress.csv`` (or TensorBoard's
        events), ``evaluations.npz``, ``monitor.csv``, or some of them
    :param settings: of the run, where no model's file tells them
    :param algo: as the RL Zoo names it; found out by default
    :param need: observations that the task asks an agent to remember, as :func:`diagnose_env` found
    :return: ranked causes, the worst first; ``exit_code`` is 1 where one is an illness
    :raises ValueError: where the folder holds no figures of a training
    """
    record = read_run(folder, settings, algo)
    progress = measure_progress(record)
    causes = [cause for look in LOOKS for cause in look(record, progress)]
    causes += memory_causes(record, need)
    found = [_finding(cause, progress) for cause in causes]
    found.append(_summary(record, progress, found))
    report = Report(f"{record.folder}: {record.algo}, {record.total_steps:,} steps", [], _figures(record, progress))
    report.findings = ranked(found)
    report.findings.sort(key=lambda finding: finding.name != "progress")
    report.unseen = record.unseen
    return report


def _finding(cause: Cause, progress: Progress | None) -> Finding:
    learns = progress is not None and progress.healthy and not cause.certain
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
        f"Training episodes: {progress.first:.3g} at first, {progress.last:.3g} at last, {progress.best:.3g} at best, "
        f"over {progress.n_scores:,} scores"
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
    )
