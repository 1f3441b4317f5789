"""Whether an agent has the memory that its task asks for."""

import math
from collections.abc import Iterator

from sb3_attnmem.doctor.cause import Cause
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord

#: standard errors by which an agent must score more with less memory: several lengths are tried
ERRORS = 4.0


def memory_causes(record: RunRecord, progress: Progress | None, need: int | None) -> Iterator[Cause]:
    """
    :param record: of a run
    :param progress: how its score went
    :param need: observations that the task asks an agent to remember; None: not known
    :return: what is wrong with the agent's memory
    """
    yield from _used(record, progress, need)
    if need is not None:
        yield from _long_enough(record, need)


def _used(record: RunRecord, progress: Progress | None, need: int | None) -> Iterator[Cause]:
    """Whether the agent plays otherwise where its memory is cut."""
    history = None if record.trial is None else record.trial.history
    if history is None or record.trial is None:
        return
    n = len(record.trial.returns)
    told = ", ".join(f"{point.mean:.3g} with {point.k}" for point in history.points)
    told = f"{n} greedy episodes: {history.mean:.3g} with all of its memory, {told} observations only."
    if history.needed == 1 and need != 1:
        solved = progress is not None and progress.solved
        yield Cause(
            "memory_not_used",
            0.8 if need is not None and not solved else 0.4,
            "The agent plays as well without what it remembers: it does not use its memory.",
            told + (f" The task asks for {need}." if need is not None else ""),
            "Is what must be remembered in the observations (after all wrappers), and inside one window?"
            if need is not None
            else "Does the task ask for memory at all? sb3-attnmem doctor --env tells.",
            certain=need is not None and not solved,
        )
    better = [
        point
        for point in history.points
        if math.isfinite(point.loss_error) and -point.loss > max(history.allowed, ERRORS * point.loss_error)
    ]
    if better:
        best = min(better, key=lambda point: point.loss)
        yield Cause(
            "memory_misleads",
            0.6,
            "The agent plays better with less of its memory: what lies further back misleads it.",
            told,
            f"memory_class='window' with memory_kwargs=dict(window={best.k}), or stack {best.k} observations."
            if best.k > 1
            else "policy_kwargs=dict(memory_class='none'), or DQN.",
            certain=True,
        )


def _long_enough(record: RunRecord, need: int) -> Iterator[Cause]:
    """Whether memory and windows reach as far back as the task asks."""
    memory = record.memory
    stacked = int(record.settings.get("frame_stack") or 1)
    if need > stacked and memory == "none":
        yield Cause(
            "no_memory",
            0.8,
            "The task asks for memory, and the agent has none.",
            f"diagnose_env: the last {need} observations matter; the agent sees {stacked}.",
            f"VecFrameStack of {need}, or RecurrentDQN." if need <= 4 else "RecurrentDQN with memory_class='lstm'.",
            certain=True,
        )
    if memory != "none":
        parts = ("sequence_length", "burn_in") if record.is_recurrent else ("n_steps",)
        reach = sum(record.setting(part) or 0 for part in parts)
        if reach < need:
            yield Cause(
                "window_too_short",
                0.85,
                "Windows are shorter than what must be remembered.",
                f"{' + '.join(parts)} = {reach}, and the last {need} observations matter.",
                f"{parts[0]}={max(64, 8 * -(-(need + 4) // 8))}.",
                certain=True,
            )
    options = record.setting("policy_kwargs") or {}
    limit = (options.get("memory_kwargs") or {}).get("window")
    layers = (options.get("memory_kwargs") or {}).get("n_layers", 1)
    if memory == "window" and isinstance(limit, int) and limit * layers + 1 < need:
        yield Cause(
            "memory_too_short",
            0.85,
            "The memory reaches less far back than the task asks.",
            f"window={limit}, and the last {need} observations matter.",
            f"memory_kwargs=dict(window={need}).",
            certain=True,
        )
