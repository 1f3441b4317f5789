"""All causes that a run is examined for."""

from collections.abc import Callable, Iterator

from sb3_attnmem.doctor import (
    causes_of_data,
    causes_of_evaluation,
    causes_of_replay,
    causes_of_time,
    causes_of_updates,
    causes_of_values,
)
from sb3_attnmem.doctor.cause import Cause
from sb3_attnmem.doctor.progress_of_run import Progress
from sb3_attnmem.doctor.records import RunRecord

#: each takes a run, and how its score went, and gives what it finds
LOOKS: tuple[Callable[[RunRecord, Progress | None], Iterator[Cause]], ...] = (
    causes_of_updates.no_updates,
    causes_of_updates.few_updates,
    causes_of_updates.target_network,
    causes_of_updates.learning_rate,
    causes_of_updates.clipping,
    causes_of_updates.policy_gradient,
    causes_of_values.value_scale,
    causes_of_values.q_beyond_bound,
    causes_of_values.discount,
    causes_of_values.spaces_of,
    causes_of_evaluation.evaluation,
    causes_of_data.exploration,
    causes_of_data.buffer,
    causes_of_data.window,
    causes_of_data.nothing_found,
    causes_of_data.endless,
    causes_of_replay.rewards_rare,
    causes_of_replay.limit_as_end,
    causes_of_replay.windows_empty,
    causes_of_replay.stale_states,
    causes_of_time.too_many_updates,
    causes_of_time.evaluates_too_often,
    causes_of_time.one_at_a_time,
)
