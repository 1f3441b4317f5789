"""Chunks of experience, as they come: onto the tapes, and into what is normalised by."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from sb3_attnmem.common.observations import map_observation, rows_of
from sb3_attnmem.distributed.messages import Chunk
from sb3_attnmem.distributed.roster import Member
from sb3_attnmem.dqn_recurrent import RecurrentDQN
from sb3_attnmem.dqn_recurrent.collecting import statistics_for
from sb3_attnmem.replay import Standing, append_steps


class Arrivals:
    """
    Takes in what actors collected. Statistics are learned here, from raw observations and rewards, and sent to the
    actors with the weights: so all normalise alike.

    :param model: that learns
    :param n_actors: N
    :param n_envs: E, of each
    """

    def __init__(self, model: RecurrentDQN, n_actors: int, n_envs: int) -> None:
        self.model = model
        self.n_envs = n_envs
        self._statistics = [statistics_for(model, n_envs) for _ in range(n_actors)]
        self._normalize: VecNormalize | None = model.get_vec_normalize_env()
        self._returns = np.zeros((n_actors, n_envs))

    def take(self, chunk: Chunk, member: Member) -> None:
        """
        :param chunk: the next of its incarnation
        :param member: the actor that it comes from
        """
        buffer = self.model.replay_buffer
        assert buffer is not None and buffer.tapes is not None
        steps, standing = chunk.steps, member.standing
        if chunk.number == 0:
            # The environments were reset: what comes does not follow what is stored
            which = np.zeros(buffer.n_envs, dtype=bool)
            which[member.rows] = True
            buffer.cut(which)
            assert steps.first is not None
            standing = Standing(steps.first, steps.first_valid)
            self._statistics[chunk.actor] = statistics_for(self.model, self.n_envs)
            self._returns[chunk.actor] = 0.0
        assert standing is not None
        slots, member.standing = append_steps(buffer.tapes, member.rows, steps, standing)
        self._learn_statistics(chunk, slots, member.rows, standing.observations)

    def _learn_statistics(self, chunk: Chunk, slots: np.ndarray, rows: np.ndarray, first: Any) -> None:
        statistics, normalize = self._statistics[chunk.actor], self._normalize
        by_env = normalize if normalize is not None and normalize.training else None
        steps = chunk.steps
        acted_on: Any = None
        if (statistics is not None and statistics.with_observations) or (by_env is not None and by_env.norm_obs):
            acted_on = self._acted_on(chunk, slots, rows, first)
        if statistics is not None:
            for t in range(steps.n_steps):
                seen = rows_of(acted_on, t) if statistics.with_observations else ()
                statistics.add(seen, steps.rewards[t], steps.dones[t])
            statistics.hand_over(self.model.q_net.normalization)
        if by_env is not None:
            self._teach(by_env, chunk, acted_on)

    def _teach(self, normalize: VecNormalize, chunk: Chunk, acted_on: Any) -> None:
        """Let ``VecNormalize`` learn as if its environments had been stepped, but all steps of a chunk at once."""
        steps = chunk.steps
        if normalize.norm_obs:
            if isinstance(normalize.obs_rms, dict):
                for key, known in normalize.obs_rms.items():
                    known.update(acted_on[key].reshape(-1, *acted_on[key].shape[2:]))
            else:
                normalize.obs_rms.update(acted_on.reshape(-1, *acted_on.shape[2:]))
        running = self._returns[chunk.actor]
        returns = np.zeros(steps.rewards.shape)
        for t in range(steps.n_steps):
            returns[t] = running * normalize.gamma + steps.rewards[t]
            running = np.where(steps.dones[t], 0.0, returns[t])
        self._returns[chunk.actor] = running
        normalize.ret_rms.update(returns.reshape(-1))

    def _acted_on(self, chunk: Chunk, slots: np.ndarray, rows: np.ndarray, first: Any) -> Any:
        """:return: (T, E, ...), the observations that the actor acted on, stacked as it saw them"""
        buffer = self.model.replay_buffer
        assert buffer is not None and buffer.tapes is not None
        if buffer.frame_stack is None:
            return map_observation(
                lambda before, after: np.concatenate([np.asarray(before)[None], after[:-1]]),
                first,
                chunk.steps.observations,
            )
        stacks = buffer.frame_stack.rebuild(buffer.tapes, np.tile(rows, len(slots)), slots.reshape(-1))
        return map_observation(lambda array: array.reshape(*slots.shape, *array.shape[1:]), stacks)
