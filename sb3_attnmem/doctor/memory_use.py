"""Whether an agent has the memory that its task asks for."""

from collections.abc import Iterator

from sb3_attnmem.doctor.cause import Cause
from sb3_attnmem.doctor.records import RunRecord


def memory_causes(record: RunRecord, need: int | None) -> Iterator[Cause]:
    """
    :param record: of a run
    :param need: observations that the task asks an agent to remember; None: not known
    :return: what is wrong with the agent's memory
    """
    if need is None:
        return
    options = record.setting("policy_kwargs") or {}
    memory = options.get("memory_class", "lstm") if record.is_recurrent else "none"
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
        reach = (record.setting("sequence_length") or 0) + (record.setting("burn_in") or 0)
        if reach < need:
            yield Cause(
                "window_too_short",
                0.85,
                "Windows are shorter than what must be remembered.",
                f"sequence_length + burn_in = {reach}, and the last {need} observations matter.",
                f"sequence_length={max(64, 8 * -(-(need + 4) // 8))}.",
                certain=True,
            )
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
