"""What stands in for a replay buffer where steps are made to be stored elsewhere."""

from typing import Any

import numpy as np
import torch as th

from sb3_attnmem.common.observations import Observation, map_observation, rows_of
from sb3_attnmem.replay.actions import join_actions, n_actions_of
from sb3_attnmem.replay.arriving import Standing, Steps
from sb3_attnmem.replay.buffer import SequenceReplayBuffer
from sb3_attnmem.replay.incoming import check_rewards

#: of an info, what is told to callbacks and the log
TOLD = ("episode", "is_success", "TimeLimit.truncated")


class Recorder(SequenceReplayBuffer):
    """
    Takes the place of a model's replay buffer, and hands on what it is given instead of keeping it. The memory's state
    is recorded at the steps for which the tapes keep it, and only there.

    :param like: the replay buffer whose place it takes, for its options
    :param n_envs: E, environments
    :param slots_of_block: (E,) the place in its block of the slot that each tape goes on with
    """

    def __init__(self, like: SequenceReplayBuffer, n_envs: int, slots_of_block: np.ndarray) -> None:
        super().__init__(
            n_envs,
            like.observation_space,
            like.action_space,
            device="cpu",
            n_envs=n_envs,
            handle_timeout_termination=like.handle_timeout_termination,
            sequence_length=like.sequence_length,
            burn_in=like.burn_in,
            n_steps=like.n_steps,
            state_interval=like.state_interval,
            frame_stack=like.frame_stack,
        )
        self._places = np.array(slots_of_block, dtype=np.int64)
        self._begins = np.ones(n_envs, dtype=bool)
        self._is_new = True
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[str, list[Any]] = {
            name: []
            for name in ("obs", "valid", "actions", "rewards", "terminated", "truncated", "state_index", "finals")
        }
        self._rows["final_valid"] = []
        self._states: list[tuple[np.ndarray, ...]] = []
        self._n_states = 0
        self._infos: list[tuple[int, int, dict[str, Any]]] = []

    @property
    def parts(self) -> list[SequenceReplayBuffer]:
        return []

    @property
    def is_empty(self) -> bool:
        return True

    def allocate(self, state_like: tuple[th.Tensor, ...] = ()) -> None:
        """
        Nothing: no room is needed.

        :param state_like: not looked at
        """

    def cut(self, which: np.ndarray | None = None) -> None:
        """
        :param which: not looked at
        :raises RuntimeError: once there are steps: only a new recorder begins a chain anew
        """
        if not self._is_new or self._rows["actions"]:
            raise RuntimeError("The environments were reset by somebody else than the model that steps them.")

    def add(
        self,
        obs: Observation,
        next_obs: Observation,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Record one transition of every environment. Observations are kept by reference: nobody may write into them.

        :param obs: (E, ...)
        :param next_obs: (E, ...), the true final observation where an episode ended
        :param action: as the buffer takes it
        :param reward: (E,)
        :param done: (E,) bool
        :param infos: one dict an environment
        :raises ValueError: when a reward is not finite in 32 bits, or a stack of frames cannot be rebuilt
        """
        state, self._staged_state = self._staged_state or (), None
        masks, self._staged_masks = self._staged_masks, None
        rewards = check_rewards(reward)
        if self.frame_stack is not None:
            if self._begins.any():
                self.frame_stack.check_beginnings(rows_of(obs, self._begins))
            obs, next_obs = self.frame_stack.newest(obs), self.frame_stack.newest(next_obs)
        done = np.asarray(done, dtype=bool)
        truncated = np.zeros_like(done)
        if self.handle_timeout_termination and done.any():
            truncated = done & np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        rows, step = self._rows, len(self._rows["actions"])
        rows["obs"].append(obs)
        rows["actions"].append(join_actions(self.action_space, action))
        rows["rewards"].append(rewards)
        rows["terminated"].append(done & ~truncated)
        rows["truncated"].append(truncated)
        if truncated.any():
            rows["finals"].append(rows_of(next_obs, truncated))
        if masks is not None:
            rows["valid"].append(masks[0])
            rows["final_valid"].append(masks[1][truncated])
        self._record_state(state)
        self._places = (self._places + 1 + truncated) % self.state_interval
        self._begins = done
        for i, info in enumerate(infos):
            told = {name: info[name] for name in TOLD if info.get(name) is not None and (done[i] or name == "episode")}
            if told:
                self._infos.append((step, i, told))

    def _record_state(self, state: tuple[np.ndarray, ...]) -> None:
        kept = (self._places == 0) & bool(state)
        index = np.full(self.n_envs, -1, dtype=np.int32)
        index[kept] = self._n_states + np.arange(kept.sum())
        self._rows["state_index"].append(index)
        if kept.any():
            self._n_states += int(kept.sum())
            self._states.append(tuple(tensor[kept] for tensor in state))

    def take(self, standing: Standing) -> Steps:
        """
        Hand on what was recorded since the last call.

        :param standing: where the environments stand now
        :return: the steps
        """
        rows = self._rows
        present = standing.observations
        present = present if self.frame_stack is None else self.frame_stack.newest(present)
        smallest = np.min_scalar_type(n_actions_of(self.action_space) - 1)
        with_masks = bool(rows["valid"])
        finals: Any = rows["finals"] or [rows_of(present, slice(0))]
        steps = Steps(
            first=map_observation(np.array, rows["obs"][0]) if self._is_new else None,
            observations=map_observation(lambda *arrays: np.stack(arrays), *rows["obs"][1:], present),
            finals=map_observation(lambda *arrays: np.concatenate(arrays), *finals),
            actions=np.stack(rows["actions"]).astype(smallest),
            rewards=np.stack(rows["rewards"]),
            terminated=np.stack(rows["terminated"]),
            truncated=np.stack(rows["truncated"]),
            state_index=np.stack(rows["state_index"]),
            states=tuple(np.concatenate(tensors) for tensors in zip(*self._states, strict=True)),
            first_valid=np.array(rows["valid"][0]) if with_masks and self._is_new else None,
            valid=np.stack([*rows["valid"][1:], np.asarray(standing.valid)]) if with_masks else None,
            final_valid=np.concatenate(rows["final_valid"]) if with_masks else None,
            infos=tuple(self._infos),
        )
        self._is_new = False
        self._forget()
        return steps
