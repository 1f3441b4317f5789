"""Steps of some environments that were made elsewhere, and how they come onto the tapes of these environments."""

from typing import Any, NamedTuple

import numpy as np

from sb3_attnmem.common.observations import Observation, arrays_of, map_observation, rows_of
from sb3_attnmem.replay.tapes import Tapes


class Steps(NamedTuple):
    """
    T steps of E environments, each observation once. Of episodes that a time limit ended, the final observations
    stand apart; those that terminated have none, since nothing bootstraps from them. Frame stacks are single frames.

    :param first: (E, ...), the observations before the first step, where the environments were reset; None: they go
        on from what came before
    :param observations: (T, E, ...), where each step led; the first of the next episode where one ended
    :param finals: (n, ...), the final observations of time limits, in the order in which ``truncated`` is True
    :param actions: (T, E)
    :param rewards: (T, E) float32
    :param terminated: (T, E) bool
    :param truncated: (T, E) bool
    :param state_index: (T, E), which of ``states`` the acting network had before the step; -1: it is not stored
    :param states: tensors (m, ...)
    :param first_valid: (E, A) bool, the valid actions at ``first``; None: all are, everywhere
    :param valid: (T, E, A) bool, those at ``observations``
    :param final_valid: (n, A) bool, those at ``finals``
    :param infos: (step, environment, what its info told) where it told something
    """

    first: Observation | None
    observations: Observation
    finals: Observation
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    state_index: np.ndarray
    states: tuple[np.ndarray, ...] = ()
    first_valid: np.ndarray | None = None
    valid: np.ndarray | None = None
    final_valid: np.ndarray | None = None
    infos: tuple[tuple[int, int, dict[str, Any]], ...] = ()

    @property
    def n_steps(self) -> int:
        """:return: T"""
        return len(self.actions)

    @property
    def dones(self) -> np.ndarray:
        """:return: (T, E) bool, whether an episode ended"""
        return self.terminated | self.truncated

    @property
    def nbytes(self) -> int:
        """:return: bytes of all arrays"""
        arrays: list[Any] = [*arrays_of(self.observations), *arrays_of(self.finals)]
        arrays += [] if self.first is None else arrays_of(self.first)
        arrays += [*self[3:8], *self.states, *self[9:12]]
        return sum(array.nbytes for array in arrays if array is not None)


class Standing(NamedTuple):
    """
    Where the environments of a tape stand.

    :param observations: (E, ...), the present ones, to act on next
    :param valid: (E, A) bool, the valid actions there; None: all are
    """

    observations: Observation
    valid: np.ndarray | None


def append_steps(tapes: Tapes, rows: np.ndarray, steps: Steps, standing: Standing) -> tuple[np.ndarray, Standing]:
    """
    Write steps onto the tapes of their environments.

    :param tapes: of these environments and others
    :param rows: (E,) their tapes
    :param steps: T steps
    :param standing: where the environments stood before them
    :return: (T, E) the slots of what was acted on, and where the environments stand now
    :raises ValueError: when the states that come are not those that the tapes keep; nothing is written then
    """
    _check_states(tapes, rows, steps)
    finals = np.cumsum(steps.truncated).reshape(steps.truncated.shape) - 1
    slots = np.zeros(steps.actions.shape, dtype=np.int64)
    for t in range(steps.n_steps):
        following, successors = rows_of(steps.observations, t), rows_of(steps.observations, t)
        valid = None if steps.valid is None else steps.valid[t]
        successors_valid = valid
        cut_off = steps.truncated[t]
        if cut_off.any():
            which = finals[t][cut_off]
            successors = map_observation(
                lambda there, final, cut_off=cut_off, which=which: _replaced(there, cut_off, final[which]),
                successors,
                steps.finals,
            )
            if valid is not None and steps.final_valid is not None:
                successors_valid = _replaced(valid, cut_off, steps.final_valid[which])
        masks = None if standing.valid is None else (standing.valid, successors_valid)
        slots[t] = tapes.heads[rows]
        index = np.maximum(steps.state_index[t], 0)
        states = tuple(array[index] for array in steps.states) if (steps.state_index[t] >= 0).any() else steps.states
        tapes.append(
            standing.observations,
            successors,
            steps.actions[t],
            steps.rewards[t],
            steps.terminated[t],
            cut_off,
            states,
            masks,  # type: ignore[arg-type]
            rows,
        )
        standing = Standing(following, valid)
    # Not views: they would keep all of the steps in memory
    valid = None if standing.valid is None else np.array(standing.valid)
    return slots, Standing(map_observation(np.array, standing.observations), valid)


def _check_states(tapes: Tapes, rows: np.ndarray, steps: Steps) -> None:
    """:raises ValueError: when states come for other steps than the tapes keep them for"""
    if not tapes.states:
        return
    before = np.cumsum(1 + steps.truncated, axis=0) - (1 + steps.truncated)  # slots taken before each step
    kept = (tapes.heads[rows] + before) % tapes.block == 0
    if not (kept == (steps.state_index >= 0)).all():
        raise ValueError(
            "The steps come with the memory's states at other places than those where the tapes keep them; cut the "
            "tapes, and tell the environments' recorder where they are (slots_of_block)."
        )


def _replaced(rows: np.ndarray, which: np.ndarray, values: np.ndarray) -> np.ndarray:
    """:return: a copy in which some rows are others"""
    copy = np.array(rows)
    copy[which] = values
    return copy
